package shard

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"

	"mfac/shard/kernel"
	"mfac/shard/pool"
)

const (
	// A unit of work is some tiles next to each other, a power of two so that they are a subtree of
	// the tree over all tiles: as many as make mostUnit products, a few ms, but at least one and
	// at most 1<<mostLevels.
	mostLevels = 4
	mostUnit   = 1 << 21

	// smallWork is the number of products below which a call stays on its goroutine: some
	// 200 µs where rows come from memory, ten times what handing work over takes.
	smallWork = 1 << 20

	// shortWork is the number of products below which a task of a pool is short: less than a ms.
	// A chunk's is not: the caller's core has more chunks to take from the bus meanwhile. waitedFor is
	// the same for a query's whole pass, whose caller has nothing else to do: some 2 ms.
	shortWork = 1 << 22
	waitedFor = 1 << 25

	// leastUnits is how many units a pass that is no Sum has for each thread, where there are tiles
	// enough: who has none left waits for others by less than a part in so many.
	leastUnits = 8
)

// GroupCols is the number of columns that a unit of work has at most. A Sum of fewer has nothing
// to do before its last column is there.
const GroupCols = TileCols << mostLevels

// op is what a pass does.
type op uint8

const (
	opProducts op = iota
	opDots
	opDot
	opGram
	opResidual
	opApply
	opMisfit
	opColumns
	opTouch
	opDiag
	opEach
	opSum
	opWhiten
	opSquares
)

// pass is a call at work, or a Sum. It is used again.
type pass struct {
	s *storage
	op
	first, tiles int // those that it goes over
	levels       int // a unit is 1<<levels tiles
	tree         tree

	// Its arguments; which there are depends on op.
	slot   int
	mask   Mask
	slots  []int
	i0, i1 int
	norms  bool
	x      []Vector
	own    [2]Vector // that x may be
	c      []float64
	k      int
	solve  bool
	scaled bool
	plain  bool // of opColumns: R divides nothing
	lambda float64

	arriving bool // a Sum's, of columns as they come

	answer Answer
	w      []float64
	white  []float64 // of opWhiten and opSquares
	lo, hi int64
	dst    []float64
	bytes  []byte
	dtype  DType
	out    []byte       // of opGram: not 0 where a column is left out; nil: none is
	bad    atomic.Int64 // the first column that was not finite, or hi

	each    func(i int)                // of opEach: what is done for each tile
	sumPart func(i int, dst []float64) // of opSum: a tile's part

	base  int          // of opColumns: the unit of the first tile
	next  atomic.Int64 // unit, where there is no pool
	units int
	group sync.WaitGroup
}

// scratch is what one goroutine needs.
type scratch struct {
	kernel.Scratch
	x, r, stack []float64
	v, low      []float64
	lines       []byte // of a tile
}

func scratchOf(w *pool.Worker) *scratch {
	sc, _ := w.Local.(*scratch)
	if sc == nil {
		sc = new(scratch)
		w.Local = sc
	}
	return sc
}

// grow returns n floats of p's memory, of any value.
func grow(p *[]float64, n int) []float64 {
	if cap(*p) < n {
		*p = make([]float64, n)
	}
	return (*p)[:n]
}

// pass makes one over tiles [first, first+tiles), work products in all.
func (s *storage) pass(what op, first, tiles int, work int64) *pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *pass
	if n := len(s.passes); n > 0 {
		p, s.passes = s.passes[n-1], s.passes[:n-1]
	} else {
		p = &pass{s: s}
	}
	p.op, p.first, p.tiles = what, first, tiles
	p.levels = min(mostLevels, max(0, bits.Len64(uint64(mostUnit/max(1, work/int64(tiles))))-1))
	return p
}

// split makes units smaller where there are few.
func (p *pass) split() {
	for p.levels > 0 && p.tiles>>p.levels < leastUnits*p.s.threads {
		p.levels--
	}
}

// done takes a pass back. Nobody works on it any more.
func (s *storage) done(p *pass) {
	p.tree.end()
	p.mask, p.slots, p.x, p.own, p.c, p.dst, p.bytes, p.out = nil, nil, nil, [2]Vector{}, nil, nil, nil, nil
	p.each, p.sumPart = nil, nil
	p.norms, p.solve, p.scaled, p.plain, p.arriving, p.base, p.answer, p.w, p.white = false, false, false, false, false, 0, Answer{}, nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passes = append(s.passes, p)
}

// caller is a worker for work on the goroutine at hand.
func (s *storage) caller() *pool.Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.callers); n > 0 {
		w := s.callers[n-1]
		s.callers = s.callers[:n-1]
		return w
	}
	return new(pool.Worker)
}

func (s *storage) leave(w *pool.Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers = append(s.callers, w)
}

// count is the number of units.
func (p *pass) count() int { return (p.tiles-1)>>p.levels + 1 }

