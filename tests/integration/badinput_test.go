package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// Here: every item of "bad input" that concerns runs, steps and queries. Each must be refused
// with an error that names the field, its value and the limit, lose nothing and change no state.

var inf = math.Inf(1)

// TestBadRuns has specs that no run can have: refused by the client before a message leaves, and
// by the coordinator that is sent one all the same.
func TestBadRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := client.RunConfig{Name: "other", Dim: siteDim, Window: siteWindow, Damping: 1e-2, Shards: 3}
	cases := []struct {
		name    string
		cfg     func(*client.RunConfig)
		spec    func(*wire.RunSpec) // where a configuration can't say it: 0 is a default there
		refusal refusal
	}{
		{"d = 0", func(c *client.RunConfig) { c.Dim = 0 }, nil, refusal{wire.CodeInvalid, "dim", "0", "in [1,"}},
		{"d < 0", func(c *client.RunConfig) { c.Dim = -5 }, nil, refusal{wire.CodeInvalid, "dim", "-5", "in [1,"}},
		{"d too large", func(c *client.RunConfig) { c.Dim = math.MaxInt64 }, nil, refusal{wire.CodeInvalid, "dim", "9223372036854775807", "in [1, 1125899906842624]"}},
		{"m = 0", func(c *client.RunConfig) { c.Window = 0 }, nil, refusal{wire.CodeInvalid, "window", "0", "in [1, 4096]"}},
		{"m < 0", func(c *client.RunConfig) { c.Window = -1 }, nil, refusal{wire.CodeInvalid, "window", "-1", "in [1, 4096]"}},
		{"m too large", func(c *client.RunConfig) { c.Window = 4097 }, nil, refusal{wire.CodeInvalid, "window", "4097", "in [1, 4096]"}},
		{"more shards than columns", func(c *client.RunConfig) { c.Dim, c.Shards = 3, 4 }, nil, refusal{wire.CodeInvalid, "shards", "4", "in [1, 3]"}},
		{"too many shards", func(c *client.RunConfig) { c.Shards = 513 }, nil, refusal{wire.CodeInvalid, "shards", "513", "in [1, 512]"}},
		{"no shards", nil, func(c *wire.RunSpec) { c.Shards = 0 }, refusal{wire.CodeInvalid, "shards", "0", "in [1, 512]"}},
		{"no spare", nil, func(c *wire.RunSpec) { c.Spare = 0 }, refusal{wire.CodeInvalid, "spare", "0", "in [1, 64]"}},
		{"many spares", func(c *client.RunConfig) { c.Spare = 65 }, nil, refusal{wire.CodeInvalid, "spare", "65", "in [1, 64]"}},
		{"λ = 0", nil, func(c *wire.RunSpec) { c.Damping = 0 }, refusal{wire.CodeInvalid, "damping", "0", "> 0 and finite"}},
		{"λ < 0", func(c *client.RunConfig) { c.Damping = -1 }, nil, refusal{wire.CodeInvalid, "damping", "-1", "> 0 and finite"}},
		{"λ NaN", func(c *client.RunConfig) { c.Damping = math.NaN() }, nil, refusal{wire.CodeInvalid, "damping", "NaN", "> 0 and finite"}},
		{"λ infinite", func(c *client.RunConfig) { c.Damping = inf }, nil, refusal{wire.CodeInvalid, "damping", "+Inf", "> 0 and finite"}},
		{"Nλ infinite", func(c *client.RunConfig) { c.Damping = 1e308 }, nil, refusal{wire.CodeInvalid, "damping", "1e+308", "finite when multiplied by the window, 4"}},
		{"divisor", func(c *client.RunConfig) { c.Divisor = "rows" }, nil, refusal{wire.CodeInvalid, "divisor", "rows", "capacity or count"}},
		{"store f64", func(c *client.RunConfig) { c.Store = "f64" }, nil, refusal{wire.CodeInvalid, "store", "f64", "f32, bf16 or f16"}},
		{"store f8", func(c *client.RunConfig) { c.Store = "f8" }, nil, refusal{wire.CodeInvalid, "store", "f8", "f32, bf16 or f16"}},
		{"durability disk", func(c *client.RunConfig) { c.Durability = "disk" }, nil, refusal{wire.CodeUnsupported, "durability", "disk", "memory"}},
		{"durability stream", func(c *client.RunConfig) { c.Durability = "stream" }, nil, refusal{wire.CodeUnsupported, "durability", "stream", "memory"}},
		{"durability paper", func(c *client.RunConfig) { c.Durability = "paper" }, nil, refusal{wire.CodeInvalid, "durability", "paper", "memory"}},
	}
	for _, name := range []string{"", "A", "-a", "_a", "a.b", "a b", "a*", ">", "ü", "a/b", "a\n", strings.Repeat("a", 64)} {
		cases = append(cases, struct {
			name    string
			cfg     func(*client.RunConfig)
			spec    func(*wire.RunSpec)
			refusal refusal
		}{fmt.Sprintf("name %q", name), func(c *client.RunConfig) { c.Name = name }, nil,
			refusal{wire.CodeInvalid, "name", fmt.Sprintf("%q", name), "^[a-z0-9][a-z0-9_-]{0,62}$"}})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := wire.RunSpec{Name: good.Name, Dim: good.Dim, Window: good.Window, Spare: 2, Shards: 3, Damping: good.Damping,
				Divisor: wire.Capacity, Store: wire.F32, Durability: wire.DurabilityMemory}
			if c.cfg != nil {
				cfg := good
				c.cfg(&cfg)
				_, err := s.cl.Attach(soon(t), cfg)
				c.refusal.check(t, err)
				spec.Name, spec.Dim, spec.Window, spec.Damping, spec.Shards = cfg.Name, cfg.Dim, cfg.Window, cfg.Damping, cfg.Shards
				for from, to := range map[string]*string{string(cfg.Divisor): (*string)(&spec.Divisor), string(cfg.Store): (*string)(&spec.Store), cfg.Durability: &spec.Durability} {
					if from != "" {
						*to = from
					}
				}
				if cfg.Spare != 0 {
					spec.Spare = cfg.Spare
				}
			} else {
				c.spec(&spec)
			}
			c.refusal.answer(t, s.coordinator(&wire.Create{Spec: spec}))
		})
	}
	t.Run("name of a run that is asked for", func(t *testing.T) {
		_, err := s.cl.Join(soon(t), "A.b")
		refusal{wire.CodeInvalid, "run", `"A.b"`, "^[a-z0-9]"}.check(t, err)
	})
	s.unchanged(t)

	// Nor can the run be joined as another than it is.
	for _, c := range []struct {
		field, mine, theirs string
		cfg                 func(*client.RunConfig)
	}{
		{"dim", "5004", "5003", func(c *client.RunConfig) { c.Dim++ }},
		{"window", "5", "4", func(c *client.RunConfig) { c.Window++ }},
		{"damping", "0.02", "0.01", func(c *client.RunConfig) { c.Damping *= 2 }},
		{"divisor", "count", "capacity", func(c *client.RunConfig) { c.Divisor = wire.Count }},
		{"store", "bf16", "f32", func(c *client.RunConfig) { c.Store = wire.BF16 }},
		{"layout", "", "none", func(c *client.RunConfig) { c.Layout = []wire.Tensor{{Name: "all", Shape: []int64{siteDim}}} }},
	} {
		t.Run("joined with another "+c.field, func(t *testing.T) {
			cfg := good
			cfg.Name = "bad"
			c.cfg(&cfg)
			_, err := s.cl.Attach(soon(t), cfg)
			refusal{wire.CodeExists, c.field, c.mine, c.theirs}.check(t, err)
		})
	}
	// A layout that is not the one that its hash says, or none at all.
	for name, payload := range map[string]string{"another layout": `[{"name":"b","shape":[12],"offset":0}]`, "a gap": `[{"name":"a","shape":[11],"offset":0}]`, "overflow": `[{"name":"a","shape":[4611686018427387904,4],"offset":0}]`, "not JSON": "\x00"} {
		t.Run("layout: "+name, func(t *testing.T) {
			canonical := wire.CanonicalLayout([]wire.Tensor{{Name: "a", Shape: []int64{12}}})
			spec := wire.RunSpec{Name: "other", Dim: 12, Window: 2, Spare: 2, Shards: 1, Damping: 1, Divisor: wire.Capacity, Store: wire.F32,
				Durability: wire.DurabilityMemory, Layout: wire.LayoutHash(canonical)}
			e := as[*wire.Error](t, s.ask(s.sub.Coordinator(wire.OpCreate, s.name), &wire.Create{Spec: spec, Payload: []byte(payload)}))
			if e.Code != wire.CodeInvalid && e.Code != wire.CodeMalformed || e.Field == "" || e.Limit == "" {
				t.Errorf("error is %+v", e)
			}
		})
	}
	s.unchanged(t)
	s.memory()
}

