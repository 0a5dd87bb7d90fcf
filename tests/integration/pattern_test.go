package integration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mfac/client"
	"mfac/wire"
)

// patternChoice is what a pattern prunes, by a walk along each row of each tensor: of every group the
// weights of lowest score, those that are gone counted. ok is false where too many are not to be touched.
// near reports whether the last one that goes and the first one that stays can't be told apart.
func (p pruneReference) patternChoice(t rapid.TB, w []float64, mask []int8, layout []wire.Tensor, pattern wire.Pattern) (chosen []int, ok, near bool) {
	_, scores := p.choice(t, w, mask, 1e-9+float64(count(mask, wire.MaskPruned))/float64(len(w)))
	if len(layout) == 0 {
		layout = []wire.Tensor{{Shape: []int64{int64(len(w))}}}
	}
	start := 0
	for _, tensor := range layout {
		n := int(tensor.Size())
		row := n
		if len(tensor.Shape) > 0 {
			row = int(tensor.Shape[len(tensor.Shape)-1])
		}
		for r := start; r < start+n; r += row {
			for g := r; g < r+row; g += pattern.Of {
				var free []int
				left := 0
				for j := g; j < min(g+pattern.Of, r+row); j++ {
					if mask == nil || mask[j] == wire.MaskFree {
						free = append(free, j)
					}
					if mask == nil || mask[j] != wire.MaskPruned {
						left++
					}
				}
				go_ := max(left-pattern.Keep, 0)
				if len(free) == 0 {
					continue
				}
				if go_ > len(free) {
					return nil, false, false
				}
				slices.SortStableFunc(free, func(a, b int) int {
					switch {
					case scores[a] < scores[b]:
						return -1
					case scores[a] > scores[b]:
						return 1
					}
					return 0
				})
				if 0 < go_ && go_ < len(free) {
					low, high := scores[free[go_-1]], scores[free[go_]]
					near = near || high > 0 && high-low <= tieScore*high
				}
				chosen = append(chosen, free[:go_]...)
			}
		}
		start += n
	}
	return chosen, true, near
}

func count(mask []int8, what int8) (n int) {
	for _, m := range mask {
		if m == what {
			n++
		}
	}
	return n
}

// TestPrunePattern compares patterns N:M with dense float64 algebra: both rules, masks, layouts, and
// groups that lie across shards.
func TestPrunePattern(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	type patternCase struct {
		pruneCase
		layout []wire.Tensor
	}
	var cases []patternCase
	for i, s := range []struct {
		layout              []wire.Tensor
		dim, window, shards int
		divisor             wire.Divisor
	}{
		{nil, 1, 2, 1, ""},
		{nil, 61, 5, 7, ""},
		{nil, 23, 4, 23, ""}, // groups across many shards
		{[]wire.Tensor{{Name: "w", Shape: []int64{5, 7}}, {Name: "b", Shape: []int64{7}}, {Name: "s"}, {Name: "k", Shape: []int64{2, 3, 3}}}, 61, 6, 4, wire.Count},
		{[]wire.Tensor{{Name: "w", Shape: []int64{9, 8}}, {Name: "v", Shape: []int64{8}}}, 80, 12, 3, ""},
	} {
		name := fmt.Sprintf("pattern-%d", i)
		if s.layout != nil { // made here, joined below
			if _, err := cl.Attach(within(t, time.Minute), client.RunConfig{Name: name, Layout: s.layout, Window: s.window, Damping: 0.01, Shards: s.shards, Divisor: s.divisor}); err != nil {
				t.Fatal(err)
			}
		}
		cases = append(cases, patternCase{filled(t, cl, name, s.dim, s.window, s.shards, s.divisor, s.layout), s.layout})
	}
	refused := 0
	rapid.Check(t, func(rt *rapid.T) {
		pc := rapid.SampledFrom(cases).Draw(rt, "run")
		ctx := within(t, time.Minute)
		d := int(pc.run.Dim())
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		w := make([]float64, d)
		for j := range w {
			w[j] = rng.NormFloat64() * math.Exp2(float64(rng.IntN(8)))
			if rng.IntN(10) == 0 {
				w[j] = 0 // scores that are equal
			}
		}
		of := rapid.SampledFrom([]int{2, 3, 4, 4, 8, 16, 64}).Draw(rt, "of")
		p := client.Pruning{Rule: rapid.SampledFrom([]string{wire.RuleSummed, wire.RuleJoint}).Draw(rt, "rule"),
			Pattern: wire.Pattern{Keep: rapid.IntRange(1, of-1).Draw(rt, "keep"), Of: of}}
		if rapid.Bool().Draw(rt, "masked") && d > 2 {
			p.Mask = make([]int8, d)
			for j := range p.Mask {
				p.Mask[j] = []int8{0, 0, 0, 0, 0, 0, 1, -1}[rng.IntN(8)]
			}
			p.Mask[0], p.Mask[d-1] = 0, 1
		}
		got := make([]float64, d)
		_, err := pc.run.Prune64(ctx, got, w, p)
		chosen, ok, near := pc.ref.patternChoice(rt, w, p.Mask, pc.layout, p.Pattern)
		if !ok {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mask is 1 in more than %d of columns [", p.Pattern.Keep)) {
				rt.Fatalf("%+v: %v, want an error that names the mask", p, err)
			}
			refused++
			return
		}
		if err != nil {
			rt.Fatalf("%+v: %v", p, err)
		}
		if near {
			return // the reference can't tell
		}
		want := pc.ref.pruned(rt, w, p.Mask, chosen, p.Rule)
		for j := range want { // a free weight that is 0 and not adapted
			if want[j] == 0 && got[j] != 0 || want[j] != 0 && got[j] == 0 {
				rt.Fatalf("%+v: weight %d of %v is %g, want %g (chosen %v)", p, j, w, got[j], want[j], chosen)
			}
		}
		checkPruned(rt, fmt.Sprintf("%+v", p), got, want)
	})
	t.Logf("%d refused", refused)
}