// do carries out units of p, in any order, and waits for them. work is the products in all.
func (s *Store) do(p *pass, units pool.Span, work int64) error {
	if err := s.spec.Abort.Err(); err != nil {
		return err
	}
	if err := p.checkAware(); err != nil {
		return err
	}
	if s.pool != nil && work >= s.smallWork {
		spec := s.spec
		spec.Short = work < shortWork || work < waitedFor && spec.Class == pool.Query && p.tiles == s.tiles() && !p.arriving
		return s.pool.Do(spec, units, p)
	}
	p.next.Store(int64(units.First))
	p.units = units.First + units.N
	if others := min(s.threads, units.N) - 1; work >= s.smallWork && s.pool == nil {
		for range others {
			p.group.Go(p.loop)
		}
	}
	p.loop()
	p.group.Wait()
	return nil
}

func (p *pass) loop() {
	w := p.s.caller()
	defer p.s.leave(w)
	for i := int(p.next.Add(1) - 1); i < p.units; i = int(p.next.Add(1) - 1) {
		p.Unit(w, i)
	}
}

// Unit implements pool.Work.
func (p *pass) Unit(w *pool.Worker, i int) {
	sc := scratchOf(w)
	lo := (i - p.base) << p.levels
	hi := min(lo+1<<p.levels, p.tiles)
	switch p.op {
	case opColumns:
		for t := lo + p.columnsTiles(sc, p.first+lo, p.first+hi); t < hi; t++ {
			p.columns(sc, p.first+t)
		}
	case opTouch:
		for t := lo; t < hi; t++ {
			p.s.touch(p.first + t)
		}
	case opDiag, opWhiten, opSquares:
		for t := lo; t < hi; t++ {
			p.diag(sc, p.first+t)
		}
	case opEach:
		for t := lo; t < hi; t++ {
			p.each(t)
		}
	default:
		p.tree.add(i, p.sum(sc, lo, hi))
	}
}

// sum adds the parts of tiles [lo, hi) pairwise. A part waits on the stack until the one that it
// is added to is there: below tile t lie as many as t has bits set.
func (p *pass) sum(sc *scratch, lo, hi int) []float64 {
	n := p.tree.n
	if sum := p.dotsTiles(sc, lo, hi); sum != nil {
		return sum
	}
	stack := grow(&sc.stack, (mostLevels+1)*n)
	depth := 0
	for t := range hi - lo {
		p.part(sc, lo+t, stack[depth*n:(depth+1)*n])
		depth++
		for i := t; i&1 == 1; i >>= 1 {
			depth--
			add(stack[(depth-1)*n:depth*n], stack[depth*n:])
		}
	}
	for depth > 1 { // odd last ones
		depth--
		add(stack[(depth-1)*n:depth*n], stack[depth*n:])
	}
	return stack[:n]
}

// part sets dst to one tile's part of the sum, in the order of the package comment.
func (p *pass) part(sc *scratch, tile int, dst []float64) {
	s, k := p.s, p.k
	switch p.op {
	case opProducts:
		g := s.tile(tile)
		x := grow(&sc.x, g.Cols())
		s.kernel.Row(x, g, p.slot)
		s.over(x, int64(tile)*TileCols)
		if tile+1 < s.tiles() {
			s.kernel.FetchRow(s.tile(tile+1), p.slot)
		}
		s.kernel.Dots(&sc.Scratch, dst, g, x, p.mask)
	case opDots:
		g := s.tile(tile)
		cols := g.Cols()
		x := grow(&sc.x, k*cols)
		for i := range k {
			s.load(p.x[i], x[i*cols:(i+1)*cols], int64(tile)*TileCols)
		}
		if p.norms {
			for i := range k {
				xi := x[i*cols:][:dotCols(s.width(tile))]
				if p.x[i].plain {
					dst[k*s.slots+i] = p.normTimes(sc, xi, tile)
					continue
				}
				dst[k*s.slots+i] = p.norm2(sc, xi, tile)
			}
		}
		for i := range k {
			if !p.x[i].plain {
				s.over(x[i*cols:(i+1)*cols], int64(tile)*TileCols)
			}
		}
		s.kernel.Dots(&sc.Scratch, dst[:k*s.slots], g, x, p.mask)
	case opDot:
		n := dotCols(s.width(tile))
		x := grow(&sc.x, 2*n)
		s.load(p.x[0], x[:n], int64(tile)*TileCols)
		s.load(p.x[1], x[n:], int64(tile)*TileCols)
		s.over(x[n:], int64(tile)*TileCols)
		dst[0] = s.kernel.Dot(x[:n], x[n:])
	case opGram:
		g := s.tile(tile)
		if p.out != nil {
			g = p.kept(sc, g, tile)
		}
		if s.scales != nil {
			p.gramOver(sc, dst, g, tile)
			return
		}
		s.kernel.Gram(&sc.Scratch, dst, g, p.slots, p.i0, p.i1)
	case opResidual:
		g := s.tile(tile)
		cols := g.Cols()
		r, x := grow(&sc.r, k*cols), grow(&sc.x, cols)
		s.kernel.Combine(&sc.Scratch, r, g, 0, p.c, p.mask)
		for i := range k {
			s.load(p.x[i], x, int64(tile)*TileCols)
			if p.scaled {
				s.times(x, int64(tile)*TileCols)
			}
			for j, c := range r[i*cols:][:s.width(tile)] { // past it x is 0; c may be 0·∞
				if p.scaled {
					x[j] = math.FMA(p.lambda, x[j], c)
					continue
				}
				x[j] -= c
			}
			dst[i] = p.norm2(sc, x, tile)
		}
	case opApply:
		p.apply(sc, tile, dst)
	case opMisfit:
		p.misfit(sc, tile, dst)
	case opSum:
		p.sumPart(tile, dst)
	}
}