// TestUnknownNames asks for runs, steps and queries that are not there.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	info := s.info("bad")
	dst := make([]float32, siteDim)
	run := func(name string, f func() error, want refusal) {
		t.Run(name, func(t *testing.T) { want.check(t, f()) })
	}
	run("run: join", func() error { _, err := s.cl.Join(soon(t), "ghost"); return err }, refusal{wire.CodeUnknownRun, "run", "ghost", "exists"})
	run("run: delete", func() error { return s.cl.Delete(soon(t), "ghost") }, refusal{wire.CodeUnknownRun, "run", "ghost", "exists"})
	run("step: H⁻¹g", func() error { _, err := s.run.IHVPStep(soon(t), dst, 11); return err }, refusal{wire.CodeUnknownStep, "step", "11", "window of bad"})
	run("step: gradient", func() error { _, err := s.run.Gradient(soon(t), dst, 40); return err }, refusal{wire.CodeUnknownStep, "step", "40", "window of bad"})
	run("step: combination", func() error {
		_, err := s.run.IHVPCombine(soon(t), dst, []wire.Step{10, 11}, []float64{1, 2})
		return err
	}, refusal{wire.CodeUnknownStep, "step", "11", "window of bad"})

	for _, m := range []wire.Message{
		&wire.Open{Run: "ghost", Step: 1}, &wire.Wait{Run: "ghost", Epoch: info.Epoch, Step: 1}, &wire.StepsRequest{Run: "ghost"}, &wire.LabelsRequest{Run: "ghost"},
		&wire.Forget{Run: "ghost", Payload: wire.AppendUint64s(nil, []wire.Step{1})}, &wire.Set{Run: "ghost", Damping: 1}, &wire.Resize{Run: "ghost", Window: 3}, &wire.Freeze{Run: "ghost"}, &wire.FrozenRequest{Run: "ghost"},
		&wire.Query{Run: "ghost", Kind: wire.KindVector, Vectors: 1, DType: wire.F32, Result: wire.F32},
		&wire.Result{Run: "ghost", Epoch: info.Epoch}, &wire.Close{Run: "ghost", Epoch: info.Epoch}, &wire.LayoutRequest{Run: "ghost"},
	} {
		t.Run("run: "+m.Type(), func(t *testing.T) {
			refusal{wire.CodeUnknownRun, "run", "ghost", "exists"}.answer(t, s.ask(s.sub.Coordinator(m.Type(), s.name), m))
		})
	}
	w := info.Workers[info.Owner[0]]
	one := payload32([]float32{1})
	for _, c := range []struct {
		name string
		m    wire.Message
		want refusal
	}{
		{"run: chunk", &wire.Chunk{Run: "ghost", Epoch: info.Epoch, Step: 40, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one}, refusal{wire.CodeUnknownShard, "shard", "ghost/0", "holds"}},
		{"shard: chunk", &wire.Chunk{Run: "bad", Epoch: info.Epoch, Shard: 3, Step: 40, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one}, refusal{wire.CodeUnknownShard, "shard", "bad/3", "holds"}},
		{"step: chunk", &wire.Chunk{Run: "bad", Epoch: info.Epoch, Step: 40, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one}, refusal{wire.CodeNotOpen, "step", "40", "open"}},
		{"query: vec", &wire.Vec{Run: "bad", Epoch: info.Epoch, Query: 77, N: 1, DType: wire.F32, Sum: wire.Checksum(one), Payload: one}, refusal{wire.CodeNotOpen, "query", "77", "open"}},
		{"query: fetch", &wire.Fetch{Run: "bad", Epoch: info.Epoch, Query: 77, N: 1, DType: wire.F32}, refusal{wire.CodeUnknownQuery, "query", "77", "open"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.want.answer(t, s.worker(w, c.m)) })
	}
	t.Run("query: result", func(t *testing.T) {
		refusal{wire.CodeUnknownQuery, "query", "77", "open"}.answer(t, s.coordinator(&wire.Result{Run: "bad", Epoch: info.Epoch, Query: 77}))
	})
	t.Run("attempt: wait", func(t *testing.T) {
		refusal{wire.CodeUnknownStep, "step", "40", "open"}.answer(t, s.coordinator(&wire.Wait{Run: "bad", Epoch: info.Epoch, Step: 40, Attempt: 77}))
	})
	s.unchanged(t)
	s.memory()
}

// part is columns [lo, hi) of g as a chunk of an open step.
func part(info *wire.Info, open *wire.OpenReply, step wire.Step, shard int, g []float32, lo, hi int64) *wire.Chunk {
	p := payload32(g[lo:hi])
	return &wire.Chunk{Run: info.Spec.Name, Epoch: open.Epoch, Step: step, Attempt: open.Attempt, Shard: shard, Lo: lo, N: hi - lo,
		DType: wire.F32, Sum: wire.Checksum(p), Payload: p}
}