// filled is newPruneCase, of a run that may be there already, with its layout.
func filled(t *testing.T, cl *client.Client, name string, dim, window, shards int, divisor wire.Divisor, layout []wire.Tensor) pruneCase {
	t.Helper()
	if layout == nil {
		return newPruneCase(t, cl, name, dim, window, window, shards, divisor)
	}
	ctx := within(t, time.Minute)
	r, err := cl.Join(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	c := pruneCase{run: r, rng: rand.New(rand.NewPCG(uint64(dim), 8)), ref: pruneReference{lambda: 0.01, n: float64(window)}}
	for i := range window {
		g, wide := make([]float32, dim), make([]float64, dim)
		for j := range g {
			g[j] = float32(c.rng.NormFloat64())
			wide[j] = float64(g[j])
		}
		if _, err := r.Publish(ctx, wire.Step(i), g); err != nil {
			t.Fatal(err)
		}
		c.ref.g = append(c.ref.g, wide)
	}
	return c
}

// TestPrunePatternVectors prunes the real network to 2:4: the pattern holds in every group, the joint rule
// minimises the quadratic, and neither the number of workers nor that of shards changes which weights go.
func TestPrunePatternVectors(t *testing.T) {
	t.Parallel()
	v := openVectors(t)
	grads, weights := v.grads(), v.f32("weights")
	wide := make([]float64, len(weights))
	for j, x := range weights {
		wide[j] = float64(x)
	}
	layout := []wire.Tensor{{Name: "w1", Shape: []int64{784, 16}}, {Name: "b1", Shape: []int64{16}}, {Name: "w2", Shape: []int64{16, 10}}, {Name: "b2", Shape: []int64{10}}}
	mask := make([]int8, vectorsDim) // biases stay
	for _, r := range [][2]int{{784 * 16, 784*16 + 16}, {vectorsDim - 10, vectorsDim}} {
		for j := r[0]; j < r[1]; j++ {
			mask[j] = wire.MaskFixed
		}
	}
	answers := map[string][]float64{}
	for _, s := range []struct{ workers, shards int }{{1, 4}, {3, 4}, {2, 7}} {
		c := start(t, shape{workers: s.workers})
		ctx := within(t, time.Minute)
		size := int64(0)
		for _, x := range layout {
			size += x.Size()
		}
		if size != vectorsDim {
			t.Fatalf("the layout has %d weights", size)
		}
		r, err := c.client().Attach(ctx, client.RunConfig{Name: "two-four", Layout: layout, Window: vectorsWindow, Damping: 0.01, Shards: s.shards})
		if err != nil {
			t.Fatal(err)
		}
		for k, g := range grads[len(grads)-vectorsWindow:] {
			if _, err := r.Publish(ctx, wire.Step(k), g); err != nil {
				t.Fatal(err)
			}
		}
		for _, rule := range []string{wire.RuleSummed, wire.RuleJoint} {
			what := fmt.Sprintf("%s, %d shards", rule, s.shards)
			got := make([]float64, vectorsDim)
			if _, err := r.Prune64(ctx, got, wide, client.Pruning{Pattern: wire.Pattern{Keep: 2, Of: 4}, Rule: rule, Mask: mask}); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, x := range layout[:1] { // 16 is 4 groups; w2 has tails
				at := 0
				for g := at; g < at+int(x.Size()); g += 4 {
					zeros := 0
					for _, x := range got[g : g+4] {
						if x == 0 {
							zeros++
						}
					}
					if zeros < 2 {
						t.Fatalf("%s: weights %d to %d are %v", what, g, g+3, got[g:g+4])
					}
				}
			}
			for r := 784*16 + 16; r < vectorsDim-10; r += 10 { // groups of 4, 4 and 2 of which both stay
				zeros := 0
				for _, x := range got[r : r+8] {
					if x == 0 {
						zeros++
					}
				}
				if zeros != 4 || got[r+8] == 0 || got[r+9] == 0 {
					t.Fatalf("%s: row at %d is %v", what, r, got[r:r+10])
				}
			}
			for _, j := range []int{784 * 16, vectorsDim - 1} {
				if got[j] != wide[j] {
					t.Errorf("%s: bias %d has changed", what, j)
				}
			}
			if before, ok := answers[what]; ok && !slices.EqualFunc(before, got, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
				t.Errorf("%s: other bits with %d workers", what, s.workers)
			}
			for other, before := range answers {
				if strings.HasPrefix(other, rule) {
					for j := range got {
						if (got[j] == 0) != (before[j] == 0) {
							t.Fatalf("%s: weight %d is %g, %g with %s", what, j, got[j], before[j], other)
						}
					}
				}
			}
			answers[what] = got
		}
	}
}

// TestPrunePatternBad sees that bad patterns get an error that says what is wrong, and change nothing.
func TestPrunePatternBad(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	pc := newPruneCase(t, c.client(), "bad-pattern", 10, 3, 3, 2, "")
	ctx := within(t, time.Minute)
	w, dst := make([]float32, 10), make([]float32, 10)
	for j := range w {
		w[j] = float32(j + 1)
	}
	two := wire.Pattern{Keep: 2, Of: 4}
	masked := func(m ...int8) []int8 { return append(m, make([]int8, 10-len(m))...) }
	for _, bad := range []struct {
		w    []float32
		p    client.Pruning
		says string
	}{
		{w, client.Pruning{Pattern: wire.Pattern{Keep: 4, Of: 4}}, "pattern is 4:4, must be N:M with 1 <= N < M <= 64"},
		{w, client.Pruning{Pattern: wire.Pattern{Keep: 0, Of: 4}}, "pattern is 0:4"},
		{w, client.Pruning{Pattern: wire.Pattern{Keep: 1, Of: 65}}, "pattern is 1:65"},
		{w, client.Pruning{Pattern: wire.Pattern{Keep: -1}}, "pattern is -1:0"},
		{w, client.Pruning{Pattern: two, Sparsity: 0.5}, "sparsity is 0.5, must be 0 with a pattern"},
		{w, client.Pruning{Pattern: two, Steps: 2}, "steps is 2, must be 1 with a pattern"},
		{w, client.Pruning{Pattern: two, Rule: "obs"}, "rule is obs"},
		{w, client.Pruning{Pattern: two, Mask: masked()}, "mask is empty"},
		{w, client.Pruning{Pattern: two, Mask: slices.Repeat([]int8{1}, 10)}, "mask is full"},
		{w, client.Pruning{Pattern: two, Mask: masked(1, 1, 1)}, "mask is 1 in more than 2 of columns [0, 4)"},
		{w, client.Pruning{Pattern: two, Mask: masked(0, 0, 0, 0, 1, 1, 1)}, "mask is 1 in more than 2 of columns [4, 8)"}, // which lie on both shards
		{append(slices.Clone(w[:9]), float32(math.NaN())), client.Pruning{Pattern: two}, "column is 9, must be finite"},
	} {
		dst[0] = 42
		_, err := pc.run.Prune(ctx, dst, bad.w, bad.p)
		if err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%+v: %v, want %q", bad.p, err, bad.says)
		}
		if dst[0] != 42 {
			t.Errorf("%+v: the result was written", bad.p)
		}
	}
	if a, err := pc.run.Prune(ctx, dst, w, client.Pruning{Pattern: two, Mask: masked(1, 1, 1, 1)}); err != nil || a.Version != 3 || slices.Contains(dst[8:], 0) || !slices.Equal(dst[:4], w[:4]) {
		t.Errorf("afterwards: %v, %+v, %v", dst, a, err)
	}
}

