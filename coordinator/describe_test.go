package coordinator

import (
	"fmt"
	"strconv"
	"strings"

	"mfac/internal/script"
	"mfac/shard"
	"mfac/wire"
)

// This file: how scripts write messages and numbers.

// describe is a message in one line.
func describe(m wire.Message) string {
	head := func() string { return fmt.Sprintf("%s shard=%d", m.Type(), m.(wire.Control).Head().Shard) }
	switch m := m.(type) {
	case *wire.Adopt:
		return head() + fmt.Sprintf(" epoch=%v uid=%d placed=%d cols=%d:%d slots=%d", m.Epoch, m.UID, m.Placed, m.Lo, m.Lo+m.Cols, m.Slots)
	case *wire.Install:
		return head() + fmt.Sprintf(" version=%d rows=%s keep=%s", m.Version, list(wire.Rows(m.Payload), describeRow), list(m.Keep, describeStaged))
	case *wire.Gram:
		slots, _ := wire.SlotList(m.Payload)
		return head() + fmt.Sprintf(" slots=%s block=%d:%d", list(slots, func(s wire.Slot) string { return fmt.Sprint(s) }), m.I0, m.I1)
	case *wire.Stage:
		s := head() + fmt.Sprintf(" step=%d attempt=%s slot=%d token=%d", m.Step, id(m.Attempt), m.Slot, m.Token) + describeWeight(m.Weight)
		if m.Label != "" {
			s += " label=" + m.Label
		}
		return s
	case *wire.Reshape:
		return head() + fmt.Sprintf(" version=%d slots=%d rows=%s", m.Version, m.Slots, list(wire.Rows(m.Payload), describeRow))
	case *wire.SlotLabels:
		slots, _ := wire.SlotList(m.Payload)
		return head() + fmt.Sprintf(" slots=%v", slots)
	case *wire.Labels:
		steps, _ := wire.LabelList(m.Payload, m.N)
		return fmt.Sprintf("labels version=%d from=%d %s of %d", m.Version, m.From, list(steps, describeLabelled), m.Rows)
	case *wire.Multiply:
		slots, _ := wire.SlotList(m.Payload)
		return head() + fmt.Sprintf(" step=%d attempt=%s with=%v", m.Step, id(m.Attempt), slots)
	case *wire.Evict:
		return head() + fmt.Sprintf(" version=%d rows=%s", m.Version, list(wire.Rows(m.Payload), describeRow))
	case *wire.Commit:
		s := head() + fmt.Sprintf(" version=%d step=%d attempt=%s slot=%d", m.Version, m.Step, id(m.Attempt), m.Slot)
		if m.Evict {
			s += fmt.Sprintf(" evict=%d:%d", m.EvictSlot, m.EvictStep)
		}
		if m.Query != 0 {
			s += fmt.Sprintf(" query=%s %s coef=%s", id(m.Query), m.Result, floats(m.Payload))
		}
		return s
	case *wire.Drop:
		return head() + fmt.Sprintf(" step=%d attempt=%s", m.Step, id(m.Attempt))
	case *wire.Prepare:
		s := head() + fmt.Sprintf(" query=%s vectors=%d mask=%v", id(m.Query), m.Vectors, slotList(m.Mask))
		if m.Kind != "" {
			s += " " + m.Kind
		}
		if m.Kind == wire.KindSample {
			s += fmt.Sprintf(" seed=%d first=%d", m.Seed, m.First)
		}
		return s
	case *wire.Apply:
		return head() + fmt.Sprintf(" query=%s damping=%g", id(m.Query), m.Damping)
	case *wire.Residual:
		return head() + fmt.Sprintf(" query=%s vectors=%d damping=%g w=%s", id(m.Query), m.Vectors, m.Damping, floats(m.Payload))
	case *wire.Refine:
		return head() + fmt.Sprintf(" query=%s vectors=%d round=%d which=%b e=%s", id(m.Query), m.Vectors, m.Round, m.Which&(1<<m.Vectors-1), floats(m.Payload))
	case *wire.Coef:
		return head() + fmt.Sprintf(" query=%s %s vectors=%d damping=%g %s mask=%v coef=%s", id(m.Query), m.Kind, m.Vectors, m.Damping, m.Result, slotList(m.Mask), floats(m.Payload))
	case *wire.Factor:
		slots, _ := m.Slots()
		return head() + fmt.Sprintf(" query=%s rows=%v lo=%d damping=%g %s l=%s", id(m.Query), slots, m.Lo, m.Damping, m.Result, floats(m.Payload[4*m.Rows:]))
	case *wire.Columns:
		s := head() + fmt.Sprintf(" query=%s mask=%v at=%v", id(m.Query), slotList(m.Mask), wire.Indices(m.Payload))
		if m.Of != 0 {
			s += " of=" + id(m.Of)
		}
		return s
	case *wire.Hold:
		slots, _ := wire.SlotList(m.Payload)
		return head() + fmt.Sprintf(" query=%s rows=%v damping=%g", id(m.Query), slots, m.Damping)
	case *wire.Whiten:
		return head() + fmt.Sprintf(" query=%s cols=%d:%d", id(m.Query), m.Lo, m.Lo+m.N)
	case *wire.Recall:
		return head() + fmt.Sprintf(" query=%s of=%s damping=%g %s", id(m.Query), id(m.Of), m.Damping, m.Result)
	case *wire.Prune:
		s := head() + fmt.Sprintf(" query=%s %s", id(m.Query), m.Do)
		switch m.Do {
		case wire.PruneBegin:
			s += " " + m.Kind
		case wire.PruneGram:
			s += fmt.Sprintf(" %v rows %d:%d", m.Slots(), m.I0, m.I1)
		case wire.PruneScore:
			if m.I1 > 0 {
				s += fmt.Sprintf(" part %d of %d", m.I0, m.I1)
			}
		case wire.PruneGroup:
			s += fmt.Sprintf(" %d:%d of %v", m.Keep, m.Of, wire.StripList(m.Payload))
		case wire.PruneCount:
			s += fmt.Sprintf(" %d bits of %#x", m.Known, m.Key)
		case wire.PruneChoose:
			s += fmt.Sprintf(" %s key=%#x ties=%d", m.Rule, m.Key, m.Ties)
			if m.Of > 0 {
				s += fmt.Sprintf(" %d:%d at=%v", m.Keep, m.Of, wire.Indices(m.Payload))
			}
		case wire.PruneDots:
			s += fmt.Sprintf(" mask=%v", slotList(m.Mask))
		case wire.PruneResult:
			s += fmt.Sprintf(" %s mask=%v coef=%s", m.Result, slotList(m.Mask), floats(m.Payload))
		}
		return s
	case *wire.Blocks:
		s := head() + fmt.Sprintf(" query=%s %s %s", id(m.Query), m.Do, m.What)
		switch m.Do {
		case wire.BlocksBegin:
			slots, weights, part := m.Begun()
			s += fmt.Sprintf(" vectors=%d damping=%g N=%d rows=%v blocks of %d from %v to %d", m.Vectors, m.Damping, m.N, slots, part.Size, part.Starts, part.End)
			if weights != nil {
				s += fmt.Sprintf(" weights=%v", weights)
			}
		case wire.BlocksWork:
			if len(m.Payload) > 0 {
				s += " coef=" + floats(m.Payload)
			}
		case wire.BlocksGram:
			s += fmt.Sprintf(" cols=%d:%d rows %d:%d", m.Lo, m.Hi, m.I0, m.I1)
		case wire.BlocksDots:
			s += fmt.Sprintf(" cols=%d:%d", m.Lo, m.Hi)
		case wire.BlocksFactor:
			s += fmt.Sprintf("lo=%d l=%s", m.Lo, floats(m.Payload))
		case wire.BlocksFinish:
			s += fmt.Sprintf(" cols=%d:%d coef=%s", m.Lo, m.Hi, floats(m.Payload))
		case wire.BlocksElements:
			s += fmt.Sprintf("cols=%d:%d at=%v", m.Lo, m.Hi, wire.Indices(m.Payload))
		case wire.BlocksInner:
			s += fmt.Sprintf("cols=%d:%d", m.Lo, m.Hi)
		case wire.BlocksResult:
			s += string(m.Result)
		}
		return s
	case *wire.Norms:
		return head() + " query=" + id(m.Query)
	case *wire.DotVectors:
		return head() + fmt.Sprintf(" query=%s of=%v", id(m.Query), wire.PairList(m.Payload))
	case *wire.CloseQuery:
		return head() + " query=" + id(m.Query)
	case *wire.Release:
		return head() + fmt.Sprintf(" uid=%d placed=%d", m.UID, m.Placed)
	case *wire.OK:
		return "ok"
	case *wire.Error:
		s := fmt.Sprintf("%s: %v", m.Code, m)
		if !m.Epoch.IsZero() {
			s += fmt.Sprintf(" [epoch %v]", m.Epoch)
		}
		return s
	case *wire.OpenReply:
		return fmt.Sprintf("opened epoch=%v attempt=%s whole=%v", m.Epoch, id(m.Attempt), m.Whole)
	case *wire.WaitReply:
		s := m.State
		if m.State == wire.StateCommitted {
			s += fmt.Sprintf(" version=%d rows=%d", m.Version, m.Rows)
		}
		if m.Query != 0 {
			s += fmt.Sprintf(" query=%s bounds=%s", id(m.Query), bounds(m.Bounds))
		}
		if m.Refused != nil {
			s += " refused: " + describe(m.Refused)
		}
		return s
	case *wire.QueryReply:
		return fmt.Sprintf("query=%s epoch=%v version=%d rows=%d", id(m.Query), m.Epoch, m.Version, m.Rows)
	case *wire.ResultReply:
		s := fmt.Sprintf("%s version=%d rows=%d bounds=%s", m.State, m.Version, m.Rows, bounds(m.Bounds))
		if m.Values > 0 {
			s += fmt.Sprintf(" values=%d", m.Values)
		}
		if len(m.Residuals) > 0 {
			s += " residuals=" + bounds(m.Residuals)
		}
		if m.Total > 0 {
			s += fmt.Sprintf(" done=%d/%d", m.Done, m.Total)
		}
		if m.Phase != "" {
			s += " phase=" + m.Phase
		}
		return s
	case *wire.ValuesReply:
		return fmt.Sprintf("values %d:%d %s", m.Lo, m.Lo+m.N, floats(m.Payload))
	case *wire.Steps:
		return fmt.Sprintf("steps version=%d %v", m.Version, wire.Uint64s[uint64](m.Payload))
	case *wire.Info:
		return fmt.Sprintf("info epoch=%v state=%q version=%d rows=%d newest=%d lost=%d open=%d queries=%d cond=%.3g lo=%v workers=%v owner=%v",
			m.Epoch, m.State, m.Version, m.Rows, m.Newest, m.Lost, m.Open, m.Queries, m.Cond, m.Lo, m.Workers, m.Owner) + frozenOf(m)
	case *wire.Frozen:
		s := fmt.Sprintf("frozen %s version=%d rows=%d done=%d/%d workers=%v kept=%v making=%v free=%v", m.State, m.Version, m.Rows, m.Done, m.Columns, m.Workers, m.Kept, m.Making, m.Free)
		if m.Why != "" {
			s += ": " + m.Why
		}
		return s
	}
	return fmt.Sprintf("%#v", m)
}