// TestBadChunks sends every kind of bad chunk into an open step, between good ones: each is
// refused, and the gradient that is committed in the end is the good one.
func TestBadChunks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	g := normal(rand.New(rand.NewPCG(3, 4)), siteDim)
	const step = 40
	open := as[*wire.OpenReply](t, s.coordinator(&wire.Open{Run: "bad", Step: step, Token: 7}))
	info := s.info("bad")
	lo, n := info.Range(1)
	w := info.Workers[info.Owner[1]]
	send := func(c *wire.Chunk) wire.Message { return s.worker(w, c) }
	good := func(a, b int64) *wire.Chunk { return part(info, open, step, 1, g, lo+a, lo+b) }
	eventually(t, func() error { // the shards hear of the step
		if e, ok := send(good(100, 300)).(*wire.Error); ok {
			return e
		}
		return nil
	})
	inside := fmt.Sprintf("within the shard's [%d, %d)", lo, lo+n)
	for _, c := range []struct {
		name string
		bad  func(*wire.Chunk)
		want refusal
	}{
		{"before its shard", func(c *wire.Chunk) { c.Lo = lo - 200 }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"begins before its shard", func(c *wire.Chunk) { c.Lo = lo - 1 }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"ends behind its shard", func(c *wire.Chunk) { c.Lo = lo + n - 199 }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"behind its shard", func(c *wire.Chunk) { c.Lo = lo + n }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"behind d", func(c *wire.Chunk) { c.Lo = siteDim }, refusal{wire.CodeInvalid, "columns", "5003", inside}},
		{"negative", func(c *wire.Chunk) { c.Lo = -1 }, refusal{wire.CodeInvalid, "columns", "-1", "within"}},
		{"offset overflows", func(c *wire.Chunk) { c.Lo = math.MaxInt64 - 100 }, refusal{wire.CodeInvalid, "columns", "9223372036854775707", "within"}},
		{"length overflows", func(c *wire.Chunk) { c.N = math.MaxInt64 }, refusal{wire.CodeInvalid, "columns", "9223372036854775807", "within"}},
		{"length × 4 overflows", func(c *wire.Chunk) { c.N = 1<<62 + 200 }, refusal{wire.CodeInvalid, "columns", "4611686018427388104", "within"}},
		{"no length", func(c *wire.Chunk) { c.N, c.Payload = 0, nil }, refusal{wire.CodeInvalid, "columns", "+0", "not empty"}},
		{"negative length", func(c *wire.Chunk) { c.N = -200 }, refusal{wire.CodeInvalid, "columns", "-200", "not empty"}},
		{"longer than it says", func(c *wire.Chunk) { c.N-- }, refusal{wire.CodeInvalid, "payload bytes", "800", "796"}},
		{"shorter than it says", func(c *wire.Chunk) { c.N++ }, refusal{wire.CodeInvalid, "payload bytes", "800", "804"}},
		{"cut inside a number", func(c *wire.Chunk) { c.Payload = c.Payload[:799] }, refusal{wire.CodeInvalid, "payload bytes", "799", "800"}},
		{"too large", func(c *wire.Chunk) { c.N = wire.MaxPayload/4 + 1 }, refusal{wire.CodeTooLarge, "columns of a chunk", "250001", "250000"}},
		{"overlaps from the left", func(c *wire.Chunk) { c.Lo = lo + 299 }, refusal{wire.CodeInvalid, "columns", "", "disjoint"}},
		{"overlaps from the right", func(c *wire.Chunk) { c.Lo = lo + 50; c.N = 51; c.Payload = c.Payload[:204] }, refusal{wire.CodeInvalid, "columns", "", "disjoint"}},
		{"within another", func(c *wire.Chunk) { c.Lo = lo + 150; c.N = 50; c.Payload = c.Payload[:200] }, refusal{wire.CodeInvalid, "columns", "", "disjoint"}},
		{"float64", func(c *wire.Chunk) { c.DType, c.N = wire.F64, 100 }, refusal{wire.CodeInvalid, "dtype", "f64", "f32, bf16 or f16"}},
		{"bfloat8", func(c *wire.Chunk) { c.DType = "bf8" }, refusal{wire.CodeInvalid, "dtype", "bf8", "f32, bf16 or f16"}},
		{"float32 called bfloat16", func(c *wire.Chunk) { c.DType = "bf16" }, refusal{wire.CodeInvalid, "payload bytes", "800", "400"}},
		{"an odd number of bytes in bfloat16", func(c *wire.Chunk) { c.DType, c.Payload = "bf16", c.Payload[:399] }, refusal{wire.CodeInvalid, "payload bytes", "399", "400"}},
		{"an odd number of bytes in float16", func(c *wire.Chunk) { c.DType, c.Payload = "f16", c.Payload[:401] }, refusal{wire.CodeInvalid, "payload bytes", "401", "400"}},
		{"too large in float16", func(c *wire.Chunk) { c.DType, c.N = "f16", wire.MaxPayload/2+1 }, refusal{wire.CodeTooLarge, "columns of a chunk", "500001", "500000"}},
		{"epoch before", func(c *wire.Chunk) { c.Epoch.Revision-- }, refusal{wire.CodeStaleEpoch, "epoch", "", open.Epoch.String()}},
		{"epoch after", func(c *wire.Chunk) { c.Epoch.Revision++ }, refusal{wire.CodeStaleEpoch, "epoch", "", open.Epoch.String()}},
		{"other incarnation", func(c *wire.Chunk) { c.Epoch.Incarnation++ }, refusal{wire.CodeStaleEpoch, "epoch", "", open.Epoch.String()}},
		{"no epoch", func(c *wire.Chunk) { c.Epoch = wire.Epoch{} }, refusal{wire.CodeInvalid, "epoch", "0-0", "not zero"}},
		{"attempt before", func(c *wire.Chunk) { c.Attempt-- }, refusal{wire.CodeSuperseded, "attempt", "", fmt.Sprint(open.Attempt)}},
		{"attempt after", func(c *wire.Chunk) { c.Attempt++ }, refusal{wire.CodeNotOpen, "step", "40", "open"}},
		{"changed on its way", func(c *wire.Chunk) { c.Sum++ }, refusal{wire.CodeMalformed, "checksum", "", ""}},
		{"shard < 0", func(c *wire.Chunk) { c.Shard = -1 }, refusal{wire.CodeInvalid, "shard", "-1", "in [0, 511]"}},
		{"shard too large", func(c *wire.Chunk) { c.Shard = math.MaxInt64 }, refusal{wire.CodeInvalid, "shard", "9223372036854775807", "in [0, 511]"}},
		{"wants < 0", func(c *wire.Chunk) { c.Want = -1 }, refusal{wire.CodeInvalid, "want", "-1", "in [0,"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := good(300, 500)
			c.bad(m)
			c.want.answer(t, send(m))
		})
	}
	if info := s.info("bad"); info.Version != s.was.Version || info.Open != 1 {
		t.Errorf("after the bad chunks: version %d, %d steps open, want %d and 1", info.Version, info.Open, s.was.Version)
	}
	// The same chunk again is acknowledged again.
	if a := as[*wire.Ack](t, send(good(100, 300))); a.Staged != 200 || a.Columns != n {
		t.Errorf("a duplicate is acknowledged with %+v, want 200 of %d columns", a, n)
	}
	for _, r := range [][2]int64{{300, n}, {0, 100}} {
		as[*wire.Ack](t, send(good(r[0], r[1])))
	}
	for _, shard := range []int{2, 0} {
		a, cols := info.Range(shard)
		as[*wire.Ack](t, s.worker(info.Workers[info.Owner[shard]], part(info, open, step, shard, g, a, a+cols)))
	}
	wait := as[*wire.WaitReply](t, s.coordinator(&wire.Wait{Run: "bad", Epoch: open.Epoch, Step: step, Attempt: open.Attempt}))
	if wait.State != wire.StateCommitted || wait.Version != s.was.Version+1 || wait.Rows != siteWindow {
		t.Fatalf("the step is %+v, want it committed", wait)
	}
	// A late copy of a chunk is acknowledged and changes nothing.
	if a := as[*wire.Ack](t, send(good(100, 300))); a.Staged != n {
		t.Errorf("a late chunk is acknowledged with %+v", a)
	}
	row := make([]float32, siteDim)
	if _, err := s.run.Gradient(soon(t), row, step); err != nil || !slices.Equal(bits32(row), bits32(g)) {
		t.Errorf("the row is not the gradient that was sent (%v)", err)
	}
	s.settled()
	s.memory()
}

