// Package spectrum finds the eigenvalues of A = GGᵀ, and from them the numbers that H = GᵀG/N + λI
// and K = A + NλI have at any λ and N. It knows neither d's columns, nor shards, nor the network.
//
// The main path:
//
//	n, err := w.GradedTo(a)           // A from a window.Window, which may then change
//	s, err := spectrum.Of(a, n, stop) // O(n³), once for a version of the window
//	at := s.At(lambda, N, d)          // O(n), for each λ
//
//	f, err := spectrum.FormOf(a, n, watch) // the same, with Q and T = QᵀAQ
//	r, err := f.Roots(lambda, N)           // H^(−½)v, O(n²) a vector (root.go)
//	f.Likelihoods(…), f.LeaveOut(…)        // of gradients under N(0, H), O(n) for each λ (likelihood.go)
//
// A is brought to tridiagonal form by Householder's reflections, 4n³/3 multiplications and additions,
// of which half are products of matrices; its eigenvalues are those of that form, O(n²). At n = 1024, 2048
// and 4096 that takes as long as 4, 4 and 8 factors of K, which need a further product each for tr K⁻¹:
// a list of three dampings or more (of five at 4096) is answered sooner from the eigenvalues, and a shorter
// one by the same way, so that a number has the same bits in whatever list it is.
//
// Invariants:
//
//	S1  eigenvalues are sorted, largest first, and none is negative
//	S2  each is within Spectrum.Error of the exact one of GGᵀ, the rounding of A's products included
//	S3  every number comes with a bound of its error (Estimate)
//	S4  same A, same bits, on one architecture
package spectrum
