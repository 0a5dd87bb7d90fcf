package kernel

import (
	"fmt"
	"slices"
)

// A Variant is one implementation of the arithmetic. All of them give the same bits. It is
// immutable; its methods may run at the same time where what they write is not shared, and
// each has a Scratch of its own. The functions inside trust their arguments.
//
// The functions for rows are by the rows' dtype. Where g, off, n, stride and lines stand
// together, n slots of one panel have their first lines at g+off[0], g+off[1], …, the next
// ones stride bytes further, and so on.
type Variant struct {
	name string

	// y[i] = the dot of slot i and x, 1 ≤ n ≤ 8. Lines ahead bytes later are asked for meanwhile.
	dots [3]func(y *float64, g *byte, off *int, n, stride int, x *float64, lines, ahead int)

	// r = r + Σ_i c[i] g_i, in the order of i, 1 ≤ n ≤ 8; where keep is 0, not −1, r is 0 before, whatever
	// it holds. Lines ahead bytes later are asked for meanwhile.
	combine [3]func(r *float64, g *byte, off *int, n, stride int, c *float64, lines, ahead, keep int)

	dotsAhead, combineAhead [3]int

	// combineFull is combine of all slots of full panels, each next bytes behind the one before; c goes
	// on from panel to panel. Nil where panels are better taken one by one.
	combineFull [3]func(r *float64, g *byte, panels, next int, c *float64, lines, keep int)

	// combineMany is combine for p vectors and all slots of full panels, each next bytes behind the
	// one before. Vector i has its coefficients at c[i], c[most+i], c[2·most+i], …, and its r ldr
	// numbers further than the one before. 2 ≤ p ≤ most = mostCombine. Nil where there is none.
	combineMany [3]func(r *float64, ldr int, g *byte, panels, next int, c *float64, p, lines int)
	mostCombine int

	// combineTiles sets p to r = Σ_i c[i] g_i, or to (x − r)/λ where x is not nil, rounded to float32, and
	// tells whether all of it is finite, of tiles stride bytes apart and of the panels listed, with eight
	// coefficients for each. A panel is listed as where it begins in a tile, how far apart their lines are,
	// its mask, and where its powers of two begin in a tile's, which for F16 are at exp, stride bytes
	// apart; anyPanel tells whether slots may be out. dotsTiles sets y to the dots of x with the slots of
	// panels listed, all of them in, those of the next tile after them. r and w are a tile's columns of
	// memory. Nil where tiles are better taken one by one.
	combineTiles [3]func(p *byte, r *float64, g *byte, tiles, stride int, list *int, panels int, c *float64, exp *int16, lines, ahead int, x *byte, lambda float64) bool
	dotsTiles    [3]func(y, w *float64, g *byte, tiles, stride int, list *int, panels int, exp *int16, x *byte, lines, ahead int)
	anyPanel     bool

	// x = the numbers of lines, stride bytes apart.
	expand [dtypes]func(x *float64, p *byte, stride, lines int)

	// The lines stride bytes apart at each of tiles places g become the numbers of p, those of a place
	// after those of the one before, in the row's dtype; those of F16 times both of its scales first.
	put    func(g **byte, tiles, stride int, p *byte, lines int) // as they are
	toBF16 func(g **byte, tiles, stride int, p *float32, lines int)
	toF16  func(g **byte, tiles, stride int, p *float32, lines int, scale *[2]float32)

	// flush orders what put, toBF16 and toF16 wrote before all that this goroutine writes later. Nil
	// where that needs nothing.
	flush func()

	top func(x *float32, n int) float32 // the largest magnitude, n a multiple of 16

	many *many // nil where products of many with many are made one by one

	dot    func(x, y *float64, n int) float64         // n a multiple of 16
	finish func(r, x *float64, lambda float64, n int) // r = (x − r)/λ, n a multiple of 16

	// round sets n numbers of a dtype at p to the nearest of x's, and tells whether all are finite; n
	// is a multiple of 16. Nil for F64.
	round [dtypes]func(p *byte, x *float64, n int) bool

	// narrow and widen are ToBF16, ToF16 and their inverses of n numbers, a multiple of 16, at any
	// place. Nil for F32 and F64.
	narrow [dtypes]func(p *byte, x *float32, n int)
	widen  [dtypes]func(x *float32, p *byte, n int)

	// solve does Solve for rows [i, i+p), p ≤ solveRows, of n columns, a multiple of 16; squares
	// sets y_j = Σ_i w_ij², in the order of i, alike.
	solve   func(w *float64, ldw int, l *float64, ldl, i, p, n int)
	squares func(y, w *float64, ldw, rows, n int)
}

// Scratch is what one goroutine needs for a variant's methods. The zero value is ready, and
// stays as large as it was needed.
type Scratch struct {
	y    [PanelSlots]float64
	c    [mostPanels * PanelSlots]float64
	off  [PanelSlots]int
	g    [MostTiles]*byte // nil between calls
	e    [MostTiles][2]float32
	f    []float32
	a, b []float64 // packed
	x    []float64
	cm   []float64
	rows []int
	sums []float64
	list []int
}

// grow returns n numbers of p's memory, of any value.
func grow[T any](p *[]T, n int) []T {
	if cap(*p) < n {
		*p = make([]T, n)
	}
	return (*p)[:n]
}

// Name is what ByName takes.
func (v *Variant) Name() string { return v.name }

// variants are those that this CPU can run, the fastest last.
var variants = []*Variant{&generic}

// Variants lists the implementations that this CPU can run, the fastest last.
func Variants() []*Variant { return slices.Clone(variants) }

// Best is the fastest implementation that this CPU can run.
func Best() *Variant { return variants[len(variants)-1] }

// ByName finds an implementation by its name, "generic" say; "" is Best.
func ByName(name string) (*Variant, error) {
	if name == "" {
		return Best(), nil
	}
	var names []string
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
		names = append(names, v.name)
	}
	return nil, fmt.Errorf("kernel is %q, must be one of %q on this CPU", name, names)
}
