package worker

import (
	"fmt"
	"strconv"
	"strings"

	"mfac/internal/dtype"
	"mfac/internal/script"
	"mfac/shard"
	"mfac/wire"
)

// This file: how scripts write messages and numbers.

// describe is a message in one line.
func (p *player) describe(m wire.Message) string {
	tag := func(seq uint64) string {
		if p.shown[seq] && seq != 0 {
			return fmt.Sprintf(" seq=%d", seq)
		}
		return ""
	}
	switch m := m.(type) {
	case *wire.OK:
		return "ok" + tag(m.Seq)
	case *wire.Error:
		s := fmt.Sprintf("%s: %v", m.Code, m)
		if !m.Epoch.IsZero() {
			s += fmt.Sprintf(" [epoch %v]", m.Epoch)
		}
		return s + tag(m.Seq)
	case *wire.Ack:
		s := fmt.Sprintf("ack staged=%d/%d", m.Staged, m.Columns)
		if m.Credit != 0 {
			s += fmt.Sprintf(" credit=%d for %d ms", m.Credit, m.CreditMS)
		}
		return s
	case *wire.Part:
		s := fmt.Sprintf("part cols=%d:%d %s", m.Lo, m.Lo+m.N, floats(m.DType, m.Payload))
		if m.Credit != 0 {
			s += fmt.Sprintf(" credit=%d for %d ms", m.Credit, m.CreditMS)
		}
		return s
	case *wire.Adopted:
		s := fmt.Sprintf("adopted shard=%d epoch=%v version=%d rows=%s staged=%s", m.Shard.Shard, m.Epoch, m.Version, list(wire.Rows(m.Payload), describeRow), list(m.Staged, describeStaged))
		if m.Labels > 0 {
			s += fmt.Sprintf(" labels=%d", m.Labels)
		}
		return s + tag(m.Seq)
	case *wire.SlotLabelsReply:
		of, _ := wire.LabelList(m.Payload, m.N)
		return fmt.Sprintf("labels shard=%d %s", m.Shard.Shard, list(of, func(l wire.Labelled) string { return fmt.Sprintf("%d:%.20s", l.Step, l.Label) })) + tag(m.Seq)
	case *wire.Products:
		return fmt.Sprintf("products shard=%d step=%d attempt=%d %s", m.Shard.Shard, m.Step, m.Attempt, list(wire.ProductList(m.Payload), func(p wire.Product) string {
			return fmt.Sprintf("%d@%d=%.6g", p.Slot, p.Attempt, p.Value)
		})) + tag(m.Seq)
	case *wire.Numbers:
		return fmt.Sprintf("numbers shard=%d %s", m.Shard.Shard, floats(wire.F64, m.Payload)) + tag(m.Seq)
	}
	return fmt.Sprintf("%#v", m)
}

func describeJob(j Job) string {
	what := ""
	switch op := j.Op.(type) {
	case Alloc:
		what = fmt.Sprintf("alloc %d slots × %d columns", op.Config.Slots, op.Config.Cols)
		if op.Config.DType != shard.F32 {
			what += " of " + op.Config.DType.String()
		}
	case Free:
		what = "free"
	case Reshape:
		what = fmt.Sprintf("reshape to %d slots, %v to %v", op.Config.Slots, op.From, op.To)
	case Write:
		what = fmt.Sprintf("write slot %d from %d, %d bytes", op.Slot, op.Lo, len(op.Payload))
		if op.DType != wire.F32 {
			what += " of " + string(op.DType)
		}
	case Erase:
		what = fmt.Sprintf("erase slot %d", op.Slot)
	case Begin:
		what = fmt.Sprintf("begin slot %d", op.Slot)
	case Accumulate:
		what = fmt.Sprintf("accumulate slot %d with %v, %s", op.Slot, slotsOf(op.Mask), list(op.Cols, describeColumns))
	case Multiply:
		what = fmt.Sprintf("multiply slot %d with %v", op.Slot, slotsOf(op.Mask))
		if op.Begun {
			what += ", the rest: " + list(op.Cols, describeColumns)
		}
	case Abandon:
		what = fmt.Sprintf("abandon slot %d", op.Slot)
	case Gram:
		what = fmt.Sprintf("gram %v rows %d:%d", op.Slots, op.I0, op.I1)
	case NewVectors:
		what = fmt.Sprintf("new vectors of query %d: %d of %s", op.Query, op.Vectors, op.DType)
		if op.Kind == wire.KindSample {
			what = fmt.Sprintf("normal numbers of query %d: %d of seed %d, from number %d, column %d", op.Query, op.Vectors, op.Seed, op.First, op.Lo)
		}
	case FreeVectors:
		what = fmt.Sprintf("free vectors of query %d", op.Query)
	case WriteVector:
		what = fmt.Sprintf("write vector %d of query %d from %d, %d bytes", op.Index, op.Query, op.Lo, len(op.Payload))
	case AccumulateDots:
		what = fmt.Sprintf("accumulate dots of query %d with %v, %s", op.Query, slotsOf(op.Mask), list(op.Cols, describeColumns))
	case Dots:
		what = fmt.Sprintf("dots of query %d with %v", op.Query, slotsOf(op.Mask))
		if op.Begun {
			what += ", the rest: " + list(op.Cols, describeColumns)
		}
	case NewFactor:
		what = fmt.Sprintf("new factor of query %d: slots %v", op.Query, op.Slots)
	case WriteFactor:
		what = fmt.Sprintf("write factor of query %d from %d: %v", op.Query, op.Lo, op.Numbers)
	case ReadColumns:
		what = fmt.Sprintf("read columns %v of %v", op.Cols, slotsOf(op.Mask))
		if op.Of != 0 {
			what = fmt.Sprintf("read columns %v of W of query %d", op.Cols, op.Of)
		}
	case NewWhite:
		what = fmt.Sprintf("new W of query %d: slots %v", op.Query, op.Slots)
	case Whiten:
		what = fmt.Sprintf("whiten columns [%d, %d) of query %d", op.Lo, op.Hi, op.Query)
	case FreeFactor:
		what = fmt.Sprintf("free factor of query %d", op.Query)
	case Prune:
		what = fmt.Sprintf("prune %s of query %d", op.Do, op.Query)
		if op.Do == wire.PruneScore {
			what += fmt.Sprintf(", %d columns from %d", op.N, op.Lo)
		}
	case Blocks:
		what = fmt.Sprintf("blocks %s %s of query %d", op.Do, op.What, op.Query)
		switch op.Do {
		case wire.BlocksWork:
			what += fmt.Sprintf(": %v", op.Blocks)
		case wire.BlocksGram, wire.BlocksDots, wire.BlocksFinish, wire.BlocksElements, wire.BlocksInner:
			what += fmt.Sprintf(", columns %d to %d", op.Part.Lo, op.Part.Hi)
		}
	case Residuals:
		what = fmt.Sprintf("residuals of query %d", op.Query)
	case Apply:
		what = fmt.Sprintf("apply G to the answers of query %d", op.Query)
	case Misfit:
		what = fmt.Sprintf("residuals of the answers of query %d", op.Query)
	case DotPairs:
		what = fmt.Sprintf("dots of %v of query %d", op.Pairs, op.Query)
	case Compute:
		what = fmt.Sprintf("compute %s %d of query %d from %d, %d columns", op.Kind, op.Index, op.Query, op.Lo, op.N)
	}
	return fmt.Sprintf("%s/%d %s", j.Shard.Run, j.Shard.Index, what)
}

