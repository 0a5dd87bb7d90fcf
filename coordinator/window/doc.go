// Package window keeps the m×m side of a run: A = GGᵀ and the Cholesky factor L of
// K = A + NλI, which answers every query of maths.md but for the passes over G. It knows
// neither d, nor shards, nor the network.
//
// The main path, with the products that the shards sum:
//
//	w, err := window.New(m, lambda, window.Capacity)
//	err = w.Append(row)  // Gg, g·g; Replace(row) when w is full
//	f, err := w.Factor(lambda, window.Capacity)
//	err = f.SolveTo(c, y)  // y = Gv from the shards, c for the shards: x = (v − Gᵀc)/λ
//	b, err := f.VectorBound(c, y, vnorm2)
//	b = b.With(norm2)  // the shards have summed ‖λx‖² too
//
// Between calls:
//
//	W1  rows are in age order, row 0 the oldest
//	W2  LLᵀ = K, or there is no factor (checked under -tags invariants)
//	W3  a call that returned an error changed nothing
//	W4  A is right whatever K is: no gradient is refused because K cannot be factored
//	W5  the bits of every answer depend on the changes so far and on what is asked, never on what
//	    else was asked
//
// Rows may have weights (weights.go): K is A + NλW⁻¹ then, A is what it is without.
//
// A lies in slots and nothing in it moves: slot[i] says where row i is. L is dense, row by
// row, in age order, so it is what an eviction moves: each row that is left is written one up
// and one left by the same pass that updates it.
//
// L is brought up to date by a row at the end (Append) and by rank-one updates (Drop,
// Replace), never by a downdate, so it stays as good as a fresh factor: a row of L goes through
// one update for each older row that leaves, fewer than m in its life, and each adds at most ε or so
// of the row's own length √K_ii. Where that is not possible — another λ, another N, a
// pivot that is not positive — the factor is marked stale and made from A when next asked for, or
// by the next change that leaves N as it is: so whether it is updated does not depend on who asked (W5).
//
// A Window and the Factors it gave out are for one goroutine at a time. Same calls, same
// bits, on one architecture.
package window
