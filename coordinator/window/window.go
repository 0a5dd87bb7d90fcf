package window

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// A Divisor says what N is in F = GᵀG/N (maths.md, "Symbols").
type Divisor uint8

const (
	Capacity Divisor = iota // N = m always: a part-filled window is the full one with zero rows
	Count                   // N = n
)

func (d Divisor) String() string {
	switch d {
	case Capacity:
		return "capacity"
	case Count:
		return "count"
	}
	return fmt.Sprintf("Divisor(%d)", uint8(d))
}

// ParseDivisor is the inverse of String.
func ParseDivisor(s string) (Divisor, error) {
	for d := Capacity; d <= Count; d++ {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, &InvalidError{"divisor", strconv.Quote(s), "capacity or count"}
}

// MaxCapacity is the largest m that New takes; A and L are 2 GiB each there.
const MaxCapacity = 1 << 14

// A Window holds A = GGᵀ, n×n for the n ≤ m gradients in it, and the factor of
// K = A + NλI, or of A + NλW⁻¹ where rows have weights.
type Window struct {
	capacity int
	damping  float64
	divisor  Divisor

	n       int
	a       []float64 // m×m, both triangles, by slot; free slots hold finite numbers
	slot    []int     // slot[:n] of the rows in age order, slot[n:] are free
	weight  []float64 // of the rows, by slot; nil where all are 1
	version uint64    // of A

	own   factorization    // at damping and divisor
	kept  bool             // own goes along with changes
	retry uint64           // the version from which that is tried again where it is not so, …
	pause uint64           // … which was put off so far the last time
	other []*factorization // at other parameters, the last used first

	// Scratch of length m.
	rot []rotation
	vec [4][]float64
}

// New makes an empty window of m = capacity rows, 16m² bytes and more for overrides. An
// InvalidError says which argument was refused: 1 ≤ capacity ≤ MaxCapacity, damping > 0
// and finite, also times capacity.
func New(capacity int, damping float64, divisor Divisor) (*Window, error) {
	if capacity < 1 || capacity > MaxCapacity {
		return nil, &InvalidError{"capacity", strconv.Itoa(capacity), fmt.Sprintf("in [1, %d]", MaxCapacity)}
	}
	if err := checkParams(capacity, damping, divisor); err != nil {
		return nil, err
	}
	w := &Window{
		capacity: capacity,
		damping:  damping,
		divisor:  divisor,
		a:        make([]float64, capacity*capacity),
		slot:     make([]int, capacity),
		rot:      make([]rotation, capacity),
	}
	for i := range w.slot {
		w.slot[i] = i
	}
	for i := range w.vec {
		w.vec[i] = make([]float64, capacity)
	}
	w.own = factorization{l: make([]float64, capacity*capacity), ld: capacity, shift: w.shift(damping, divisor)}
	w.own.made(0, w.version)
	w.kept = true
	return w, nil
}

// Len returns n, the number of rows.
func (w *Window) Len() int { return w.n }

// Cap returns m.
func (w *Window) Cap() int { return w.capacity }

// Damping returns λ.
func (w *Window) Damping() float64 { return w.damping }

// Divisor returns the window's divisor.
func (w *Window) Divisor() Divisor { return w.divisor }

// N returns what the window's divisor comes to: m, or n.
func (w *Window) N() int { return w.divide(w.divisor) }

func (w *Window) divide(d Divisor) int { return w.divideOf(d, w.n) }

// divideOf is divide for a window of n rows.
func (w *Window) divideOf(d Divisor, n int) int {
	if d == Count {
		return n
	}
	return w.capacity
}

// shift returns Nλ.
func (w *Window) shift(damping float64, d Divisor) float64 {
	return float64(w.divide(d)) * damping
}

// At returns A_ij, the product of the i-th and j-th rows in age order, 0 ≤ i, j < n.
// As with a slice, other indices panic.
func (w *Window) At(i, j int) float64 {
	rows := w.slot[:w.n]
	return w.a[rows[i]*w.capacity+rows[j]]
}

// Append adds a gradient g. row has length n+1: the products with the rows in age order,
// then g·g. O(n²): one triangular solve; none where N changes with n; O(n³) where there is no
// factor yet, as after Load. A FullError when
// n = m, an InvalidError for a wrong length, a NaN or Inf, or g·g < 0; then nothing
// has changed. Never an error because of what K becomes. The row's weight is 1.
func (w *Window) Append(row []float64) error {
	return w.AppendWeighted(row, w.weightsWith(0, 1))
}

// AppendWeighted is Append, after which the rows have these weights, by age and the new one's last; nil
// stands for ones. Where another row's weight changes the factor is made anew when next asked for, O(n³). Errors
// as for SetWeights too.
func (w *Window) AppendWeighted(row, weights []float64) error {
	if w.n == w.capacity {
		return &FullError{w.n, w.capacity}
	}
	if err := checkRow(row, w.n+1); err != nil {
		return err
	}
	if err := checkWeights(weights, w.n+1); err != nil {
		return err
	}
	follow := w.follow(w.n+1, w.keepWeights(weights, 0))
	w.insert(row)
	w.weigh(weights)
	if follow {
		w.extend(row)
	}
	w.check()
	return nil
}

// Replace drops the oldest row and appends g. row has length n: the products with the
// n−1 rows that remain, in age order, then g·g. O(n²): a rank-one update and a triangular
// solve. Errors as for Append; an empty window has nothing to replace.
func (w *Window) Replace(row []float64) error {
	return w.ReplaceWeighted(row, w.weightsWith(1, 1))
}

// ReplaceWeighted is Replace with weights as in AppendWeighted, of the rows that there are then.
func (w *Window) ReplaceWeighted(row, weights []float64) error {
	if w.n == 0 {
		return &InvalidError{"n", "0", "≥ 1 to replace a row"}
	}
	if err := checkRow(row, w.n); err != nil {
		return err
	}
	if err := checkWeights(weights, w.n); err != nil {
		return err
	}
	follow := w.follow(w.n, w.keepWeights(weights, 1))
	w.remove(0)
	w.insert(row)
	w.weigh(weights)
	if follow {
		w.drop(0, w.n)
		w.extend(row)
	}
	w.check()
	return nil
}

// Drop removes row i in age order, 0 ≤ i < n. O((n−i)² + ni): a rank-one update of what
// followed it; no work where N changes with n.
func (w *Window) Drop(i int) error {
	if i < 0 || i >= w.n {
		return &InvalidError{"i", strconv.Itoa(i), fmt.Sprintf("in [0, %d)", w.n)}
	}
	follow := w.follow(w.n-1, true)
	w.remove(i)
	if follow {
		w.drop(i, w.n+1)
		w.own.made(w.n, w.version)
	}
	w.check()
	return nil
}

// drop takes row i out of own, of n rows. A row that has come since own was made has gone through as many
// updates as rows left since, of which there are no more than were before it.
func (w *Window) drop(i, n int) {
	dropRow(w.own.l, w.own.ld, n, i, w.rot)
	w.own.drops = min(w.own.drops+1, w.capacity)
}

// Load makes the window hold n rows with the given A, its lower triangle row by row in age
// order: A_00, A_10, A_11, A_20, …, n(n+1)/2 numbers. Their weights are 1. O(n²), and O(n³) at the next solve.
// Errors as for Append.
func (w *Window) Load(packed []float64, n int) error {
	if n < 0 || n > w.capacity {
		return &InvalidError{"n", strconv.Itoa(n), fmt.Sprintf("in [0, %d]", w.capacity)}
	}
	if err := checkLen("packed", len(packed), n*(n+1)/2); err != nil {
		return err
	}
	if err := checkFinite("packed", packed); err != nil {
		return err
	}
	for i := range n {
		if g := packed[i*(i+3)/2]; g < 0 {
			return invalid(fmt.Sprintf("A[%d][%d]", i, i), g, "≥ 0")
		}
	}
	w.release()
	for i := range w.slot {
		w.slot[i] = i
	}
	w.n, w.weight = 0, nil
	for i := range n {
		w.insert(packed[i*(i+1)/2:][:i+1])
	}
	w.version++ // also when n = 0
	w.start()
	w.check()
	return nil
}

// SetParams changes λ and the divisor. The factor is made anew from A, O(n³), when next asked
// for, unless Nλ stays what it was. An InvalidError as for New.
func (w *Window) SetParams(damping float64, divisor Divisor) error {
	if err := checkParams(w.capacity, damping, divisor); err != nil {
		return err
	}
	w.damping, w.divisor = damping, divisor
	if w.own.shift != w.shift(damping, divisor) {
		w.start()
	}
	w.check()
	return nil
}

// current reports whether own is a factor of the window as it is now.
func (w *Window) current() bool {
	return w.own.of(w.version, w.shift(w.damping, w.divisor)) && w.own.ill == nil
}

// follow reports whether own goes along with the change that comes, to n rows, of which those that are
// there keep their weights or not, by an update. That
// depends on the changes so far and on nothing that was asked between them (W5): a factor that was
// updated has other bits than one made from A. So where own should go along and is not made yet, it
// is made here; one that was made because somebody asked for it does not make it go along.
func (w *Window) follow(n int, weights bool) bool {
	w.release()
	if w.divideOf(w.divisor, n) != w.divide(w.divisor) || !weights {
		// N or W changes, and with it the whole diagonal. From the next version on again.
		w.kept, w.retry, w.pause = false, w.version+1, 0
		return false
	}
	if w.kept || w.version < w.retry {
		return w.kept
	}
	if shift := w.shift(w.damping, w.divisor); !w.own.of(w.version, shift) {
		w.refactor(&w.own, shift)
	}
	if w.kept = w.own.ill == nil; !w.kept {
		// No factor in float64, so each change would cost O(n³) in vain: at growing intervals.
		w.pause = min(max(1, 2*w.pause), uint64(w.capacity))
		w.retry = w.version + w.pause
	}
	return w.kept
}

// start makes the next change find own anew.
func (w *Window) start() { w.kept, w.retry, w.pause = false, w.version, 0 }

// release gives back, before the window changes, the factors at other parameters that were not
// asked for since it last did. The others' memory is used again.
func (w *Window) release() {
	w.other = slices.DeleteFunc(w.other, func(z *factorization) bool { return z.version != w.version })
}

// remove takes row i out of A: its slot becomes the first free one.
func (w *Window) remove(i int) {
	s := w.slot[i]
	copy(w.slot[i:], w.slot[i+1:w.n])
	w.n--
	w.slot[w.n] = s
	w.version++
}

// insert puts a row of A after the others.
func (w *Window) insert(row []float64) {
	m, s := w.capacity, w.slot[w.n]
	w.n++
	w.version++
	for i, v := range row {
		p := w.slot[i]
		w.a[s*m+p] = v
		w.a[p*m+s] = v
	}
}

// extend gives own, a factor of all rows but the last, the last one: l = L⁻¹a, then the
// root of what is left of the diagonal. If nothing is, own stays behind the window's version, and
// the next solve or the next change makes it anew.
func (w *Window) extend(row []float64) {
	f, n := &w.own, w.n-1
	z := f.l[n*f.ld:][:n]
	copy(z, row)
	forward(f.l, f.ld, z)
	pivot := row[n] + w.shiftAt(n, f.shift) - dot(z, z)
	if !(pivot > 0) || math.IsInf(pivot, 1) {
		w.start()
		return
	}
	f.l[n*f.ld+n] = math.Sqrt(pivot)
	f.made(n+1, w.version)
}

// diagonalTo sets dst, of length n, to diag K at the given shift, in age order.
func (w *Window) diagonalTo(dst []float64, shift float64) {
	for i := range dst {
		dst[i] = w.a[w.slot[i]*(w.capacity+1)] + w.shiftAt(i, shift)
	}
}
