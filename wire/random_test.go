package wire

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every registered type, filled with random values that are valid, is decoded to what was encoded.
// A new type is covered as soon as it is registered.
func TestEveryTypeRoundTrips(t *testing.T) {
	for _, typ := range sortedTypes() {
		t.Run(typ, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := types[typ].empty()
				fill(t, reflect.ValueOf(m).Elem(), "")
				repair(t, m)
				if err := m.Validate(); err != nil {
					t.Fatalf("%+v: %v", m, err)
				}
				f, err := Encode(m)
				if err != nil {
					t.Fatal(err)
				}
				got, err := Decode(f, typ)
				if err != nil || !reflect.DeepEqual(got, m) {
					t.Fatalf("%+v became %+v (%v)", m, got, err)
				}
			})
		})
	}
}

func sortedTypes() []string {
	var list []string
	for typ := range types {
		list = append(list, typ)
	}
	slices.Sort(list)
	return list
}

// ranges of the integers that have one, by their msgpack names.
var ranges = map[string][2]int64{
	"dim": {600, MaxDim}, "window": {1, MaxWindow}, "spare": {1, MaxSpare}, "shards": {1, 20}, "rows": {0, MaxWindow}, "vectors": {1, MaxVectors},
	"steps": {1, 40}, "min_rows": {0, MaxWindow}, "deadline_ms": {0, MaxDeadlineMS}, "credit_ms": {0, MaxDeadlineMS}, "shard": {0, MaxShards - 1},
	"whole": {0, MaxShards - 1}, "index": {0, MaxVectors - 1}, "lo": {0, MaxDim / 2}, "n": {1, 1000}, "cols": {1, MaxDim / 2}, "slots": {2, maxSlots},
	"slot": {0, maxSlots - 1}, "evict_slot": {0, maxSlots - 1}, "columns": {1, MaxDim}, "staged": {0, MaxDim}, "values": {0, MaxValues}, "from": {0, MaxWindow}, "labels": {0, maxSlots},
}

// words are what the strings that are not free can be.
var words = map[string][]string{
	"durability": {DurabilityMemory}, "layout": {"", rep("0a", 32)}, "scales": {"", "0:2,5:0.5"}, "blocks": {"", "7", "64 across"}, "code": {string(CodeBusy), "one_of_later"},
	"store": {"f32", "bf16", "f16"}, "dtype": {"f32", "f64", "bf16", "f16"}, "result": {"f32", "f64", "bf16", "f16"}, "divisor": {string(Capacity), string(Count)},
}

