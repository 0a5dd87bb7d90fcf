package shard

import "math"

// This file: residuals of what is worked out of blocks.

// ResidualBlocks returns ‖H_bx_i − v_i‖² over all blocks, for x_i of Cols() numbers and v_i of as many, or, where there is no v, G_bᵀa_i
// of coefficients of the rows, n numbers each: λx + G_bᵀ(W G_bx/N − a) − v, in two readings of a block.
func (s *Store) ResidualBlocks(x [][]float64, v []Vector, a []float64, spec BlockSpec, blocks []Block) ([]float64, error) {
	b, v, err := s.checker(x, v, spec, blocks)
	if err == nil && a != nil {
		err = checkLen("a", len(a), int64(len(x)*b.n))
	}
	if err != nil {
		return nil, err
	}
	k := len(x)
	views := make([]Vector, k)
	for i := range x {
		views[i] = Float64s(x[i])
	}
	sums := make([]float64, k*len(blocks))
	err = b.each(blocks, func(bs *blockScratch, i int, alone bool) error {
		y := make([]float64, k*(b.n+1))
		if err := b.dots(bs, y, views, blocks[i], nil, alone); err != nil {
			return err
		}
		c := y[:k*b.n]
		for r := range c {
			if b.want.Weights != nil {
				c[r] *= b.want.Weights[r%b.n]
			}
			if c[r] /= float64(b.want.N); a != nil {
				c[r] -= a[r]
			}
		}
		return b.residual(bs, sums[i*k:(i+1)*k], x, v, c, blocks[i], alone)
	})
	out := make([]float64, k)
	for i, r := range sums {
		out[i%k] += r
	}
	return out, err
}

// PartResidual returns ‖λx_i + Gᵀc_i − v_i‖² over the columns of part, 0 for v where there is none.
func (s *Store) PartResidual(x [][]float64, v []Vector, c []float64, part Block, spec BlockSpec) ([]float64, error) {
	b, v, err := s.checker(x, v, spec, []Block{part})
	if err == nil {
		err = checkLen("c", len(c), int64(len(x)*b.n))
	}
	if err != nil {
		return nil, err
	}
	sums := make([]float64, len(x))
	return sums, b.residual(new(blockScratch), sums, x, v, c, part, false)
}

// checker is solver, with zeros where there is no v.
func (s *Store) checker(x [][]float64, v []Vector, spec BlockSpec, blocks []Block) (*blockRun, []Vector, error) {
	if len(v) == 0 {
		v = make([]Vector, len(x))
		for i := range v {
			v[i] = Zeros(s.cols)
		}
	}
	b, err := s.solver(x, v, spec, blocks)
	return b, v, err
}

// residual sets sums to ‖λx + Gᵀc − v‖² over the columns of a block, over its scale.
func (b *blockRun) residual(bs *blockScratch, sums []float64, x [][]float64, v []Vector, c []float64, blk Block, alone bool) error {
	k, lambda := len(x), b.lambda(blk)
	norms := make([]float64, k*tilesOf(blk))
	err := b.columnsOf(bs, blk, int64(k*b.n)*TileCols, alone, func(bs *blockScratch, tile int, t Block) {
		b.combine(bs, c, k, t, func(i int, r []float64) {
			y := grow(&bs.x, (len(r)+15)&^15)
			b.loadKept(y, v[i], t, nil)
			for j, g := range r {
				y[j] = math.FMA(lambda, x[i][t.Lo+int64(j)], -y[j]) + g
			}
			norms[tile*k+i] = b.kernel.Dot(y, y)
		})
	})
	for i, r := range norms {
		sums[i%k] += r
	}
	for i := range sums {
		sums[i] /= b.scale(blk)
	}
	return err
}