// TestConflict sends other bytes for the same columns: the whole gradient is refused, and may be
// published again.
func TestConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	g := normal(rand.New(rand.NewPCG(5, 6)), siteDim)
	open := as[*wire.OpenReply](t, s.coordinator(&wire.Open{Run: "bad", Step: 40, Token: 7}))
	info := s.info("bad")
	w := info.Workers[info.Owner[0]]
	eventually(t, func() error {
		if e, ok := s.worker(w, part(info, open, 40, 0, g, 0, 200)).(*wire.Error); ok {
			return e
		}
		return nil
	})
	other := slices.Clone(g)
	other[7]++
	want := refusal{wire.CodeConflict, "columns", "[0, 200)", "sent before"}
	want.answer(t, s.worker(w, part(info, open, 40, 0, other, 0, 200)))
	if e := as[*wire.Error](t, s.worker(w, part(info, open, 40, 0, g, 0, 200))); e.Code != wire.CodeConflict && e.Code != wire.CodeNotOpen {
		t.Errorf("the first bytes again: %v, want conflict, or not_open once the step is dropped", e)
	}
	want.answer(t, s.coordinator(&wire.Wait{Run: "bad", Epoch: open.Epoch, Step: 40, Attempt: open.Attempt}))
	s.unchanged(t)
	if c, err := s.run.Publish(soon(t), 40, g); err != nil || c.Rows != siteWindow {
		t.Errorf("published again: %+v, %v", c, err)
	}
	s.settled()
	s.memory()
}

// TestNotFinite publishes NaN and Inf: the whole gradient is refused, the error names the column,
// and the step may be published again.
func TestNotFinite(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := rand.New(rand.NewPCG(7, 8))
	info := s.info("bad")
	border, _ := info.Range(2)
	dst := make([]float32, siteDim)
	x := make([]float64, siteDim)
	for _, c := range []struct {
		column int64
		value  float64
	}{
		{0, math.NaN()}, {siteDim - 1, inf}, {border, -inf}, {border - 1, math.NaN()}, {2500, inf},
	} {
		t.Run(fmt.Sprintf("%v at %d", c.value, c.column), func(t *testing.T) {
			g := normal(r, siteDim)
			g[c.column] = float32(c.value)
			want := refusal{wire.CodeNotFinite, "column", fmt.Sprint(c.column), "finite"}
			_, err := s.run.Publish(soon(t), 40, g)
			want.check(t, err)
			_, err = s.run.Precondition(soon(t), 40, dst, g)
			want.check(t, err)
			_, err = s.run.IHVP(soon(t), dst, g)
			want.check(t, err)
			v := slices.Clone(s.v)
			v[c.column] = c.value
			_, err = s.run.IHVP64(soon(t), x, v)
			want.check(t, err)
			s.unchanged(t)
		})
	}
	t.Run("one rank of two", func(t *testing.T) {
		g := normal(r, siteDim)
		bad := slices.Clone(g[2000:])
		bad[3] = float32(math.NaN())
		first := make(chan error, 1)
		go func() {
			_, err := s.run.PublishColumns(soon(t), 40, 0, g[:2000], client.WithToken(9))
			first <- err
		}()
		eventually(t, func() error { // else it would open the step anew, after its refusal
			if n := s.info("bad").Open; n != 1 {
				return fmt.Errorf("%d steps are open", n)
			}
			return nil
		})
		_, err := s.run.PublishColumns(soon(t), 40, 2000, bad, client.WithToken(9))
		want := refusal{wire.CodeNotFinite, "column", "2003", "finite"}
		want.check(t, err)
		want.check(t, <-first)
		s.unchanged(t)
	})
	t.Run("coefficients", func(t *testing.T) {
		for _, a := range []float64{math.NaN(), inf, -inf} {
			_, err := s.run.IHVPCombine(soon(t), dst, []wire.Step{10, 20}, []float64{1, a})
			refusal{wire.CodeNotFinite, "coefficient", fmt.Sprint(a), "finite"}.check(t, err)
			refusal{wire.CodeNotFinite, "coefficients", fmt.Sprint(a), "finite"}.answer(t, s.coordinator(&wire.Query{
				Run: "bad", Token: 1, Kind: wire.KindCombine, Vectors: 1, Steps: 2, Result: wire.F32,
				Payload: wire.AppendFloats(wire.AppendUint64s(nil, []wire.Step{10, 20}), []float64{1, a}),
			}))
		}
		s.unchanged(t)
	})
	t.Run("out of range", func(t *testing.T) { // finite, but its square is not; then a result that float32 has no room for
		v := slices.Clone(s.v)
		v[100] = 1e200
		_, err := s.run.IHVP64(soon(t), x, v)
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeOverflow || e.Value == "" || e.Limit == "" {
			t.Errorf("a vector of 1e200: %v, want overflow", err)
		}
		g := make([]float32, siteDim)
		g[100] = 3e38
		_, err = s.run.IHVP(soon(t), g, slices.Clone(g), client.WithDamping(1e-10))
		refusal{wire.CodeOverflow, "column", "", "f32"}.check(t, err)
		s.unchanged(t)
	})
	s.memory()
	if c, err := s.run.Publish(soon(t), 40, normal(r, siteDim)); err != nil || c.Version != s.was.Version+1 {
		t.Errorf("a good gradient after the bad ones: %+v, %v", c, err)
	}
}