func describeRow(r wire.Row) string {
	return fmt.Sprintf("%d:%d:%s", r.Slot, r.Step, id(r.Attempt)) + describeWeight(r.Weight)
}

func describeWeight(w float64) string {
	if w == 0 {
		return ""
	}
	return fmt.Sprintf("×%g", w)
}

func frozenOf(m *wire.Info) string {
	if m.Frozen == "" {
		return ""
	}
	return fmt.Sprintf(" frozen=%s kept=%d", m.Frozen, m.Kept)
}

func describeStaged(s wire.Staged) string {
	text := fmt.Sprintf("%d:%d:%s", s.Slot, s.Step, id(s.Attempt))
	if s.Token != 0 {
		text += fmt.Sprintf("/%d", s.Token)
	}
	if s.Whole {
		text += "(whole)"
	}
	return text + describeWeight(s.Weight)
}

func list[T any](x []T, f func(T) string) string {
	out := make([]string, len(x))
	for i, v := range x {
		out[i] = f(v)
	}
	if n := len(out); n > 12 {
		out = []string{out[0], fmt.Sprintf("… %d …", n-2), out[n-1]}
	}
	return "[" + strings.Join(out, " ") + "]"
}

// floats shows numbers short enough to be the same wherever rounding differs in the last bits.
func floats(p []byte) string {
	return list(wire.Floats(p), func(v float64) string { return strconv.FormatFloat(v, 'g', 5, 64) })
}

