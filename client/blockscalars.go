package client

import (
	"context"
	"math"
	"slices"
	"sort"

	"mfac/wire"
)

// BlockScalars are the numbers of one diagonal block of H.
type BlockScalars struct {
	Tensor string `json:"tensor,omitempty"` // that it lies in; of blocks that cross tensors' borders the one it begins in
	Lo     int64  `json:"lo"`               // its columns, [Lo, Hi)
	Hi     int64  `json:"hi"`
	Scalars
}

// BlockScalars is Scalars of each block of H, as if its columns were all there are: the sensitivities by which HAWQ (Dong et al., NeurIPS 2020:
// the trace of a layer's Hessian) and HAP rank layers. blocks is WithTensorBlocks(), WithBlocks(B) or WithBlocksAcross(B), of at most 4,096 blocks, or nil in a run of blocks; SumBlocks gives
// those of the block-diagonal H. The shards make the smaller Gram matrix of each block, n²q/2 products or q²n/2, the coordinator finds its eigenvalues, O(min(q, n)³) where a
// block of up to 499 columns lies in one shard, O(n³) else: one block after the other, so give ctx the time. Options and errors are those of Scalars. Where
// tensors have dampings of their own, a block's numbers are at its own, which change by the same factor.
func (r *Run) BlockScalars(ctx context.Context, dampings []float64, blocks BlocksOption, opts ...QueryOption) ([]BlockScalars, error) {
	if blocks != nil {
		opts = append(opts[:len(opts):len(opts)], blocks)
	}
	c, dampings, err := r.scalarsCall(dampings, opts)
	if err == nil && c.inRun(r) == nil {
		err = wire.Invalid("blocks", "nil", "given: the run has none of its own")
	}
	if err != nil {
		return nil, asking(wire.KindScalars, err)
	}
	return r.blockScalars(ctx, dampings, c)
}

func (r *Run) blockScalars(ctx context.Context, dampings []float64, c *call) ([]BlockScalars, error) {
	c.blocks = c.inRun(r) // said in full: the answer is by them
	layout, err := r.Layout(ctx)
	if err != nil {
		return nil, asking(wire.KindScalars, err)
	}
	q := r.numbers(wire.KindScalars, 1, nil, c)
	q.req.Payload = wire.AppendFloats(nil, dampings)
	a, err := q.ask(ctx)
	if err != nil {
		return nil, err
	}
	part, err := q.req.Partition(r.spec.Dim)
	if err != nil {
		return nil, asking(wire.KindScalars, err)
	}
	each := wire.ScalarsHead + wire.ScalarsEach*len(dampings)
	var out []BlockScalars
	for lo := int64(0); lo < r.spec.Dim; {
		_, hi := part.At(lo)
		out = append(out, BlockScalars{Lo: lo, Hi: hi})
		lo = hi
	}
	if err := checkValues(len(q.values), each*len(out)); err != nil {
		return nil, asking(wire.KindScalars, err)
	}
	for i := range out {
		b := &out[i]
		own := slices.Clone(dampings)
		for k := range own {
			own[k] *= r.spec.Scales.At(b.Lo)[0]
		}
		b.Scalars = scalarsOf(a, q.values[i*each:(i+1)*each], own)
		if k := sort.Search(len(layout), func(k int) bool { return layout[k].Offset > b.Lo }); k > 0 {
			b.Tensor = layout[k-1].Name
		}
	}
	return out, nil
}

// SumBlocks is the numbers of the H that has these blocks: log det, traces and dimensions are sums, norms and extremes those of all. There is
// no K of them together: CondK is 0. Damping is the least, where tensors have dampings of their own.
func SumBlocks(blocks []BlockScalars) Scalars {
	var s Scalars
	squares, off := 0.0, 0.0
	for i, b := range blocks {
		if i == 0 {
			s = Scalars{Version: b.Version, Rows: b.Rows, N: b.N, At: make([]ScalarsAt, len(b.At))}
		}
		s.Trace.add(b.Trace)
		squares, off = squares+b.Frobenius.Value*b.Frobenius.Value, off+b.Frobenius.Error*b.Frobenius.Error
		s.Spectral.most(b.Spectral, i == 0, 1)
		for k, x := range b.At {
			t := &s.At[k]
			if i == 0 || x.Damping < t.Damping {
				t.Damping = x.Damping
			}
			t.LogDet.add(x.LogDet)
			t.TraceInverse.add(x.TraceInverse)
			t.EffectiveDim.add(x.EffectiveDim)
			t.Largest.most(x.Largest, i == 0, 1)
			t.Smallest.most(x.Smallest, i == 0, -1)
		}
	}
	s.Frobenius = Estimate{math.Sqrt(squares), math.Sqrt(off) + float64(len(blocks))*roundOff*math.Sqrt(squares)}
	for k := range s.At {
		t := &s.At[k]
		c := t.Largest.Value / t.Smallest.Value
		// An eigenvalue of H is λ at least.
		up := (t.Largest.Value + t.Largest.Error) / max(t.Smallest.Value-t.Smallest.Error, t.Damping)
		down := max(t.Largest.Value-t.Largest.Error, t.Damping) / (t.Smallest.Value + t.Smallest.Error)
		t.CondH = Estimate{c, max(up-c, c-down, 0) + 8*roundOff*c}
	}
	return s
}

// roundOff is what a float64 is rounded by.
const roundOff = 0x1p-52

func (e *Estimate) add(x Estimate) {
	e.Value += x.Value
	e.Error += x.Error + roundOff*math.Abs(e.Value)
}

// most takes the larger one, or with sign −1 the smaller one: it is off by the larger error at most.
func (e *Estimate) most(x Estimate, first bool, sign float64) {
	if first || sign*x.Value > sign*e.Value {
		e.Value = x.Value
	}
	e.Error = max(e.Error, x.Error)
}
