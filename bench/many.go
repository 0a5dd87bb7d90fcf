package main

import (
	"fmt"
	"time"

	"mfac/shard"
	"mfac/shard/kernel"
)

const together = 16

// manyFigures hold 16 vectors in one reading of G against 16 passes, as far as flops allow.
func manyFigures() []figure {
	var out []figure
	for _, m := range []int{256} {
		for _, threads := range []int{1, 2} {
			for _, op := range []string{"dots", "combine"} {
				out = append(out, figure{
					must: true,
					lines: one(line{
						name:    fmt.Sprintf("together/%s/k=%d/m=%d/threads=%d", op, together, m, threads),
						what:    fmt.Sprintf("%s of %d vectors in one reading against %d passes, as a share of min(%d, what OpenBLAS dgemm on the same shape permits)", op, together, together, together),
						atLeast: 0.75,
					}),
					lacks: func(e *env) string {
						if why := e.lacksBLAS(); why != "" {
							return why
						}
						return lacksCores(threads)
					},
					setup: func(e *env) (sampler, error) { return manyPair(e, op, m, threads) },
				})
			}
		}
	}
	return out
}

// manyPair: with t1, t16 and tg the times of a pass of one vector, of one of 16, and of dgemm, the
// speed-up is 16 t1/t16 and min(16, 16 t1/tg) permitted. Their quotient is max(t1, tg)/t16.
func manyPair(e *env, op string, m, threads int) (sampler, error) {
	cols := e.regionBytes() / int64(4*m) / shard.TileCols * shard.TileCols
	b, err := e.gemvOf(m, cols, together)
	if err != nil {
		return sampler{}, err
	}
	store, err := b.store(kernel.Best(), threads)
	if err != nil {
		return sampler{}, err
	}
	single, many := b.dots(store), b.manyDots(store)
	if op == "combine" {
		single, many = b.combine(store), b.manyCombine(store)
	}
	var speedups, permitted []float64
	p := pair(func() (ours, base time.Duration, err error) {
		gemm, err := e.py.run("dgemm/"+op, threads, 1)
		if err != nil {
			return 0, 0, err
		}
		pass, err := timed(single)
		if err != nil {
			return 0, 0, err
		}
		if ours, err = timed(many); err != nil {
			return 0, 0, err
		}
		speedups = append(speedups, together*pass.Seconds()/ours.Seconds())
		permitted = append(permitted, min(together, together*pass.Seconds()/gemm.Seconds()))
		return ours, max(pass, gemm), nil
	}, nil)
	p.notes = func() []string {
		return []string{fmt.Sprintf("%.1f times as fast as single passes, dgemm permits %.1f", median(speedups[warmups:]), median(permitted[warmups:]))}
	}
	return p, nil
}

func (b *rowsBed) manyDots(s *shard.Store) func() error {
	x := make([]shard.Vector, together)
	for i := range x {
		x[i] = shard.Raw(b.base[4*i:][:4*b.cols], shard.F32)
	}
	y, mask := make([]float64, together*b.m), shard.FullMask(b.m)
	return func() error { return s.Dots(y, x, mask) }
}

func (b *rowsBed) manyCombine(s *shard.Store) func() error {
	const part = partCols / together
	c, mask := make([]float64, together*b.m), shard.FullMask(b.m)
	for i := range c {
		c[i] = float64(i%13) - 6
	}
	dst := make([]float64, together*part)
	return func() error {
		for lo := int64(0); lo < b.cols; lo += part {
			hi := min(lo+part, b.cols)
			if err := s.Combine(dst[:together*(hi-lo)], c, mask, lo, hi); err != nil {
				return err
			}
		}
		return nil
	}
}