// TestBadSteps publishes steps that don't grow, and vectors of a wrong length.
func TestBadSteps(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := rand.New(rand.NewPCG(9, 10))
	dst := make([]float32, siteDim)
	for _, step := range []wire.Step{30, 20, 15, 0} {
		t.Run(fmt.Sprintf("step %d", step), func(t *testing.T) {
			want := refusal{wire.CodeNotGrowing, "step", fmt.Sprint(step), "above 30"}
			g := normal(r, siteDim)
			_, err := s.run.Publish(soon(t), step, g)
			want.check(t, err)
			_, err = s.run.PublishColumns(soon(t), step, 10, g[10:20])
			want.check(t, err)
			_, err = s.run.Precondition(soon(t), step, dst, g)
			want.check(t, err)
			_, err = s.run.PublishMany(soon(t), step, [][]float32{g})
			want.check(t, err)
			want.answer(t, s.coordinator(&wire.Open{Run: "bad", Step: step, Token: 1}))
		})
	}
	for _, n := range []int{0, 1, siteDim - 1, siteDim + 1} {
		t.Run(fmt.Sprintf("length %d", n), func(t *testing.T) {
			g := normal(r, n)
			of := func(what string) refusal {
				return refusal{wire.CodeInvalid, "length of the " + what, fmt.Sprint(n), "5003, the run's dim"}
			}
			_, err := s.run.Publish(soon(t), 40, g)
			of("gradient").check(t, err)
			_, err = s.run.PublishMany(soon(t), 40, [][]float32{normal(r, siteDim), g})
			of("gradient").check(t, err)
			_, err = s.run.Precondition(soon(t), 40, dst, g)
			of("gradient").check(t, err)
			_, err = s.run.IHVP(soon(t), dst, g)
			of("vector").check(t, err)
			_, err = s.run.IHVP(soon(t), g, dst)
			of("result").check(t, err)
			_, err = s.run.Gradient(soon(t), g, 10)
			of("result").check(t, err)
			_, err = s.run.IHVPStep(soon(t), g, 10)
			of("result").check(t, err)
		})
	}
	for _, c := range [][2]int64{{-1, 5}, {siteDim, 1}, {siteDim - 1, 2}, {0, 0}, {math.MaxInt64, 1}} {
		t.Run(fmt.Sprintf("columns %d+%d", c[0], c[1]), func(t *testing.T) {
			_, err := s.run.PublishColumns(soon(t), 40, c[0], make([]float32, c[1]))
			refusal{wire.CodeInvalid, "columns", "", "within [0, 5003)"}.check(t, err)
		})
	}
	t.Run("deadline", func(t *testing.T) {
		for _, ms := range []int64{-1, math.MaxInt64, math.MinInt64} {
			refusal{wire.CodeInvalid, "deadline_ms", fmt.Sprint(ms), "in [0,"}.answer(t, s.coordinator(&wire.Open{Run: "bad", Step: 40, DeadlineMS: ms}))
		}
	})
	t.Run("precondition", func(t *testing.T) {
		open := func(p wire.Precondition) wire.Message {
			return s.coordinator(&wire.Open{Run: "bad", Step: 40, Precondition: &p})
		}
		for _, lambda := range []float64{-1, math.NaN(), inf, -inf} {
			refusal{wire.CodeInvalid, "damping", fmt.Sprint(lambda), "> 0 and finite"}.answer(t, open(wire.Precondition{Damping: lambda, Result: wire.F32}))
		}
		refusal{wire.CodeInvalid, "damping", "1e+308", "finite when multiplied by the window, 4"}.answer(t, open(wire.Precondition{Damping: 1e308, Result: wire.F32}))
		refusal{wire.CodeInvalid, "divisor", "m", "capacity or count"}.answer(t, open(wire.Precondition{Divisor: "m", Result: wire.F32}))
		refusal{wire.CodeInvalid, "result", "bf8", "f32, f64, bf16 or f16"}.answer(t, open(wire.Precondition{Result: "bf8"}))
	})
	s.unchanged(t)
	s.memory()
}