// mostSelection is what a selection may move over the coordinator, whatever d (issue 5).
const mostSelection = 1_000_000

// TestPruneBytes counts what pruning moves over the coordinator, all of it, heartbeats too, over 4 workers:
// nothing of length d. The figure at d = 1e7 is in docs/pruning.md.
func TestPruneBytes(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 4})
	cl := c.client()
	for _, d := range []int{1000, 200_000} { // the larger one's weights alone are 0.8 MB
		pc := func() *client.Run {
			ctx := within(t, time.Minute)
			r, err := cl.Attach(ctx, client.RunConfig{Name: fmt.Sprintf("bytes-%d", d), Dim: int64(d), Window: 4, Damping: 0.01, Shards: 4})
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(uint64(d), 7))
			g := make([]float32, d)
			for i := range 4 {
				for j := range g {
					g[j] = float32(rng.NormFloat64())
				}
				if _, err := r.Publish(ctx, wire.Step(i), g); err != nil {
					t.Fatal(err)
				}
			}
			return r
		}()
		w, got := make([]float32, d), make([]float32, d)
		for j := range w {
			w[j] = float32(j%1009) - 500.5
		}
		for _, p := range []client.Pruning{{Sparsity: 0.9}, {Sparsity: 0.5, Rule: wire.RuleJoint}, {Pattern: wire.Pattern{Keep: 2, Of: 4}}} {
			nc := c.coords["c0"].nc
			before := nc.Stats()
			if _, err := pc.Prune(within(t, time.Minute), got, w, p); err != nil {
				t.Fatal(err)
			}
			after := nc.Stats()
			bytes := after.InBytes - before.InBytes + after.OutBytes - before.OutBytes
			t.Logf("d = %d, %+v: %d bytes", d, p, bytes)
			if bytes > mostSelection || bytes == 0 {
				t.Errorf("d = %d, %+v: %d bytes over the coordinator, want at most %d", d, p, bytes, mostSelection)
			}
		}
	}
}