// bounds shows the order of magnitude alone.
func bounds(x []float64) string {
	return list(x, func(v float64) string {
		if v == 0 {
			return "0"
		}
		_, exp, _ := strings.Cut(strconv.FormatFloat(v, 'e', 0, 64), "e")
		return "1e" + exp
	})
}

// id shows a number that begins anew with each epoch.
func id[T ~uint64](v T) string {
	if v>>32 == 0 {
		return strconv.FormatUint(uint64(v), 10)
	}
	return fmt.Sprintf("%d.%d", uint64(v>>32), uint64(v&(1<<32-1)))
}

func parseID(c *script.Cmd, s string) uint64 {
	rev, n, ok := strings.Cut(s, ".")
	v, err := strconv.ParseUint(rev, 10, 64)
	if ok && err == nil {
		var low uint64
		low, err = strconv.ParseUint(n, 10, 32)
		v = v<<32 | low
	}
	if err != nil {
		c.Fail("%w", err)
	}
	return v
}

func parseEpoch(c *script.Cmd, s string) wire.Epoch {
	if inc, rev, ok := strings.Cut(s, "-"); ok {
		return wire.Epoch{Incarnation: parseID(c, inc), Revision: parseID(c, rev)}
	}
	return wire.Epoch{Incarnation: 1, Revision: parseID(c, s)}
}

