package shard

import "math"

// BlockElements sets dst, len(cols)² numbers row by row, to [H_b⁻¹] at the block's columns listed, which may repeat: N w_i·w_j with W = L⁻¹E, or
// (δ_ij − w_i·w_j)/λ with W = L⁻¹G. bound is of the error of each, relative to √([H_b⁻¹]_ii [H_b⁻¹]_jj): with E of elementError, and s_j = ‖w_j‖² of
// the second kind
//
//	E    or    max (E s_j + 2ε)/(1 − s_j − E s_j − 2ε)
//
// and 4ε; +Inf where that is nothing. Its cost is SolveBlocks' and len(cols) solves.
func (s *Store) BlockElements(dst []float64, cols []int64, blk Block, spec BlockSpec) (bound float64, err error) {
	b, err := s.blocks(spec)
	if err == nil {
		err = s.checkBlocks([]Block{blk})
	}
	if err == nil {
		err = checkLen("dst", len(dst), int64(len(cols)*len(cols)))
	}
	for _, j := range cols {
		if err == nil && (j < blk.Lo || j >= blk.Hi) {
			err = outOf("column", j, "in [%d, %d), the block", blk.Lo, blk.Hi)
		}
	}
	if err != nil {
		return 0, err
	}
	bs := new(blockScratch)
	primal, err := b.factored(bs, blk, false)
	if err != nil {
		return 0, err
	}
	m := bs.m
	nu, err := bs.inverseDiag(b.kernel, make([]float64, m), &bs.w, b.spec.Abort.Err)
	if err != nil {
		return 0, err
	}
	e := bs.elementError(nu)
	w := make([]float64, len(cols)*m) // a row each
	for i, j := range cols {
		y := w[i*m : (i+1)*m]
		if primal {
			y[j-blk.Lo] = 1
		} else {
			b.columnTo(y[:b.n], j)
		}
		bs.forward(b.kernel, y)
	}
	bound, lambda := e, b.lambda(blk)
	if !primal {
		bound = 0
	}
	for i := range cols {
		wi := w[i*m : (i+1)*m]
		if s := b.kernel.Dot(wi, wi); !primal {
			low := 1 - s - e*s - 2*epsilon
			if bound = max(bound, (e*s+2*epsilon)/low); !(low > 0) {
				bound = math.Inf(1)
			}
		}
		for k, at := range cols {
			x := b.kernel.Dot(wi, w[k*m:(k+1)*m])
			switch {
			case primal:
				x *= float64(b.want.N)
			case at == cols[i]:
				x = (1 - x) / lambda
			default:
				x = -x / lambda
			}
			dst[i*len(cols)+k] = x
		}
	}
	return bound + 4*epsilon, nil
}

// columnTo sets y to a column of the rows.
func (b *blockRun) columnTo(y []float64, j int64) {
	var p [4]byte
	for i, slot := range b.want.Slots {
		b.read(p[:], slot, Block{j, j + 1})
		y[i] = float64(float32At(p[:], 0))
	}
}