// TestBadQueries asks what can't be answered.
func TestBadQueries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	info := s.info("bad")
	dst := make([]float32, siteDim)
	v := normal(rand.New(rand.NewPCG(11, 12)), siteDim)
	ihvp := func(opts ...client.QueryOption) error {
		_, err := s.run.IHVP(soon(t), dst, v, opts...)
		return err
	}
	for _, lambda := range []float64{0, -1, math.NaN(), inf, -inf} {
		t.Run(fmt.Sprintf("λ = %v", lambda), func(t *testing.T) {
			want := refusal{wire.CodeInvalid, "damping", fmt.Sprint(lambda), "> 0 and finite"}
			want.check(t, ihvp(client.WithDamping(lambda)))
			if lambda != 0 { // on the wire, 0 is the run's
				want.answer(t, s.coordinator(&wire.Query{Run: "bad", Kind: wire.KindVector, Vectors: 1, DType: wire.F32, Result: wire.F32, Damping: lambda}))
			}
		})
	}
	// Nλ overflows, under either divisor: nothing that a larger damping would help.
	for _, divisor := range []wire.Divisor{wire.Capacity, wire.Count} {
		want := refusal{wire.CodeInvalid, "damping", "1e+308", "finite when multiplied by the window, 4"}
		want.check(t, ihvp(client.WithDamping(1e308), client.WithDivisor(divisor)))
		_, err := s.run.IHVPStep(soon(t), dst, 10, client.WithDamping(1e308), client.WithDivisor(divisor))
		want.check(t, err)
	}
	now := info.Version
	for _, c := range []struct {
		name string
		err  error
		want refusal
	}{
		{"divisor", ihvp(client.WithDivisor("rows")), refusal{wire.CodeInvalid, "divisor", "rows", "capacity or count"}},
		{"version to come", ihvp(client.WithAtLeast(now + 1)), refusal{wire.CodeBehind, "version", fmt.Sprint(now), fmt.Sprintf("at least %d", now+1)}},
		{"exactly one to come", ihvp(client.WithExactly(now + 1)), refusal{wire.CodeBehind, "version", fmt.Sprint(now), fmt.Sprintf("at least %d", now+1)}},
		{"exactly one gone", ihvp(client.WithExactly(now - 1)), refusal{wire.CodeVersionGone, "exactly", fmt.Sprint(now - 1), fmt.Sprint(now)}},
		{"too few rows", ihvp(client.WithMinRows(4)), refusal{wire.CodeTooFewRows, "rows", "3", "at least 4"}},
		{"rows < 0", ihvp(client.WithMinRows(-1)), refusal{wire.CodeInvalid, "min rows", "-1", "in [0, 4096]"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.want.check(t, c.err) })
	}
	if err := ihvp(client.WithAtLeast(now), client.WithExactly(now), client.WithMinRows(3)); err != nil {
		t.Errorf("a query that may be answered: %v", err)
	}
	good := wire.Query{Run: "bad", Token: 5, Kind: wire.KindVector, Vectors: 1, DType: wire.F32, Result: wire.F32}
	steps := wire.AppendFloats(wire.AppendUint64s(nil, []wire.Step{10}), []float64{1})
	for _, c := range []struct {
		name string
		bad  func(*wire.Query)
		want refusal
	}{
		{"kind", func(q *wire.Query) { q.Kind = "trace" }, refusal{wire.CodeInvalid, "kind", "trace", "kinds of query"}},
		{"dtype", func(q *wire.Query) { q.DType = "f8" }, refusal{wire.CodeInvalid, "dtype", "f8", "f32, f64, bf16 or f16"}},
		{"result", func(q *wire.Query) { q.Result = "i8" }, refusal{wire.CodeInvalid, "result", "i8", "f32, f64, bf16 or f16"}},
		{"no vectors", func(q *wire.Query) { q.Vectors = 0 }, refusal{wire.CodeInvalid, "vectors", "0", "in [1, 64]"}},
		{"many vectors", func(q *wire.Query) { q.Vectors = math.MaxInt64 }, refusal{wire.CodeInvalid, "vectors", "9223372036854775807", "in [1, 64]"}},
		{"payload", func(q *wire.Query) { q.Payload = []byte{1} }, refusal{wire.CodeInvalid, "payload bytes", "1", "0"}},
		{"deadline", func(q *wire.Query) { q.DeadlineMS = math.MinInt64 }, refusal{wire.CodeInvalid, "deadline_ms", "-9223372036854775808", "in [0,"}},
		{"no steps", func(q *wire.Query) { q.Kind = wire.KindCombine }, refusal{wire.CodeInvalid, "steps", "0", "in [1, 4096]"}},
		{"many steps", func(q *wire.Query) { q.Kind, q.Steps = wire.KindCombine, math.MaxInt64 }, refusal{wire.CodeInvalid, "steps", "9223372036854775807", "4096"}},
		{"steps cut off", func(q *wire.Query) { q.Kind, q.Steps, q.Payload = wire.KindCombine, 1, steps[:15] }, refusal{wire.CodeInvalid, "payload bytes", "15", "16"}},
		{"more steps than payload", func(q *wire.Query) { q.Kind, q.Steps, q.Payload = wire.KindCombine, 2, steps }, refusal{wire.CodeInvalid, "payload bytes", "16", "32"}},
		{"row of two", func(q *wire.Query) { q.Kind, q.Vectors, q.Payload = wire.KindRow, 2, steps }, refusal{wire.CodeInvalid, "vectors", "2", "1 for a row"}},
		{"diagonal of two", func(q *wire.Query) { q.Kind, q.Vectors = wire.KindDiag, 2 }, refusal{wire.CodeInvalid, "vectors", "2", "1 for a diagonal"}},
		{"diagonal with a payload", func(q *wire.Query) { q.Kind, q.Payload = wire.KindDiag, steps }, refusal{wire.CodeInvalid, "payload bytes", "16", "0"}},
		{"column past the last", func(q *wire.Query) { q.Kind, q.Payload = wire.KindColumn, wire.AppendIndices(nil, []int64{1 << 30}) }, refusal{wire.CodeInvalid, "index", "1073741824", "the run's columns"}},
		{"column below the first", func(q *wire.Query) { q.Kind, q.Payload = wire.KindColumn, wire.AppendIndices(nil, []int64{-1}) }, refusal{wire.CodeInvalid, "index", "18446744073709551615", "in [0, "}},
		{"sub-block of nothing", func(q *wire.Query) { q.Kind, q.Result = wire.KindSubblock, wire.F64 }, refusal{wire.CodeInvalid, "payload bytes", "0", "in [8, 16384]"}},
		{"sub-block in float32", func(q *wire.Query) { q.Kind, q.Result, q.Payload = wire.KindSubblock, wire.F32, steps[:8] }, refusal{wire.CodeInvalid, "result", "f32", "f64"}},
		{"sparsity of 1", func(q *wire.Query) { q.Kind, q.Rule, q.Sparsity = wire.KindPrune, wire.RuleJoint, 1 }, refusal{wire.CodeInvalid, "sparsity", "1", "in [0, 1)"}},
		{"prune without a rule", func(q *wire.Query) { q.Kind = wire.KindPrune }, refusal{wire.CodeInvalid, "rule", "missing", "summed or joint"}},
		{"pattern 4:4", patterned(4, 4, 0, 5), refusal{wire.CodeInvalid, "pattern", "4:4", "N:M with 1 <= N < M <= 64"}},
		{"pattern without strips", patterned(2, 4), refusal{wire.CodeInvalid, "payload bytes", "0", "a multiple of 16 and not 0: strips"}},
		{"pattern that begins late", patterned(2, 4, 1, 5), refusal{wire.CodeInvalid, "strips", "wrong", "strip 0 begins at 1, must be at 0"}},
		{"pattern of empty rows", patterned(2, 4, 0, 0), refusal{wire.CodeInvalid, "strips", "wrong", "strip 0 has rows of 0, must be at least 1"}},
		{"pattern beyond the columns", patterned(2, 4, 0, 5, 1<<40, 1), refusal{wire.CodeInvalid, "strip", "1099511627776", "below"}},
		{"pattern of a diagonal", func(q *wire.Query) { q.Kind, q.Keep, q.Of = wire.KindDiag, 2, 4 }, refusal{wire.CodeInvalid, "pattern", "2:4", "left out but for prune"}},
		{"pattern and sparsity", func(q *wire.Query) { patterned(2, 4, 0, 5)(q); q.Sparsity = 0.5 }, refusal{wire.CodeInvalid, "sparsity", "0.5", "0 with a pattern"}},
		{"prune of two", func(q *wire.Query) { q.Kind, q.Rule, q.Vectors = wire.KindPrune, wire.RuleJoint, 2 }, refusal{wire.CodeInvalid, "vectors", "2", "1"}},
		{"compensate without a mask", func(q *wire.Query) { q.Kind = wire.KindCompensate }, refusal{wire.CodeInvalid, "masked", "false", "true"}},
		{"row in float64", func(q *wire.Query) { q.Kind, q.Result, q.Payload = wire.KindRow, wire.F64, steps[:8] }, refusal{wire.CodeInvalid, "result", "f64", "f32"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := good
			c.bad(&q)
			c.want.answer(t, s.coordinator(&q))
		})
	}
	s.unchanged(t)

	// Vectors and fetches of a query that is open.
	reply := as[*wire.QueryReply](t, s.coordinator(&good))
	if again := as[*wire.QueryReply](t, s.coordinator(&good)); *again != *reply {
		t.Errorf("the same query again is %+v, was %+v", again, reply)
	}
	lo, n := info.Range(1)
	w := info.Workers[info.Owner[1]]
	vec := func(a, b int64) *wire.Vec {
		p := payload32(v[lo+a : lo+b])
		return &wire.Vec{Run: "bad", Epoch: reply.Epoch, Query: reply.Query, Shard: 1, Lo: lo + a, N: b - a, DType: wire.F32, Sum: wire.Checksum(p), Payload: p}
	}
	eventually(t, func() error {
		if e, ok := s.worker(w, vec(0, 200)).(*wire.Error); ok {
			return e
		}
		return nil
	})
	inside := fmt.Sprintf("within the shard's [%d, %d)", lo, lo+n)
	for _, c := range []struct {
		name string
		bad  func(*wire.Vec)
		want refusal
	}{
		{"index", func(m *wire.Vec) { m.Index = 1 }, refusal{wire.CodeInvalid, "index", "1", "below the query's 1 vectors"}},
		{"index < 0", func(m *wire.Vec) { m.Index = math.MinInt64 }, refusal{wire.CodeInvalid, "index", "-9223372036854775808", "in [0, 63]"}},
		{"dtype", func(m *wire.Vec) { m.DType, m.N = wire.F64, 100 }, refusal{wire.CodeInvalid, "dtype", "f64", "f32, as the query says"}},
		{"outside", func(m *wire.Vec) { m.Lo = lo + n - 1 }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"offset overflows", func(m *wire.Vec) { m.Lo = math.MaxInt64 }, refusal{wire.CodeInvalid, "columns", "9223372036854775807", "within"}},
		{"overlap", func(m *wire.Vec) { m.Lo = lo + 199 }, refusal{wire.CodeInvalid, "columns", "", "disjoint"}},
		{"cut off", func(m *wire.Vec) { m.Payload = m.Payload[:400] }, refusal{wire.CodeInvalid, "payload bytes", "400", "800"}},
		{"epoch", func(m *wire.Vec) { m.Epoch.Revision += 3 }, refusal{wire.CodeStaleEpoch, "epoch", "", reply.Epoch.String()}},
		{"checksum", func(m *wire.Vec) { m.Sum ^= 1 }, refusal{wire.CodeMalformed, "checksum", "", ""}},
	} {
		t.Run("vec: "+c.name, func(t *testing.T) {
			m := vec(200, 400)
			c.bad(m)
			c.want.answer(t, s.worker(w, m))
		})
	}
	as[*wire.Ack](t, s.worker(w, vec(200, n)))
	for _, shard := range []int{0, 2} {
		a, cols := info.Range(shard)
		p := payload32(v[a : a+cols])
		m := &wire.Vec{Run: "bad", Epoch: reply.Epoch, Query: reply.Query, Shard: shard, Lo: a, N: cols, DType: wire.F32, Sum: wire.Checksum(p), Payload: p}
		as[*wire.Ack](t, s.worker(info.Workers[info.Owner[shard]], m))
	}
	ready := as[*wire.ResultReply](t, s.coordinator(&wire.Result{Run: "bad", Epoch: reply.Epoch, Query: reply.Query}))
	if ready.State != wire.StateReady {
		t.Fatalf("the query is %+v", ready)
	}
	for _, c := range []struct {
		name string
		bad  func(*wire.Fetch)
		want refusal
	}{
		{"index", func(m *wire.Fetch) { m.Index = 1 }, refusal{wire.CodeInvalid, "index", "1", "below the query's 1 vectors"}},
		{"dtype", func(m *wire.Fetch) { m.DType = wire.F64 }, refusal{wire.CodeInvalid, "dtype", "f64", "f32, as the query says"}},
		{"no dtype", func(m *wire.Fetch) { m.DType = "" }, refusal{wire.CodeInvalid, "dtype", "", "f32, f64, bf16 or f16"}},
		{"outside", func(m *wire.Fetch) { m.Lo-- }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"behind", func(m *wire.Fetch) { m.N = n + 1 }, refusal{wire.CodeInvalid, "columns", "", inside}},
		{"empty", func(m *wire.Fetch) { m.N = 0 }, refusal{wire.CodeInvalid, "columns", "", "not empty"}},
		{"overflows", func(m *wire.Fetch) { m.Lo, m.N = math.MaxInt64, math.MaxInt64 }, refusal{wire.CodeInvalid, "columns", "9223372036854775807", "within"}},
		{"too large", func(m *wire.Fetch) { m.N = wire.MaxPayload/4 + 1 }, refusal{wire.CodeTooLarge, "columns of a chunk", "250001", "250000"}},
		{"epoch", func(m *wire.Fetch) { m.Epoch.Revision-- }, refusal{wire.CodeStaleEpoch, "epoch", "", reply.Epoch.String()}},
	} {
		t.Run("fetch: "+c.name, func(t *testing.T) {
			m := &wire.Fetch{Run: "bad", Epoch: reply.Epoch, Query: reply.Query, Shard: 1, Lo: lo, N: n, DType: wire.F32}
			c.bad(m)
			got := s.worker(w, m)
			if c.name == "no dtype" {
				if e := as[*wire.Error](t, got); e.Code != c.want.code || e.Field != c.want.field {
					t.Errorf("answer is %+v", e)
				}
				return
			}
			c.want.answer(t, got)
		})
	}
	p := as[*wire.Part](t, s.worker(w, &wire.Fetch{Run: "bad", Epoch: reply.Epoch, Query: reply.Query, Shard: 1, Lo: lo, N: n, DType: wire.F32}))
	if err := ihvp(); err != nil || !slices.Equal(p.Payload, payload32(dst[lo:lo+n])) {
		t.Errorf("the query between bad messages gives other bytes (%v)", err)
	}
	as[*wire.OK](t, s.coordinator(&wire.Close{Run: "bad", Epoch: reply.Epoch, Query: reply.Query}))
	as[*wire.OK](t, s.coordinator(&wire.Close{Run: "bad", Epoch: reply.Epoch, Query: reply.Query}))
	eventually(t, func() error {
		e, ok := s.worker(w, &wire.Fetch{Run: "bad", Epoch: reply.Epoch, Query: reply.Query, Shard: 1, Lo: lo, N: n, DType: wire.F32}).(*wire.Error)
		if !ok || e.Code != wire.CodeUnknownQuery {
			return fmt.Errorf("a closed query can be fetched (%v)", e)
		}
		return nil
	})
	s.unchanged(t)
	s.memory()
}