func fill(t *rapid.T, v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("msgpack"), ",")
			if key != "-" {
				fill(t, v.Field(i), key)
			}
		}
		if e, ok := v.Addr().Interface().(*Epoch); ok && e.IsZero() {
			e.Revision = 1
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, name) {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), name)
		}
	case reflect.Slice:
		for range rapid.IntRange(0, 5).Draw(t, "length of "+name) {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(t, e, name)
			v.Set(reflect.Append(v, e))
		}
	case reflect.String:
		g := rapid.String()
		if w, ok := words[name]; ok {
			g = rapid.SampledFrom(w)
		} else if name == "label" {
			g = rapid.StringMatching(`[ -~äα]{0,100}`)
		} else if slices.Contains([]string{"run", "runs", "name", "worker", "workers", "id", "coord", "after"}, name) {
			g = rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,62}`)
		}
		v.SetString(g.Draw(t, name))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Float64:
		if name == "weight" {
			v.SetFloat(rapid.Float64Range(MinWeight, MaxWeight).Draw(t, name))
			break
		}
		v.SetFloat(rapid.Float64Range(math.SmallestNonzeroFloat64, math.MaxFloat64).Draw(t, name))
	case reflect.Int, reflect.Int32, reflect.Int64:
		r, ok := ranges[name]
		if !ok {
			r = [2]int64{0, math.MaxInt32}
		}
		v.SetInt(rapid.Int64Range(r[0], r[1]).Draw(t, name))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, name)))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, name)))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, name))
	default:
		panic(fmt.Sprintf("no random %v", v.Type()))
	}
}

// repair makes the fields agree with each other, and adds payloads.
func repair(t *rapid.T, m Message) {
	floats := func(n int) []byte {
		return AppendFloats(nil, rapid.SliceOfN(rapid.Float64(), n, n).Draw(t, "floats"))
	}
	slots := func() (list []Slot) {
		list = rapid.SliceOfNDistinct(rapid.Map(rapid.Int32Range(0, maxSlots-1), func(s int32) Slot { return Slot(s) }), 1, 20, rapid.ID).Draw(t, "slots")
		return list
	}
	var rows []Row
	for _, s := range slots() {
		rows = append(rows, Row{s, Step(rapid.Uint64().Draw(t, "step")), 1, rapid.SampledFrom([]float64{0, 0.25, 3}).Draw(t, "weight")})
	}
	chunk := func(n int64, d DType) []byte {
		return rapid.SliceOfN(rapid.Byte(), int(n)*d.Size(), int(n)*d.Size()).Draw(t, "chunk")
	}
	switch m := m.(type) {
	case *Create:
		m.Spec.Damping = min(m.Spec.Damping, math.MaxFloat64/2/float64(m.Spec.Window))
		if m.Payload = nil; m.Spec.Layout != "" {
			m.Payload = rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "layout")
			m.Spec.Layout = LayoutHash(m.Payload)
		}
	case *Info:
		m.Spec.Damping = min(m.Spec.Damping, math.MaxFloat64/2/float64(m.Spec.Window))
		m.State = rapid.SampledFrom([]string{StateReady, "adopting", ""}).Draw(t, "state")
		m.Workers = []string{"w1", "w2"}
		m.Frozen = rapid.SampledFrom([]string{"", StateMaking, StateFrozen}).Draw(t, "frozen")
		m.Lo, m.Owner = Borders(m.Spec.Dim, m.Spec.Shards, nil), nil
		for s := range m.Spec.Shards {
			m.Owner = append(m.Owner, s%2)
		}
	case *Layout:
		m.Payload = []byte("[]")
	case *WaitReply:
		m.State = rapid.SampledFrom([]string{StatePending, StateCommitted}).Draw(t, "state")
	case *ResultReply:
		m.State = rapid.SampledFrom([]string{StatePending, StateReady}).Draw(t, "state")
		m.Phase = "scores"
		m.Done &= m.Total
	case *Query:
		m.Sparsity, m.Rule = rapid.Float64Range(0, 0.999).Draw(t, "sparsity"), rapid.SampledFrom([]string{"", RuleSummed, RuleJoint}).Draw(t, "rule")
		m.Keep, m.Of = 0, 0
		m.Kind = rapid.SampledFrom([]string{
			KindVector, KindCombine, KindRow, KindFisher, KindHessian, KindSample, KindDiag, KindColumn, KindSubblock, KindPrune, KindCompensate,
			KindScalars, KindSpectrum, KindScores, KindPairs, KindInfluence, KindSelf,
			KindInvSqrt, KindLikelihood, KindLeaveOut,
		}).Draw(t, "kind")
		if m.Kind != KindSample {
			m.Seed, m.First = 0, 0
		}
		if m.Kind != KindVector && m.Kind != KindCombine {
			m.Verify, m.Refine = false, false
		}
		switch m.Kind {
		case KindDiag:
			m.Vectors = 1
		case KindPrune, KindCompensate:
			m.Vectors, m.Rule, m.Masked = 1, RuleJoint, true
			if m.Kind == KindPrune && rapid.Bool().Draw(t, "patterned") {
				m.Sparsity, m.Keep, m.Of, m.Payload = 0, 2, 4, AppendStrips(nil, []Strip{{Lo: 0, Len: 9}, {Lo: 18, Len: 1}})
			}
		case KindColumn:
			m.Payload = AppendIndices(nil, make([]int64, m.Vectors))
		case KindSubblock:
			m.Vectors, m.Result, m.Payload = 1, F64, AppendIndices(nil, []int64{5, 9})
		case KindScalars, KindSpectrum:
			m.Vectors, m.Steps, m.Damping, m.Result = 1, 0, 0, F64
			if m.Kind == KindScalars {
				m.Payload = AppendFloats(nil, rapid.SliceOfN(rapid.Float64Range(1e-300, 1e300), 1, 9).Draw(t, "dampings"))
			}
		case KindLikelihood, KindLeaveOut:
			m.Damping, m.Result, m.Payload = 0, F64, AppendFloats(nil, []float64{1e-5, 2})
			if m.Kind == KindLeaveOut {
				m.Vectors = 1
			}
		case KindScores:
			m.Result = F64
		case KindPairs:
			m.Result, m.Payload = F64, make([]byte, 16)
		case KindInfluence, KindSelf:
			m.Result, m.Vectors = F64, 1
		case KindCombine:
			m.Payload = append(AppendUint64s(nil, make([]Step, m.Steps)), floats(m.Steps*m.Vectors)...)
		case KindRow:
			m.Vectors, m.Result, m.Payload = 1, F32, AppendUint64s(nil, []Step{9})
		}
		if m.Block, m.Starts = 0, 0; takesBlocks(m.Kind) && rapid.Bool().Draw(t, "blocks") {
			m.Verify, m.Refine, m.Whole = false, false, false
			m.Block, m.Starts = rapid.Int64Range(1, MaxDim).Draw(t, "block"), 2
			m.Payload = AppendIndices(m.Payload, []int64{0, 7})
		}
	case *Frozen:
		m.State = rapid.SampledFrom([]string{StateThawed, StateMaking, StateFrozen, StateWithout}).Draw(t, "state")
		m.Done = min(m.Done, m.Columns)
		m.Workers = []string{"w1", "w2"}
		m.Kept, m.Making, m.Free = []int64{1, 2}, []int64{0, 3}, []int64{math.MaxInt64, 0}
	case *Hold:
		m.Payload = AppendSlots(nil, slots())
	case *Forget:
		m.Payload = AppendUint64s(nil, rapid.SliceOfNDistinct(rapid.Uint64(), 1, 20, rapid.ID).Draw(t, "steps"))
	case *Evict:
		m.Payload = AppendRows(nil, rows)
	case *Values:
		m.Lo %= MaxValues - m.N
	case *ValuesReply:
		m.Lo %= MaxValues - m.N
		m.Payload = floats(int(m.N))
	case *Steps:
		m.Payload = AppendUint64s(nil, make([]Step, m.Rows))
	case *Labels:
		m.Rows, m.From = max(m.Rows, 3), 1
		m.N = 2
		m.Payload = AppendLabels(nil, []Labelled{{1, rapid.StringMatching(`[ -~äα]{0,100}`).Draw(t, "label")}, {2, ""}})
	case *Reshape:
		m.Slots = maxSlots
		m.Payload = AppendRows(nil, rows)
	case *SlotLabels:
		m.Payload = AppendSlots(nil, slots())
	case *SlotLabelsReply:
		m.N, m.Payload = 1, AppendLabels(nil, []Labelled{{7, "x"}})
	case *Chunk:
		if m.DType == F64 {
			m.DType = F32
		}
		m.Payload = chunk(m.N, m.DType)
	case *Vec:
		m.Payload = chunk(m.N, m.DType)
	case *Ack:
		m.Staged = min(m.Staged, m.Columns)
	case *Part:
		m.Payload = chunk(m.N, m.DType)
		m.Sum = Checksum(m.Payload)
	case *Adopted:
		m.Payload = AppendRows(nil, rows)
	case *Install:
		m.Payload = AppendRows(nil, rows)
	case *Gram:
		m.Payload = AppendSlots(nil, slots())
		m.I1 = len(m.Payload) / 4
		m.I0 = rapid.IntRange(0, m.I1-1).Draw(t, "i0")
	case *Multiply:
		m.Payload = AppendSlots(nil, slots())
	case *Products:
		var list []Product
		for _, r := range rows {
			list = append(list, Product{r.Slot, r.Attempt, rapid.Float64().Draw(t, "product")})
		}
		m.Payload = AppendProducts(nil, list)
	case *Commit:
		if m.Query != 0 {
			m.Payload = floats(6)
		}
	case *Prepare:
		m.Kind = rapid.SampledFrom([]string{"", KindVector, KindFisher, KindHessian, KindSample}).Draw(t, "kind")
		if m.Kind != KindSample {
			m.Seed, m.First = 0, 0
		}
	case *Residual:
		m.Payload = floats(6 * m.Vectors)
	case *Refine:
		m.Round = m.Round%maxRounds + 1
		m.Payload = floats(6 * m.Vectors)
	case *Coef:
		m.Kind = rapid.SampledFrom([]string{KindVector, KindCombine, KindRow, KindFisher, KindHessian, KindSample, KindColumn}).Draw(t, "kind")
		if m.Kind == KindColumn {
			m.Payload = AppendIndices(floats(6*m.Vectors), make([]int64, m.Vectors))
		} else if m.Kind == KindRow {
			m.Vectors, m.Mask = 1, []byte{0, 4}
		} else {
			m.Payload = floats(6 * m.Vectors)
		}
	case *Factor:
		m.Rows = rapid.IntRange(1, 6).Draw(t, "rows")
		m.N = triangle(m.Rows)
		m.Lo, m.N = m.N/2, m.N-m.N/2
		var order []Slot
		for i := range m.Rows {
			order = append(order, Slot(2*i))
		}
		m.Payload = append(AppendSlots(nil, order), floats(int(m.N))...)
	case *Prune:
		m.Known, m.Key, m.Rule, m.Kind, m.Keep, m.Of, m.I0, m.I1 = 0, 0, RuleSummed, KindPrune, 0, 0, 3, 7
		switch m.Do = rapid.SampledFrom([]string{PruneBegin, PruneGram, PruneScore, PruneCount, PruneGroup, PruneChoose, PruneDots, PruneResult}).Draw(t, "do"); m.Do {
		case PruneGram:
			m.I0, m.I1, m.Payload = 0, 2, AppendSlots(nil, []Slot{5, 9})
		case PruneGroup:
			m.Keep, m.Of, m.Payload = 2, 4, AppendStrips(nil, []Strip{{Lo: 5, Len: 9}, {Lo: 14, Len: 1}})
		case PruneResult:
			m.Payload = floats(6)
		}
	case *Blocks:
		do := []string{BlocksBegin, BlocksWork, BlocksGram, BlocksDots, BlocksFactor, BlocksFinish, BlocksResult, BlocksElements, BlocksInner}
		m.Do, m.What = rapid.SampledFrom(do).Draw(t, "do"), BlocksSolve
		m.Damping, m.N, m.Size, m.Rows, m.Lo, m.Hi, m.I0, m.I1 = 0.5, 3, 4, 2, 5, 9, 1, 3
		switch m.Do {
		case BlocksBegin:
			var weights []float64
			if m.Weights {
				weights = []float64{0.5, 2}
			}
			m.Payload = BeginPayload([]Slot{5, 9}, weights, Partition{[]int64{0, 7}, 9, 4})
		case BlocksElements:
			m.Payload = AppendIndices(nil, []int64{5, 8})
		case BlocksFactor, BlocksFinish:
			m.Payload = floats(6)
		}
	case *Columns:
		m.Payload = AppendIndices(nil, []int64{5, 9})
	case *DotVectors:
		m.Payload = AppendPairs(nil, []Pair{{0, MaxVectors - 1}, {3, 3}})
	case *Numbers:
		m.Count %= 100
		m.Payload = floats(m.Count)
	}
}

// free are the fields that Validate has nothing to say about: any value is as good as another, or
// whoever has the state must judge it. Unsigned numbers are all so, but the zero epoch.
var free = map[string]bool{
	"create.payload":   true, // Tensors checks it
	"info.reply.state": true, // what is being waited for, in words
	"frozen.reply.why": true, // likewise
	// An error is for reading.
	"error.field": true, "error.value": true, "error.limit": true, "error.hint": true,
}

// Validate looks at every field: each value that no message can have, in turn, is refused.
func TestValidateLooksAtEveryField(t *testing.T) {
	for _, ex := range examples() {
		if strings.Contains(ex.name, "-") {
			continue
		}
		t.Run(ex.name, func(t *testing.T) {
			again := func() reflect.Value { // a copy to spoil
				f, err := Encode(ex.msg)
				if err != nil {
					t.Fatal(err)
				}
				m, err := Decode(f, "")
				if err != nil {
					t.Fatal(err)
				}
				return reflect.ValueOf(m)
			}
			spoil(t, ex.msg.Type(), reflect.ValueOf(ex.msg).Elem(), nil, func(path []int, value any) error {
				m := again()
				v := m.Elem()
				for _, i := range path {
					if v.Kind() == reflect.Pointer {
						v = v.Elem()
					}
					if v.Kind() == reflect.Slice {
						v = v.Index(i)
					} else {
						v = v.Field(i)
					}
				}
				v.Set(reflect.ValueOf(value).Convert(v.Type()))
				return m.Interface().(Message).Validate()
			})
		})
	}
}

func spoil(t *testing.T, name string, v reflect.Value, path []int, try func([]int, any) error) {
	var values []any
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			spoil(t, name, v.Elem(), path, try)
		}
	case reflect.Struct:
		if e, ok := v.Interface().(Epoch); ok && !e.IsZero() && name != "error.epoch" {
			values = append(values, Epoch{})
		}
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("msgpack"), ",")
			sub := name + "." + key
			if key == "-" {
				sub = name + ".payload"
			}
			if key == "" {
				sub = name
			}
			spoil(t, sub, v.Field(i), append(slices.Clone(path), i), try)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Len() > 0 {
				values = append(values, make([]byte, MaxPayload+1))
				if !strings.HasSuffix(name, ".mask") && name != "layout.reply.payload" {
					values = append(values, append(slices.Clone(v.Bytes()), 1))
				}
			}
			break
		}
		many := reflect.MakeSlice(v.Type(), 8*MaxOpen, 8*MaxOpen)
		for i := range many.Len() {
			if v.Len() > 0 {
				many.Index(i).Set(v.Index(0))
			}
		}
		values = append(values, many.Interface())
		if v.Len() > 0 {
			spoil(t, name, v.Index(0), append(slices.Clone(path), 0), try)
		}
	case reflect.String:
		values = append(values, "Not A Word", "*", "a.b", "\x00")
		if strings.HasSuffix(name, ".label") {
			values = []any{"\x00", "a\nb", "\xff", rep("a", MaxLabel+1)}
		}
	case reflect.Float64:
		values = append(values, math.NaN(), math.Inf(1), math.Inf(-1), -1.0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		values = append(values, -1, math.MinInt32)
		_, ranged := ranges[name[strings.LastIndex(name, ".")+1:]]
		switch {
		case v.Kind() == reflect.Int32:
			values = append(values, math.MaxInt32)
		case ranged:
			values = append(values, math.MinInt64, math.MaxInt64)
		}
	}
	if free[name] {
		return
	}
	for _, x := range values {
		if err := try(path, x); err == nil {
			t.Errorf("%s: %.60v passes", name, fmt.Sprint(x))
		}
	}
}
