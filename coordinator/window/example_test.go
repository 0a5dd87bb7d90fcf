package window_test

import (
	"fmt"

	"mfac/coordinator/window"
)

// H⁻¹v for two gradients, (1, 0, 0) and (1, 2, 0), v = (1, 1, 1), λ = 0.5 and N = 2.
func Example() {
	w, err := window.New(2, 0.5, window.Capacity)
	if err != nil {
		panic(err)
	}
	for _, row := range [][]float64{{1}, {1, 5}} { // products with those before, then with itself
		if err := w.Append(row); err != nil {
			panic(err)
		}
	}
	f, err := w.Factor(w.Damping(), w.Divisor())
	if err != nil {
		panic(err)
	}
	y, c := []float64{1, 3}, make([]float64, 2) // y = Gv
	if err := f.SolveTo(c, y); err != nil {
		panic(err)
	}
	b, err := f.VectorBound(c, y, 3)
	if err != nil {
		panic(err)
	}
	fmt.Printf("c = %.4f, ‖λx‖ = %.4f, good to 12 digits: %v\n", c, b.NormEst, b.Relative < 1e-12)
	// Output: c = [0.2727 0.4545], ‖λx‖ = 1.0405, good to 12 digits: true
}