// TestPrunePhases sees that a client hears how far its pruning is, step by step.
func TestPrunePhases(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 1, threads: 1})
	ctx := within(t, time.Minute)
	const d, m = 20_000, 1024 // a second and more
	r, err := c.client().Attach(ctx, client.RunConfig{Name: "phases", Dim: d, Window: m, Damping: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	rows := make([][]float32, m)
	rng := rand.New(rand.NewPCG(1, 7))
	for i := range rows {
		rows[i] = make([]float32, d)
		for j := range rows[i] {
			rows[i][j] = float32(rng.NormFloat64())
		}
	}
	if _, err := r.PublishMany(ctx, 1, rows); err != nil {
		t.Fatal(err)
	}
	w := rows[0]
	got := make([]float32, d)
	var heard []client.Phase
	for range 5 { // till one has lasted long enough for the coordinator to tell
		p := client.Pruning{Sparsity: 0.9, Rule: wire.RuleJoint, Steps: 2}
		if _, err := r.Prune(ctx, got, w, p, client.WithPhases(func(p client.Phase) { heard = append(heard, p) })); err != nil {
			t.Fatal(err)
		}
		if len(heard) > 0 {
			break
		}
	}
	if len(heard) == 0 {
		t.Error("no phase was told")
	}
	for _, p := range heard {
		if !slices.Contains([]string{"gram", "scores", "selection", "update"}, p.Name) || p.Done < 0 || p.Done > p.Total || p.Step < 1 || p.Step > 2 || p.Steps != 2 {
			t.Errorf("phase %+v", p)
		}
	}
}
