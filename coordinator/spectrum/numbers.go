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
	var logs, absLogs, inverses, dim, logError, inverseError float64
	for _, a := range s.Alpha[:r] {
		k := a + shift
		l := math.Log(k / divisor)
		logs += l
		absLogs += math.Abs(l)
		inverses += 1 / k
		dim += a / k
		// The exact α is within [a − down, a + Error].
		down := min(s.Error, a)
		less := down / (a - down + shift) // in this order: k − down may cancel to shift
		inverseError += max(s.Error/(k+s.Error), less) / k
		x := max(s.Error/k, less)
		if x > 0.01 { // else log(1 + x) is hardly less
			x = math.Log1p(x)
		}
		logError += x
	}
	// Sums of r terms, each off by some ε itself; log k, by some ε absolutely too. The sums of errors can be larger than
	// those of numbers, and are rounded themselves.
	terms := float64(r+8) * epsilon
	logError *= 1 + terms
	inverseError *= 1 + terms
	logLambda := rest * math.Log(lambda)
	outside := rest / lambda
	n := Numbers{
		LogDet:       Estimate{logLambda + logs, logError + terms*(math.Abs(logLambda)+absLogs) + 4*epsilon*float64(r)},
		TraceInverse: Estimate{outside + divisor*inverses, divisor*inverseError + terms*(outside+divisor*inverses)},
		EffectiveDim: Estimate{dim, shift*inverseError + terms*dim},
	}
	n.Largest, n.Smallest, n.CondH = s.extremes(r, rest > 0, lambda, divisor)
	if _, _, n.CondK = s.extremes(r, len(s.Alpha) > r, shift, 1); len(s.Alpha) == 0 {
		n.CondK = Estimate{1, 0}
	}
	return n
}

// extremes returns the largest and the smallest of base + α/divisor over the r largest α, and over a 0
// besides where there is one, with their quotient.
func (s *Spectrum) extremes(r int, zero bool, base, divisor float64) (largest, smallest, cond Estimate) {
	largest, smallest = Estimate{base, 0}, Estimate{base, 0}
	of := func(a float64) Estimate {
		x := base + a/divisor
		return Estimate{x, s.Error/divisor + 4*epsilon*x}
	}
	if r > 0 {
		largest = of(s.Alpha[0])
		if !zero {
			smallest = of(s.Alpha[r-1])
		}
	}
	c := largest.Value / smallest.Value
	up := (largest.Value + largest.Error) / max(smallest.Value-smallest.Error, base)
	down := max(largest.Value-largest.Error, base) / (smallest.Value + smallest.Error)
	return largest, smallest, Estimate{c, max(up-c, c-down, 0) + 8*epsilon*c}
}