// norm2 is xᵀx of columns of a tile, with scales xᵀR⁻¹x.
func (p *pass) norm2(sc *scratch, x []float64, tile int) float64 {
	if p.s.scales == nil {
		return p.s.kernel.Dot(x, x)
	}
	y := grow(&sc.v, len(x))
	copy(y, x)
	p.s.over(y, int64(tile)*TileCols)
	return p.s.kernel.Dot(x, y)
}

// normTimes is xᵀx, with scales xᵀRx.
func (p *pass) normTimes(sc *scratch, x []float64, tile int) float64 {
	if p.s.scales == nil {
		return p.s.kernel.Dot(x, x)
	}
	y := grow(&sc.v, len(x))
	copy(y, x)
	p.s.times(y, int64(tile)*TileCols)
	return p.s.kernel.Dot(x, y)
}

// dotCols is how many columns a dot of two vectors goes over.
func dotCols(width int) int { return (width + 15) &^ 15 }

// columns works out the combination of one tile, and what is to be made of it.
func (p *pass) columns(sc *scratch, tile int) {
	s := p.s
	start := int64(tile) * TileCols
	a, b := max(p.lo, start), min(p.hi, start+TileCols)
	g := s.tile(tile)
	lineCols := g.DType.LineCols()
	line := int(a-start) / lineCols
	n := (lines(g.DType, int(b-start)) - line) * lineCols
	skip := int(a-start) % lineCols
	r := grow(&sc.r, p.k*n)
	if p.answer.C != nil {
		p.answers(sc, r, tile, line)
	} else {
		s.kernel.Combine(&sc.Scratch, r, g, line, p.c, p.mask)
	}
	for i := range p.k {
		ri := r[i*n+skip:][:b-a]
		if p.scaled { // λv + r
			x := grow(&sc.x, len(ri))
			s.load(p.x[i], x, a)
			s.times(x, a)
			for j, r := range ri {
				ri[j] = math.FMA(p.lambda, x[j], r)
			}
		}
		if p.solve { // (v − r)/λ
			x := grow(&sc.x, len(ri))
			s.load(p.x[i], x, a)
			s.kernel.Finish(ri, x, p.lambda)
		}
		if p.answer.C == nil && !p.scaled && !p.plain { // of an answer it is done
			s.over(ri, a)
		}
		if p.bytes == nil {
			copy(p.dst[int64(i)*(p.hi-p.lo)+a-p.lo:], ri)
			continue
		}
		size := p.dtype.Size()
		if bad := s.kernel.Round(p.bytes[(a-p.lo)*int64(size):][:len(ri)*size], ri, p.dtype); bad >= 0 {
			p.note(a + int64(bad))
		}
	}
}

// note notes a column that is not finite.
func (p *pass) note(col int64) {
	for old := p.bad.Load(); col < old && !p.bad.CompareAndSwap(old, col); old = p.bad.Load() {
	}
}

// total carries out the whole of a pass that sums, and sets dst.
func (s *Store) total(dst []float64, p *pass, work int64) error {
	p.split()
	n := p.count()
	p.tree.begin(len(dst), n)
	err := s.do(p, pool.All(n), work)
	if err == nil {
		copy(dst, p.tree.sum())
	}
	s.done(p)
	return err
}

// pageBytes is the least memory that a machine gives at once.
const pageBytes = 4096

// Touch has the machine give the memory of the rows, and to the threads that will read them: a
// region of zeros that was only mapped is not there yet, and may turn out not to be. To be called
// before anything else is.
func (s *Store) Touch() error {
	tiles := s.tiles()
	p := s.pass(opTouch, 0, tiles, int64(len(s.g)/4))
	defer s.done(p)
	return s.do(p, pool.All(p.count()), int64(len(s.g)/4))
}

func (s *storage) touch(tile int) {
	size := tileStride(s.dtype, s.slots)
	lo := int64(tile) * size
	g := s.g[lo:min(lo+size, int64(len(s.g)))]
	for i := 0; i < len(g); i += pageBytes {
		p := (*volatile)(&g[i])
		p.store(p.load())
	}
}

// volatile is a byte whose accesses the compiler does not take out.
type volatile byte

//go:noinline
func (v *volatile) load() byte { return byte(*v) }

//go:noinline
func (v *volatile) store(b byte) { *v = volatile(b) }
