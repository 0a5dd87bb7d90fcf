package client

import (
	"context"
	"fmt"

	"mfac/wire"
)

// This file: diagonal blocks of H in its place (maths.md, "Blocks"; docs/blocks.md).

// blocks says which blocks.
type blocks struct {
	cols   int64
	across bool // tensors' borders
}

// BlocksOption replaces H by its diagonal blocks, in IHVPs, Diag, DiagTo, Element, Subblock, Prune, BlockScalars and their kin: it is an option of queries. Other queries
// refuse it. An IHVP is H_b⁻¹v_b in the columns of block b, the diagonal that of each H_b⁻¹; pruning scores and adapts by them. The workers
// work the whole answer out in float64, min(q, n)²·max(q, n)/2 products for a block of q columns and n rows, and keep it, 8 bytes a column
// and vector, till it is fetched. So large blocks take long: give ctx the time. WithProgress hears of shards as they are done, then of columns as they are fetched. The bound is of
// the whole answer. wire.CodeIllConditioned where it is above 1e-3, or where a block is singular in float64.
type BlocksOption func(*call) error

func (f BlocksOption) query(c *call) error { return f(c) }

// WithWhole asks for the whole of H in a run of blocks (RunConfig.Blocks), in place of these: of a query, and of the result of a
// step. Scores, influence, columns, samples and all else that is not answered by blocks need it there.
func WithWhole() ResultOption {
	return func(c *call) error {
		c.blocks, c.whole = nil, true
		return nil
	}
}

// inRun are the blocks that a call is of: its own, the run's, or nil.
func (c *call) inRun(r *Run) *blocks {
	if c.blocks != nil || c.whole || r.spec.Blocks == "" {
		return c.blocks
	}
	cols, across, err := r.spec.Blocks.Parse()
	if err != nil || r.spec.Blocks == wire.BlockingTensor { // it was checked
		return &blocks{}
	}
	return &blocks{cols, across}
}

// WithTensorBlocks takes a block for each tensor of the run's layout, which must have one.
func WithTensorBlocks() BlocksOption {
	return func(c *call) error {
		c.blocks, c.whole = &blocks{}, false
		return nil
	}
}

// WithBlocks takes blocks of cols consecutive columns that never cross the border of a tensor: the last one of a tensor may have fewer. A run
// without a layout is one tensor.
func WithBlocks(cols int64) BlocksOption { return blocksOf(cols, false) }

// WithBlocksAcross takes blocks of cols consecutive columns, whatever the tensors are, as M-FAC's code does.
func WithBlocksAcross(cols int64) BlocksOption { return blocksOf(cols, true) }

func blocksOf(cols int64, across bool) BlocksOption {
	return func(c *call) error {
		c.blocks, c.whole = &blocks{cols, across}, false
		if cols < 1 {
			return wire.Invalid("block", cols, "at least 1 column")
		}
		return nil
	}
}

// inBlocks makes the question one of blocks.
func (q *question) inBlocks(ctx context.Context) error {
	b := q.blocks
	if b == nil {
		return nil
	}
	q.req.Block = min(b.cols, wire.MaxDim)
	if b.across {
		return nil
	}
	layout, err := q.r.Layout(ctx)
	if err != nil {
		return err
	}
	if b.cols == 0 {
		if layout == nil {
			return wire.Invalid("blocks", "tensor", fmt.Sprintf("a number of columns: run %s has no layout", q.r.name))
		}
		q.req.Block = wire.MaxDim
	}
	starts := make([]int64, len(layout))
	for i, t := range layout {
		starts[i] = t.Offset
	}
	q.req.Starts = len(starts)
	q.req.Payload = wire.AppendIndices(q.req.Payload, starts)
	return nil
}
