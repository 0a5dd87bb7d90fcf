package spectrum

import "math"

// Numbers are those of H = F + λI, d×d, and K = A + NλI, n×n, at one λ and N.
type Numbers struct {
	LogDet       Estimate // log det H
	TraceInverse Estimate // tr H⁻¹
	EffectiveDim Estimate // tr FH⁻¹
	Largest      Estimate // eigenvalue of H
	Smallest     Estimate // eigenvalue of H
	CondH        Estimate // Largest/Smallest
	CondK        Estimate // the same of K; 1 where n = 0
}

// At returns the numbers at λ and N, both above 0, for a run of d columns, O(n). maths.md, "Scalars alone",
// has the formulas,
//
//	log det H = (d−n) log λ + Σ log(λ + α/N)    tr H⁻¹ = (d − Σ α/(α+Nλ))/λ    tr FH⁻¹ = Σ α/(α+Nλ)
//
// of which the second is summed as (d−r)/λ + Σ N/(α+Nλ), where nothing cancels, over the r = min(n, d)
// largest: if there are more rows than columns the others are 0. Nothing is checked: what
// overflows is ±Inf or NaN.
//
// The errors are what the worst α within Spectrum.Error would change, and the rounding of the sums.
func (s *Spectrum) At(lambda, divisor float64, d int64) Numbers {
	r := int(min(int64(len(s.Alpha)), d))
	rest := float64(d - int64(r))
	shift := divisor * lambda
	var logs, absLogs, inverses, logError, inverseError float64
	for _, a := range s.Alpha[:r] {
		k := a + shift
		down := min(s.Error, a) // the exact α is within [a − down, a + Error]
		l := math.Log(k / divisor)
		logs += l
		absLogs += math.Abs(l)
		logError += max(math.Log1p(s.Error/k), -math.Log1p(-down/k))
		inverses += divisor / k
		inverseError += divisor / k * max(s.Error/(k+s.Error), down/(k-down))
	}
	// Sums of r terms, each off by some ε itself; log k, by some ε absolutely too.
	terms := float64(r+8) * epsilon
	logLambda := rest * math.Log(lambda)
	n := Numbers{
		LogDet:       Estimate{logLambda + logs, logError + terms*(math.Abs(logLambda)+absLogs) + 4*epsilon*float64(r)},
		TraceInverse: Estimate{rest/lambda + inverses, inverseError + terms*(rest/lambda+inverses)},
		EffectiveDim: s.effective(r, shift),
	}
	n.Largest, n.Smallest, n.CondH = s.extremes(r, rest > 0, shift, divisor)
	if _, _, n.CondK = s.extremes(r, len(s.Alpha) > r, shift, 1); len(s.Alpha) == 0 {
		n.CondK = Estimate{1, 0}
	}
	return n
}

// effective returns Σ α/(α + shift). Its terms grow with α.
func (s *Spectrum) effective(r int, shift float64) Estimate {
	var sum, off float64
	for _, a := range s.Alpha[:r] {
		k := a + shift
		down := min(s.Error, a)
		sum += a / k
		off += shift / k * max(s.Error/(k+s.Error), down/(k-down))
	}
	return Estimate{sum, off + float64(r+8)*epsilon*sum}
}

// extremes returns the largest and the smallest of (α + shift)/divisor over the r largest α, and over
// a 0 besides where there is one, with their quotient.
func (s *Spectrum) extremes(r int, zero bool, shift, divisor float64) (largest, smallest, cond Estimate) {
	of := func(a, off float64) Estimate {
		x := (a + shift) / divisor
		return Estimate{x, off/divisor + 4*epsilon*x}
	}
	if r == 0 {
		largest, smallest = of(0, 0), of(0, 0)
	} else {
		largest, smallest = of(s.Alpha[0], s.Error), of(s.Alpha[r-1], s.Error)
		if zero {
			smallest = of(0, 0)
		}
	}
	c := largest.Value / smallest.Value
	least := shift / divisor * (1 - 4*epsilon) // no eigenvalue is less
	up := (largest.Value + largest.Error) / max(smallest.Value-smallest.Error, least)
	down := max(largest.Value-largest.Error, least) / (smallest.Value + smallest.Error)
	return largest, smallest, Estimate{c, max(up-c, c-down) + 4*epsilon*c}
}