func parseRows(c *script.Cmd, key string) []wire.Row {
	var rows []wire.Row
	for _, s := range c.List(key) {
		rows = append(rows, parseRow(c, s))
	}
	return rows
}

func parseRow(c *script.Cmd, s string) wire.Row {
	s, weight, weighted := strings.Cut(s, "×")
	f := strings.Split(s, ":")
	if len(f) != 3 {
		c.Fail("%s is not slot:step:attempt", s)
		return wire.Row{}
	}
	r := wire.Row{Slot: wire.Slot(parseID(c, f[0])), Step: wire.Step(parseID(c, f[1])), Attempt: wire.Attempt(parseID(c, f[2]))}
	if weighted {
		var err error
		if r.Weight, err = strconv.ParseFloat(weight, 64); err != nil {
			c.Fail("%w", err)
		}
	}
	return r
}

func slotList(m shard.Mask) []int {
	out := []int{}
	for t := range 8 * len(m) {
		if m.Has(t) {
			out = append(out, t)
		}
	}
	return out
}

func describeLabelled(l wire.Labelled) string {
	if len(l.Label) > 20 {
		return fmt.Sprintf("%d:%s…", l.Step, l.Label[:20])
	}
	return fmt.Sprintf("%d:%s", l.Step, l.Label)
}