// gramFigures hold the Gram matrix of a window against OpenBLAS on float64 copies.
func gramFigures() []figure {
	const m = 256
	f := func(threads int, asked float64) figure {
		return figure{
			must: asked != 0, runs: 5,
			lines: one(line{
				name: fmt.Sprintf("gram/f32/m=%d/threads=%d", m, threads), atLeast: asked,
				what: "Gram matrix of float32 rows with float64 sums, against OpenBLAS dsyrk on float64 copies",
			}),
			lacks: func(e *env) string {
				if why := e.lacksBLAS(); why != "" {
					return why
				}
				return lacksCores(threads)
			},
			setup: func(e *env) (sampler, error) {
				cols := e.regionBytes() / (4 * m) / shard.TileCols * shard.TileCols
				b, err := e.gemvOf(m, cols, together)
				if err != nil {
					return sampler{}, err
				}
				store, err := b.store(kernel.Best(), threads)
				if err != nil {
					return sampler{}, err
				}
				slots := make([]int, m)
				for i := range slots {
					slots[i] = i
				}
				dst := make([]float64, m*(m+1)/2)
				return pair(func() (ours, base time.Duration, err error) {
					if base, err = e.py.run("dsyrk", threads, 1); err != nil {
						return 0, 0, err
					}
					ours, err = timed(func() error { return store.Gram(dst, slots, 0, m) })
					return ours, base, err
				}, nil), nil
			},
		}
	}
	return []figure{f(1, 0), f(2, 0.8)}
}

// solveFigures hold the triangular solve of diagonals against OpenBLAS.
func solveFigures() []figure {
	const n, cols = 512, 1024
	return []figure{{
		lines: one(line{
			name: fmt.Sprintf("solve/n=%d/threads=1", n),
			what: "W = L⁻¹G of a tile in float64, one thread, against OpenBLAS dtrsm",
		}),
		lacks: func(e *env) string { return e.lacksBLAS() },
		setup: func(e *env) (sampler, error) {
			if _, err := e.py.ask(ask{"what": "triangle", "n": n, "cols": cols}); err != nil {
				return sampler{}, err
			}
			l, w := make([]float64, n*n), make([]float64, n*cols)
			for i := range n {
				for j := range i {
					l[i*n+j] = 1e-3 * float64((i+j)%7)
				}
				l[i*n+i] = 1
			}
			for i := range w {
				w[i] = 1
			}
			k := kernel.Best()
			return pair(func() (ours, base time.Duration, err error) {
				if base, err = e.py.run("dtrsm", 1, 3); err != nil {
					return 0, 0, err
				}
				ours, err = timed(func() error {
					for range 3 {
						k.Solve(w, l, n, cols)
					}
					return nil
				})
				return ours / 3, base, err
			}, nil), nil
		},
	}}
}

// diagFigures hold the diagonal of H⁻¹ against OpenBLAS' triangular solve of as many columns: a tenth
// of them, in float64 already, ten times.
func diagFigures() []figure {
	const m, cols, part = 256, 1_000_000, 100_000
	f := func(threads int) figure {
		return figure{
			must: true,
			lines: one(line{
				name: fmt.Sprintf("diag/m=%d/d=%d/threads=%d", m, cols, threads), atLeast: 0.6,
				what: "diagonal of H⁻¹ over float32 rows, in float64, rounded to float32, against OpenBLAS dtrsm of L with as many columns in float64",
			}),
			lacks: func(e *env) string {
				if why := e.lacksBLAS(); why != "" {
					return why
				}
				return lacksCores(threads)
			},
			setup: func(e *env) (sampler, error) {
				b, err := e.rowsOf(shard.F32, m, cols)
				if err != nil {
					return sampler{}, err
				}
				store, err := b.store(kernel.Best(), threads)
				if err != nil {
					return sampler{}, err
				}
				if _, err := e.py.ask(ask{"what": "triangle", "n": m, "cols": part}); err != nil {
					return sampler{}, err
				}
				l, slots, dst := make([]float64, m*m), make([]int, m), make([]byte, 4*cols)
				for i := range m {
					slots[i] = i
					for j := range i {
						l[i*m+j] = 1e-3 * float64((i+j)%7)
					}
					l[i*m+i] = 1
				}
				return pair(func() (ours, base time.Duration, err error) {
					if base, err = e.py.run("dtrsm", threads, 1); err != nil {
						return 0, 0, err
					}
					ours, err = timed(func() error {
						_, err := store.DiagBytes(dst, shard.F32, l, slots, 1, 0, cols)
						return err
					})
					return ours, base * (cols / part), err
				}, func() { _ = e.forget() }), nil
			},
		}
	}
	return []figure{f(1), f(2)}
}