// TestBeforeAnyGradient: a query of an empty window is v/λ.
func TestBeforeAnyGradient(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	const d, lambda = 3001, 0.3
	run := c.attach(cl, client.RunConfig{Name: "empty", Dim: d, Window: 3, Damping: lambda, Shards: 3})
	r := rand.New(rand.NewPCG(13, 14))
	v, x := make([]float64, d), make([]float64, d)
	for i := range v {
		v[i] = r.NormFloat64()
	}
	for _, divisor := range []wire.Divisor{wire.Capacity, wire.Count} {
		for _, l := range []float64{lambda, 1e-6} {
			a, err := run.IHVP64(soon(t), x, v, client.WithDamping(l), client.WithDivisor(divisor))
			if err != nil || a.Rows != 0 || a.Version != 0 || !(a.Bound() >= 0x1p-53 && a.Bound() < 1e-14) {
				t.Fatalf("answer %+v, %v", a, err)
			}
			for i := range v {
				if x[i] != v[i]/l {
					t.Fatalf("element %d is %g, want %g", i, x[i], v[i]/l)
				}
			}
		}
	}
	f, x32 := normal(r, d), make([]float32, d)
	if _, err := run.IHVP(soon(t), x32, f); err != nil {
		t.Fatal(err)
	}
	for i := range f {
		if x32[i] != float32(float64(f[i])/lambda) {
			t.Fatalf("element %d is %g, want %g", i, x32[i], float64(f[i])/lambda)
		}
	}
	_, err := run.IHVPStep(soon(t), x32, 0)
	refusal{wire.CodeUnknownStep, "step", "0", "window of empty"}.check(t, err)
	if w, err := run.Steps(soon(t)); err != nil || len(w.Steps) != 0 || w.Version != 0 {
		t.Errorf("steps are %+v, %v", w, err)
	}
	zero := make([]float64, d)
	if a, err := run.IHVP64(soon(t), x, zero); err != nil || a.Bound() != 0 || !slices.Equal(x, zero) {
		t.Errorf("H⁻¹0: %+v, %v", a, err)
	}
}

