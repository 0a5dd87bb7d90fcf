package window

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// For errors.Is; each comes as the struct of the same name, with fields.
var (
	ErrFull           = errors.New("window: full")
	ErrInvalid        = errors.New("window: invalid argument")
	ErrStale          = errors.New("window: the factor is of an earlier window")
	ErrIllConditioned = errors.New("window: K is not positive definite in float64")
)

// FullError says that Append had no room.
type FullError struct{ Len, Cap int }

func (e *FullError) Error() string {
	return fmt.Sprintf("window: full, %d rows of %d", e.Len, e.Cap)
}

// Is makes it an ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// InvalidError names an argument that was refused, as it is and as it must be.
type InvalidError struct {
	Field, Value, Limit string // "row[3]", "NaN", "finite"
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("window: %s is %s, must be %s", e.Field, e.Value, e.Limit)
}

// Is makes it an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// StaleError says that a Factor was used after its window changed, or after its place in the
// cache went to other parameters. Ask for the factor again.
type StaleError struct {
	Damping float64 // the factor's
	N       int
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("window: the factor at damping %g, N = %d is of an earlier window", e.Damping, e.N)
}

// Is makes it an ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// IllConditionedError says where K could not be factored: Nλ is lost among the rounding
// errors of A. A larger damping helps; so does the departure of the large rows.
type IllConditionedError struct {
	Row         int     // in age order
	Pivot       float64 // what the rows before it left of Diagonal
	Diagonal    float64 // s² = K_ii of Row
	MaxDiagonal float64 // max s²
	Shift       float64 // Nλ
	Damping     float64 // λ
	N           int
	Len         int // n
}

func (e *IllConditionedError) Error() string {
	return fmt.Sprintf("window: K is not positive definite in float64: pivot %.3g in row %d of %d, where K is %.3g "+
		"(at most %.3g); Nλ = %d × %g = %.3g, rounding errors are about %.1g",
		e.Pivot, e.Row, e.Len, e.Diagonal, e.MaxDiagonal, e.N, e.Damping, e.Shift, e.Noise())
}

// Noise is the size of the rounding errors that Nλ has to exceed, roughly: n ε max s².
func (e *IllConditionedError) Noise() float64 { return float64(e.Len) * epsilon * e.MaxDiagonal }

// Is makes it an ErrIllConditioned.
func (e *IllConditionedError) Is(target error) bool { return target == ErrIllConditioned }

func invalid(field string, value float64, limit string) error {
	return &InvalidError{field, strconv.FormatFloat(value, 'g', -1, 64), limit}
}

func checkLen(field string, got, want int) error {
	if got != want {
		return &InvalidError{"len(" + field + ")", strconv.Itoa(got), strconv.Itoa(want)}
	}
	return nil
}

func finite(x float64) bool { return x-x == 0 }

func checkFinite(field string, x []float64) error {
	for i, v := range x {
		if !finite(v) {
			return invalid(fmt.Sprintf("%s[%d]", field, i), v, "finite")
		}
	}
	return nil
}

// checkRow checks a row of A: n products, the last of a gradient with itself.
func checkRow(row []float64, n int) error {
	if err := checkLen("row", len(row), n); err != nil {
		return err
	}
	if err := checkFinite("row", row); err != nil {
		return err
	}
	if g := row[n-1]; g < 0 {
		return invalid("g·g", g, "≥ 0")
	}
	return nil
}

func checkParams(capacity int, damping float64, divisor Divisor) error {
	if !(damping > 0) || math.IsInf(damping, 1) { // NaN fails the first
		return invalid("damping", damping, "> 0 and finite")
	}
	if !finite(float64(capacity) * damping) {
		return invalid("damping", damping, fmt.Sprintf("finite when multiplied by %d", capacity))
	}
	if divisor > Count {
		return &InvalidError{"divisor", strconv.Itoa(int(divisor)), "capacity or count"}
	}
	return nil
}
