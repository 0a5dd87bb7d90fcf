package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"mfac/shard"
	"mfac/shard/kernel"
	"mfac/shard/pool"
)

// gemvFigures hold dots and combinations against OpenBLAS on the same numbers: in float32, where it
// sums in float32 too, and in float64.
func gemvFigures() []figure {
	var out []figure
	for _, m := range []int{16, 64, 256, 1024} {
		for _, d := range []int64{100_000, 1_000_000} {
			for _, against := range []string{"sgemv", "dgemv", "torch"} {
				// In float64 the largest one would take 16 GB.
				if against == "dgemv" && (m == 16 || m == 1024) == (d == 1_000_000) {
					continue
				}
				if against == "torch" && d != 1_000_000 {
					continue
				}
				for _, threads := range []int{1, 2} {
					for _, op := range []string{"dots", "combine"} {
						out = append(out, gemvFigure(against, op, m, d, threads))
					}
				}
			}
		}
	}
	return out
}

func gemvFigure(against, op string, m int, d int64, threads int) figure {
	l := line{
		name: fmt.Sprintf("%s/%s/m=%d/d=%d/threads=%d", against, op, m, d, threads),
	}
	switch against {
	case "sgemv":
		l.what, l.atLeast = op+" over float32 rows with float64 sums, against OpenBLAS sgemv, which sums in float32", 0.95
	case "dgemv":
		l.what, l.atLeast = op+" over float32 rows with float64 sums, against OpenBLAS dgemv on the same numbers in float64", 1.7
	case "torch":
		l.what = op + " over float32 rows with float64 sums, against torch.mv in float32"
	}
	return figure{
		must: against != "torch", lines: one(l),
		lacks: func(e *env) string {
			if why := e.lacksBLAS(); why != "" {
				return why
			}
			if against == "torch" && !e.py.torc {
				return "the Python has no torch: name one with --python"
			}
			if why := lacksCores(threads); why != "" {
				return why
			}
			if e.gemv != nil && e.gemv.m == m && e.gemv.cols == d {
				return "" // it is there already
			}
			need := 4 * int64(m) * d * 2
			if against == "dgemv" {
				need += 8 * int64(m) * d
			}
			e.dropBeds()
			if err := e.forget(); err != nil {
				return err.Error()
			}
			return lacksMemory(need + 1<<30)
		},
		setup: func(e *env) (sampler, error) { return gemvPair(e, against, op, m, d, threads) },
	}
}

// gemvBed is rows that the Python side has too.
type gemvBed struct {
	*rowsBed
	vectors int // in float64 there; 0: nothing is in float64
	error32 map[string]string
}

// forget frees what Python holds.
func (e *env) forget() error {
	_, err := e.py.ask(ask{"what": "forget"})
	return err
}

// gemvOf makes a bed with so many vectors in float64 there, or finds the last one to be it.
func (e *env) gemvOf(m int, d int64, vectors int) (*gemvBed, error) {
	b := e.gemv
	if b == nil || b.m != m || b.cols != d {
		e.dropBeds()
		if err := e.forget(); err != nil {
			return nil, err
		}
		rows, err := newRows(shard.F32, m, d)
		if err != nil {
			return nil, err
		}
		b = &gemvBed{rowsBed: rows, error32: map[string]string{}}
		e.gemv = b
		if err := e.py.rows(rows); err != nil {
			return nil, err
		}
	}
	if vectors > b.vectors {
		if _, err := e.py.ask(ask{"what": "doubles", "k": vectors}); err != nil {
			return nil, err
		}
		b.vectors = vectors
	}
	return b, nil
}

// leastTime is for how long a short operation is repeated.
const leastTime = 20 * time.Millisecond

