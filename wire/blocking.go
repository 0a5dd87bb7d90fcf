package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// This file: runs that answer by the diagonal blocks of H (docs/blocks.md).

// Blocking says which diagonal blocks take H's place in a run: "" none, "tensor" one a tensor of the layout, "B" blocks of B columns
// that never cross a tensor's border, "B across" blocks of B columns whatever the tensors are.
type Blocking string

// BlockingTensor is a block a tensor.
const BlockingTensor Blocking = "tensor"

const blockingAcross = " across"

// BlockingOf is that of cols columns, with or without regard to tensors' borders.
func BlockingOf(cols int64, across bool) Blocking {
	b := strconv.FormatInt(cols, 10)
	if across {
		b += blockingAcross
	}
	return Blocking(b)
}

// Parse is the most columns of a block, MaxDim where each tensor is one, and whether blocks cross tensors' borders. Not of "".
func (b Blocking) Parse() (cols int64, across bool, err error) {
	if b == BlockingTensor {
		return MaxDim, false, nil
	}
	digits, across := strings.CutSuffix(string(b), blockingAcross)
	cols, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || cols < 1 || cols > MaxDim || BlockingOf(cols, across) != b {
		return 0, false, Invalid("blocks", strconv.Quote(string(b)), fmt.Sprintf("tensor, or a number of columns in [1, %d], alone or with \" across\" after it", int64(MaxDim)))
	}
	return cols, across, nil
}

// checkBlocking checks a run's blocks.
func (s RunSpec) checkBlocking() error {
	if s.Blocks == "" {
		return nil
	}
	if _, _, err := s.Blocks.Parse(); err != nil {
		return err
	}
	if s.Blocks == BlockingTensor && s.Layout == "" {
		return Invalid("blocks", s.Blocks, "a number of columns in a run without a layout")
	}
	return nil
}

// Partition is how a run of blocks cuts its columns; starts are the first columns of its layout's tensors, none without one.
func (s RunSpec) Partition(starts []int64) (Partition, error) {
	cols, across, err := s.Blocks.Parse()
	if err != nil {
		return Partition{}, err
	}
	if across || len(starts) == 0 {
		starts = []int64{0}
	}
	return Partition{Starts: starts, End: s.Dim, Size: cols}, nil
}

// AsRun is a query that says neither blocks nor the whole of H, in a run of the blocks p: it is one of these. A row is one whatever H is.
func (m *Query) AsRun(p Partition) (*Query, error) {
	switch {
	case m.Whole || m.Block != 0 || m.Kind == KindRow:
		return m, nil
	case !takesBlocks(m.Kind):
		return nil, Errorf(CodeUnsupported, "kind", m.Kind, "vector, combine, row, diag, subblock, prune or scalars, or with whole",
			"the run answers by diagonal blocks, and this is not answered by them: ask for the whole of H")
	}
	own := *m
	own.Block, own.Starts = p.Size, len(p.Starts)
	own.Payload = AppendIndices(append([]byte(nil), m.Payload...), p.Starts)
	if m.Refine {
		return nil, Invalid("refine", true, "left out of a query of blocks, which the run answers by")
	}
	return &own, nil
}