func describeColumns(c Columns) string { return fmt.Sprintf("%d:%d", c.Lo, c.Lo+c.N) }

func describeRow(r wire.Row) string {
	return fmt.Sprintf("%d:%d:%d", r.Slot, r.Step, r.Attempt) + describeWeight(r.Weight)
}

func describeWeight(w float64) string {
	if w == 0 {
		return ""
	}
	return fmt.Sprintf("×%g", w)
}

func describeStaged(s wire.Staged) string {
	text := fmt.Sprintf("%d:%d:%d", s.Slot, s.Step, s.Attempt)
	if s.Token != 0 {
		text += fmt.Sprintf("(token %d)", s.Token)
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
	return "[" + strings.Join(out, " ") + "]"
}

func slotsOf(m shard.Mask) []int {
	out := []int{}
	for t := range 8 * len(m) {
		if m.Has(t) {
			out = append(out, t)
		}
	}
	return out
}

func encode(t wire.DType, x []float64) []byte {
	p, _ := shard.Append(nil, x, dtype.Of(t))
	return p
}

// floats shows numbers, as many as lie side by side and are alike once.
func floats(t wire.DType, p []byte) string {
	x := decode(t, p)
	var out []string
	for i := 0; i < len(x); {
		n := 1
		for i+n < len(x) && x[i+n] == x[i] {
			n++
		}
		text := strconv.FormatFloat(x[i], 'g', 6, 64)
		if n > 1 {
			text += "×" + strconv.Itoa(n)
		}
		out = append(out, text)
		i += n
	}
	return "[" + strings.Join(out, " ") + "]"
}

func parseUint(c *script.Cmd, s string) uint64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		c.Fail("%w", err)
	}
	return v
}

func parseEpoch(c *script.Cmd, s string) wire.Epoch {
	e := wire.Epoch{Incarnation: 1}
	if inc, rev, ok := strings.Cut(s, "-"); ok {
		return wire.Epoch{Incarnation: parseUint(c, inc), Revision: parseUint(c, rev)}
	}
	e.Revision = parseUint(c, s)
	return e
}

func parseRows(c *script.Cmd, key string) []wire.Row {
	var rows []wire.Row
	for _, s := range c.List(key) {
		var r wire.Row
		s, weight, weighted := strings.Cut(s, "×")
		if _, err := fmt.Sscanf(s, "%d:%d:%d", &r.Slot, &r.Step, &r.Attempt); err != nil {
			c.Fail("%s: %w", key, err)
		}
		if weighted {
			if _, err := fmt.Sscan(weight, &r.Weight); err != nil {
				c.Fail("%s: %w", key, err)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func parseSlots(c *script.Cmd, key string) []wire.Slot {
	var slots []wire.Slot
	for _, v := range c.Floats(key) {
		slots = append(slots, wire.Slot(v))
	}
	return slots
}

func parseIndices(c *script.Cmd, key string) []int64 {
	var x []int64
	for _, v := range c.Floats(key) {
		x = append(x, int64(v))
	}
	return x
}

func parseMask(c *script.Cmd, slots int) shard.Mask {
	m := shard.NewMask(slots)
	for _, s := range parseSlots(c, "mask") {
		m.Set(int(s))
	}
	return m
}