func gemvPair(e *env, against, op string, m int, d int64, threads int) (sampler, error) {
	vectors := 0
	if against == "dgemv" {
		vectors = 1
	}
	b, err := e.gemvOf(m, d, vectors)
	if err != nil {
		return sampler{}, err
	}
	store, err := b.store(kernel.Best(), threads)
	if err != nil {
		return sampler{}, err
	}
	pass := b.dots(store)
	if op == "combine" {
		pass = b.combine(store)
	}
	once, err := timed(pass)
	if err != nil {
		return sampler{}, err
	}
	reps := repeat(once, leastTime)
	var second seconds
	p := pair(func() (ours, base time.Duration, err error) {
		if base, err = e.py.run(against+"/"+op, threads, reps); err != nil {
			return 0, 0, err
		}
		for range reps / 2 { // as the other side does
			if err := pass(); err != nil {
				return 0, 0, err
			}
		}
		before := shared(b.pools[threads])
		ours, err = timed(func() error {
			for range reps {
				if err := pass(); err != nil {
					return err
				}
			}
			return nil
		})
		second.add(before, shared(b.pools[threads]))
		return ours / time.Duration(reps), base, err
	}, nil)
	p.sides = []side{{"ours", pass}}
	note := ""
	if against == "sgemv" {
		if note, err = b.errors(e, store, op, threads); err != nil {
			return sampler{}, err
		}
	}
	p.notes = func() []string { return []string{strings.TrimPrefix(note+second.String(), "; ")} }
	return p, nil
}

// seconds is how the second thread took part in the runs: in a pass the caller begins at once, the other
// one is woken or looks for work.
type seconds struct{ missing, share []float64 }

func shared(p *pool.Pool) pool.Shared {
	if p == nil {
		return pool.Shared{}
	}
	return p.Shared()
}

func (s *seconds) add(before, after pool.Shared) {
	if tasks, units := float64(after.Tasks-before.Tasks), float64(after.Units-before.Units); tasks > 0 {
		s.missing = append(s.missing, float64(after.Alone-before.Alone)/tasks)
		s.share = append(s.share, 1-float64(after.Own-before.Own)/units)
	}
}

// String is a remark, "" where no caller shared any work.
func (s *seconds) String() string {
	if len(s.share) == 0 {
		return ""
	}
	least, share, _ := spread(s.share)
	_, missing, most := spread(s.missing)
	return fmt.Sprintf("; the second thread does %.2g of it (in the worst run %.2g), is missing in %.2g (%.2g) of passes", share, least, missing, most)
}

// errors says how wrong ours and OpenBLAS' results are, relative in the 2-norm over a sample.
func (b *gemvBed) errors(e *env, s *shard.Store, op string, threads int) (string, error) {
	if note, ok := b.error32[op]; ok {
		return note, nil
	}
	at := func(p []byte, i int64) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
	}
	if _, err := e.py.run("sgemv/"+op, threads, 1); err != nil {
		return "", err
	}
	var want, ours []float64
	var name string
	var step int64
	if op == "dots" {
		if err := b.dots(s)(); err != nil {
			return "", err
		}
		name, step = "y", max(1, int64(b.m)/16)
		for t := int64(0); t < int64(b.m); t += step {
			var sum exactSum
			row := b.row(int(t))
			for j := range b.cols {
				sum.add(at(row, j) * at(b.vector, j)) // exact: 24 bits by 24
			}
			want, ours = append(want, sum.value()), append(ours, b.y[t])
		}
	} else {
		out := make([]byte, 4*b.cols)
		if _, err := s.CombineBytes(out, shard.F32, b.coef, shard.FullMask(b.m), 0, b.cols); err != nil {
			return "", err
		}
		name, step = "r", b.cols/4096
		for j := int64(0); j < b.cols; j += step {
			var sum exactSum
			for t := range b.m {
				sum.add(at(b.row(t), j) * b.coef[t])
			}
			want, ours = append(want, sum.value()), append(ours, at(out, j))
		}
	}
	theirs, err := e.py.ask(ask{"what": "take", "name": name, "from": 0, "step": step})
	if err != nil {
		return "", err
	}
	if len(theirs.X) != len(want) {
		return "", fmt.Errorf("%d numbers of %s from python, not %d", len(theirs.X), name, len(want))
	}
	note := fmt.Sprintf("error %.1e, OpenBLAS' %.1e", relativeError(ours, want), relativeError(theirs.X, want))
	b.error32[op] = note
	return note, nil
}