// TestTooUncertain asks where the bound of the error exceeds 1e-3: the query is refused with the
// numbers, never the gradient.
func TestTooUncertain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	last := make([]float32, siteDim)
	if _, err := s.run.Gradient(soon(t), last, 30); err != nil {
		t.Fatal(err)
	}
	uncertain := func(t *testing.T, err error) {
		t.Helper()
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.CodeIllConditioned {
			t.Fatalf("error is %v, want ill_conditioned", err)
		}
		if e.Field == "error bound" {
			var bound float64
			if _, err := fmt.Sscan(e.Value, &bound); err != nil || !(bound > wire.MaxErrorRate) {
				t.Errorf("the bound is %q, want a number above 1e-3", e.Value)
			}
			if e.Limit != "at most 0.001" {
				t.Errorf("the limit is %q", e.Limit)
			}
		}
		if !strings.Contains(e.Error(), "damping") {
			t.Errorf("%q does not say what helps", e.Error())
		}
		t.Log(e)
	}
	x, x32 := make([]float64, siteDim), make([]float32, siteDim)
	v := make([]float64, siteDim)
	for i := range v {
		v[i] = float64(last[i])
	}
	// A stored row passed as v, α/(Nλ) = 5000/(4·1e-13): maths.md's case. As a combination it is fine.
	const lambda = 1e-13
	t.Run("a stored row as v", func(t *testing.T) {
		_, err := s.run.IHVP64(soon(t), x, v, client.WithDamping(lambda))
		uncertain(t, err)
		_, err = s.run.IHVP(soon(t), x32, last, client.WithDamping(lambda))
		uncertain(t, err)
		a, err := s.run.IHVPStep(soon(t), x32, 30, client.WithDamping(lambda))
		if err != nil || !(a.Bound() < 1e-7) {
			t.Errorf("as a combination: %+v, %v", a, err)
		}
		s.unchanged(t)
	})
	t.Run("one of two vectors", func(t *testing.T) {
		_, err := s.run.IHVPs64(soon(t), [][]float64{x, make([]float64, siteDim)}, [][]float64{s.v, v}, client.WithDamping(lambda))
		uncertain(t, err)
		if _, err := s.run.IHVP64(soon(t), x, s.v, client.WithDamping(lambda)); err != nil {
			t.Errorf("the other one alone: %v", err)
		}
		s.unchanged(t)
	})
	t.Run("at the limit", func(t *testing.T) { // the first damping that is refused, with its number
		for l := 1e-6; ; l /= 1.5 {
			a, err := s.run.IHVP64(soon(t), x, v, client.WithDamping(l))
			if err == nil {
				if !(a.Bound() <= wire.MaxErrorRate) {
					t.Fatalf("answered at λ = %g with a bound of %g", l, a.Bound())
				}
				continue
			}
			uncertain(t, err)
			if strings.Contains(err.Error(), "Inf") {
				t.Errorf("at λ = %g the bound has no number", l)
			}
			break
		}
		s.unchanged(t)
	})
	t.Run("precondition", func(t *testing.T) { // the same row once more, at a damping below its rounding errors
		a, err := s.run.Precondition64(soon(t), 40, x, last, client.WithDamping(1e-300))
		uncertain(t, err)
		if a.Version != s.was.Version+1 || a.Rows != 4 {
			t.Errorf("answer %+v, want the gradient committed", a)
		}
		row := make([]float32, siteDim)
		if _, err := s.run.Gradient(soon(t), row, 40); err != nil || !slices.Equal(bits32(row), bits32(last)) {
			t.Errorf("the gradient is not kept (%v)", err)
		}
		if _, err := s.run.IHVPStep(soon(t), x32, 40); err != nil {
			t.Errorf("at the run's damping: %v", err)
		}
		s.settled()
		s.memory()
	})
}

// TestNoWorkers: there is nothing to place shards on. Attach waits for a worker as long as its
// context lets it.
func TestNoWorkers(t *testing.T) {
	t.Parallel()
	c := start(t, shape{coordinator: calm})
	s, cl := c.stranger("stranger"), c.client()
	spec := wire.RunSpec{Name: "early", Dim: 100, Window: 2, Spare: 2, Shards: 1, Damping: 1, Divisor: wire.Capacity, Store: wire.F32, Durability: wire.DurabilityMemory}
	refusal{wire.CodeNoWorkers, "workers", "0", "at least 1"}.answer(t, s.ask(s.sub.Coordinator(wire.OpCreate, s.name), &wire.Create{Spec: spec}))
	cfg := client.RunConfig{Name: "early", Dim: 100, Window: 2, Damping: 1}
	begun := time.Now()
	_, err := cl.Attach(within(t, 6*time.Second), cfg) // in its first half second a coordinator says unavailable, and a try takes up to 2 s
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wire.ErrTimeout) || !errors.Is(err, wire.ErrNoWorkers) {
		t.Errorf("error is %v, want a timeout that says that there are no workers", err)
	}
	if took := time.Since(begun); took > 12*time.Second {
		t.Errorf("it took %v to give up after 6 s", took)
	}
	if runs, err := cl.Runs(soon(t)); err != nil || len(runs) != 0 {
		t.Errorf("runs are %v, %v: want none", runs, err)
	}
	c.startWorker("w0", 1<<20, 1)
	if _, err := cl.Attach(soon(t), cfg); err != nil {
		t.Errorf("with a worker: %v", err)
	}
}

// TestNotEnoughMemory: memory is asked for, in bytes, before a run is created.
func TestNotEnoughMemory(t *testing.T) {
	t.Parallel()
	const capacity = 1 << 20
	c := start(t, shape{workers: 2, capacity: capacity})
	s, cl := c.stranger("stranger"), c.client()
	eventually(t, func() error {
		w, err := cl.Workers(soon(t))
		if err == nil && len(w) < 2 {
			err = fmt.Errorf("%d workers", len(w))
		}
		return err
	})
	for _, c := range []struct {
		name         string
		cfg          client.RunConfig
		value, limit string
	}{
		{"in all", client.RunConfig{Name: "big", Dim: 1_000_000, Window: 16, Shards: 4}, "72062272 bytes (18 slots × 1000000 columns × 4)", "2097152 bytes that are free on 2 workers"},
		{"one shard", client.RunConfig{Name: "big", Dim: 20_000, Window: 14, Shards: 1}, "1281216 bytes", "of which the roomiest has 1048576"},
		{"beyond all bounds", client.RunConfig{Name: "big", Dim: wire.MaxDim, Window: 4096, Spare: 64, Shards: 1}, "4160 slots × 1125899906842624 columns", "2097152 bytes that are free"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := cl.Attach(soon(t), c.cfg)
			refusal{wire.CodeTooLarge, "memory", c.value, c.limit}.check(t, err)
			if runs, err := cl.Runs(soon(t)); err != nil || len(runs) != 0 {
				t.Errorf("runs are %v, %v: want none", runs, err)
			}
		})
	}
	// A run that fits, with little room left for vectors.
	run := c.attach(cl, client.RunConfig{Name: "small", Dim: 20_000, Window: 4, Damping: 1, Shards: 2})
	v, x := make([][]float64, 60), make([][]float64, 60)
	for i := range v {
		v[i], x[i] = make([]float64, 20_000), make([]float64, 20_000)
		v[i][i] = 1
	}
	_, err := run.IHVPs64(soon(t), x, v)
	refusal{wire.CodeTooLarge, "memory", "bytes for the vectors of a query on shard", "bytes free on worker"}.check(t, err)
	if _, err := run.IHVPs64(soon(t), x[:4], v[:4]); err != nil || x[3][3] != 1 {
		t.Errorf("four vectors: %v", err)
	}
	// Beside the first run, of which the workers' heartbeats need not tell yet.
	_, err = cl.Attach(soon(t), client.RunConfig{Name: "second", Dim: 30_000, Window: 14, Shards: 2})
	refusal{wire.CodeTooLarge, "memory", "1921792 bytes", "roomiest has"}.check(t, err)
	if info := s.info("small"); info.State != wire.StateReady {
		t.Errorf("the run is %s", info.State)
	}
}

// patterned makes a query one for a pattern, with strips of pairs of numbers.
func patterned(keep, of int, strips ...uint64) func(*wire.Query) {
	return func(q *wire.Query) {
		q.Kind, q.Vectors, q.DType, q.Rule, q.Keep, q.Of = wire.KindPrune, 1, wire.F32, wire.RuleJoint, keep, of
		q.Payload = wire.AppendUint64s(nil, strips)
	}
}
