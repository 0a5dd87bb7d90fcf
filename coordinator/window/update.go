package window

import "math"

// A rotation is the Givens rotation [c s; −s c].
type rotation struct{ c, s float64 }

// group is the number of rows that dropRow takes at once.
const group = 4

// dropRow turns the factor l of an n×n matrix into that of the matrix without its row and
// column r, in place, and leaves row n−1 as garbage. O((n−r)² + nr); rot has length n or more.
//
// With L = [L₁ 0 0; lᵀ d 0; L₂ x L₃] the rows that followed r have the factor [L₂ L₃'] with
// L₃'L₃'ᵀ = L₃L₃ᵀ + xxᵀ: an update, which Givens rotations do without cancellation,
//
//	h = √(L_kk² + x_k²), c = L_kk/h, s = x_k/h
//	L'_ik = c L_ik + s x_i, x_i = c x_i − s L_ik, i ≥ k
//
// taken row by row, since L lies that way, all rotations of the rows above being known; and
// every row is written one up and one left in the same pass. In a row x_i is a chain of
// dependent operations, as long as the row: so a group of rows goes together. Each row comes out
// with an error of a few ε of its own length √K_ii (Golub & Van Loan, 4th ed., 6.5.4).
func dropRow(l []float64, ld, n, r int, rot []rotation) {
	j := r + 1
	for ; j+group <= n; j += group {
		var to [group + 1][]float64 // what is right of column r in rows j−1 to j+group−1
		var x [group]float64
		known := rot[:j-r-1]
		for q := range to {
			at := (j - 1 + q) * ld
			to[q] = l[at+r:][:len(known)+1]
			if q > 0 {
				copy(l[at-ld:][:r], l[at:][:r])
				x[q-1] = l[at+r]
			}
		}
		rotate4(&to, &x, known)
		for q := range x { // the triangle at the end of the group's rows
			finish(l, ld, j+q, r, len(known), x[q], rot)
		}
	}
	for ; j < n; j++ {
		copy(l[(j-1)*ld:][:r], l[j*ld:][:r])
		finish(l, ld, j, r, 0, l[j*ld+r], rot)
	}
}

// hypot returns √(p² + x²), p ≥ 0. Where x is much shorter than p, as everywhere if Nλ is large beside A, math.Hypot's
// p√(1 + (x/p)²) comes out half of ε/2 too small on average, and over n updates that adds up. Here the sum is
// rounded once.
func hypot(p, x float64) float64 {
	x = math.Abs(x)
	if x > p {
		p, x = x, p
	}
	if x == 0 || math.IsInf(p, 1) {
		return p
	}
	t := x / p
	return p + x*t/(1+math.Sqrt(1+t*t))
}

// rotate4 applies rot to four rows: to[q+1][1:], with x[q], is rotated into to[q][:len(rot)].
// A row's element k+1 is read just before element k, of what was the next row, is written over it.
func rotate4(to *[group + 1][]float64, x *[group]float64, rot []rotation) {
	n := len(rot) + 1
	r0, r1, r2, r3, r4 := to[0][:n], to[1][:n], to[2][:n], to[3][:n], to[4][:n]
	x0, x1, x2, x3 := x[0], x[1], x[2], x[3]
	for k, g := range rot {
		c, s := g.c, g.s
		t0, t1, t2, t3 := r1[k+1], r2[k+1], r3[k+1], r4[k+1]
		r0[k] = c*t0 + s*x0
		x0 = c*x0 - s*t0
		r1[k] = c*t1 + s*x1
		x1 = c*x1 - s*t1
		r2[k] = c*t2 + s*x2
		x2 = c*x2 - s*t2
		r3[k] = c*t3 + s*x3
		x3 = c*x3 - s*t3
	}
	x[0], x[1], x[2], x[3] = x0, x1, x2, x3
}

// finish rotates row j from the k-th column right of r to its end, and adds the row's rotation.
func finish(l []float64, ld, j, r, k int, x float64, rot []rotation) {
	last := j - r - 1
	to, from := l[(j-1)*ld+r:][:last+1], l[j*ld+r+1:][:last+1]
	for ; k < last; k++ {
		g, t := rot[k], from[k]
		to[k] = g.c*t + g.s*x
		x = g.c*x - g.s*t
	}
	h := hypot(from[last], x)
	rot[last] = rotation{from[last] / h, x / h}
	to[last] = h
}
