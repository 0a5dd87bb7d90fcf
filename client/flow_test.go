package client

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mfac/wire"
)

func TestCut(t *testing.T) {
	info := &wire.Info{Spec: wire.RunSpec{Dim: 10_000, Shards: 2}, Lo: []int64{0, 4_500}}
	got := cut(info, 0, 10_000, 1, 8_200, wire.F32) // 2,050 columns: 2 tiles
	want := []piece{{0, 0, 0, 2048}, {0, 0, 2048, 2048}, {0, 0, 4096, 404}, {1, 0, 4500, 2048}, {1, 0, 6548, 2048}, {1, 0, 8596, 1404}}
	if !slices.Equal(got, want) {
		t.Errorf("pieces are %v", got)
	}
	got = cut(info, 2_000, 2_600, 2, 8_200, wire.F32) // a part lies on the same grid
	want = []piece{
		{0, 0, 2000, 48}, {0, 0, 2048, 2048}, {0, 0, 4096, 404}, {0, 1, 2000, 48}, {0, 1, 2048, 2048}, {0, 1, 4096, 404},
		{1, 0, 4500, 100}, {1, 1, 4500, 100},
	}
	if !slices.Equal(got, want) {
		t.Errorf("pieces are %v", got)
	}
	if got := cut(info, 0, 4, 1, 8, wire.F64); len(got) != 4 {
		t.Errorf("pieces are %v", got)
	}
	if DefaultChunkBytes != 983_040 || DefaultChunkBytes > wire.MaxPayload {
		t.Errorf("chunks of %d bytes", DefaultChunkBytes)
	}
}

// Payloads are the same on any machine.
func TestNumbersInMemory(t *testing.T) {
	f32 := []float32{0, 1, -2.5, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1))}
	f64 := []float64{0, 1, -2.5, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(-1)}
	was := littleEndian
	defer func() { littleEndian = was }()
	for _, little := range []bool{was, false} {
		littleEndian = little
		p, q := payloadOf(f32), payloadOf(f64)
		if !slices.Equal(p, encode(f32)) || !slices.Equal(q, encode(f64)) {
			t.Errorf("payloads differ (little-endian %v)", little)
		}
		a, b := make([]float32, len(f32)), make([]float64, len(f64))
		numbersTo(a, p)
		numbersTo(b, q)
		if !slices.Equal(a, f32) || !slices.Equal(b, f64) {
			t.Errorf("numbers differ (little-endian %v): %v %v", little, a, b)
		}
	}
	if !overlap(f32[1:3], f32[2:]) || overlap(f32[:2], f32[2:]) || overlap(f32[:0], f32) {
		t.Error("overlap")
	}
}

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{}
		ctx, cancel := context.WithCancel(t.Context())
		order := make(chan int, 10)
		var held [20]sent
		take := func(i int, ctx context.Context, p *pace, bytes int64) {
			go func() {
				if s, err := l.acquire(ctx, p, size{bytes, bytes}); err == nil {
					held[i] = s
					order <- i
				}
			}()
			synctest.Wait()
		}
		give := func(i int, p *pace, g *grant) { l.release(p, held[i], nil, g) }
		come := func() (got []int) {
			synctest.Wait()
			for len(order) > 0 {
				got = append(got, <-order)
			}
			slices.Sort(got) // goroutines that are let go at once run in any order
			return got
		}
		want := func(what string, want ...int) {
			t.Helper()
			if got := come(); !slices.Equal(got, want) {
				t.Fatalf("%s: %v came, want %v", what, got, want)
			}
		}
		take(1, t.Context(), &l.up, 10)
		take(2, t.Context(), &l.up, 10)
		take(3, ctx, &l.up, 30)
		take(4, t.Context(), &l.up, 10)
		want("the first alone", 1)
		give(1, &l.up, grantOf(25, 1000))
		want("3 does not fit, 4 does not pass it", 2)
		cancel()
		want("4 moves up", 4)
		give(2, &l.up, nil)
		take(5, t.Context(), &l.up, 15)
		take(6, t.Context(), &l.up, 5)
		want("as much as the credit", 5)
		time.Sleep(2 * time.Second)
		give(4, &l.up, nil)
		want("credit has expired: nothing beside the one in flight")
		give(5, &l.up, nil)
		want("one in flight", 6)
		give(6, &l.up, grantOf(math.MaxInt64, math.MaxInt64))
		if l.bytes != 0 || l.chunks != 0 || l.up.bytes != 0 || l.up.chunks != 0 || l.credit != mostCredit || time.Until(l.until) != mostCreditTime {
			t.Errorf("link is %+v", l)
		}
		l.slow(&l.up)
		take(7, t.Context(), &l.up, 1)
		take(8, t.Context(), &l.up, 1)
		want("no credit while busy", 7)
		give(7, &l.up, nil)
		want("one after the other", 8)
		give(8, &l.up, grantOf(math.MaxInt64, math.MaxInt64))

		// A silence on one way makes it measure anew; two are in flight until then.
		take(9, t.Context(), &l.up, 64)
		l.release(&l.up, held[9], &silence{}, nil)
		for i := 10; i <= 13; i++ {
			take(i, t.Context(), &l.up, 64)
		}
		take(14, t.Context(), &l.down, 64)
		take(15, t.Context(), &l.down, 64)
		take(16, t.Context(), &l.down, 64)
		want("two of each way: results pass", 9, 10, 11, 14, 15)
		time.Sleep(time.Millisecond)
		give(14, &l.down, nil)
		want("one of its own way comes, not one of the other", 16)
		give(10, &l.up, nil)
		want("twice as many, and two", 12, 13)
	})
}

// With no credit, one chunk is in flight at each worker, whatever the number of calls.
func TestFirstChunkAlone(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(320)
	f.delay = time.Millisecond
	commits, err := r.PublishMany(t.Context(), 1, [][]float32{ramp(320), ramp(320), ramp(320)})
	if err != nil || commits[2].Version != 3 {
		t.Fatalf("commits are %v, %v", commits, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peak["a"] != 1 || f.peak["b"] != 1 {
		t.Errorf("at most %v in flight, want 1", f.peak)
	}
}

func TestCredit(t *testing.T) {
	f := newFake(t, "a", "b")
	r := f.attached(1600) // 50 chunks of 16 columns for each worker
	var wants []int64
	f.mu.Lock()
	f.delay = 2 * time.Millisecond
	f.credit = func(worker string, want int64) (int64, int64) {
		if worker == "a" {
			wants = append(wants, want)
			return 4 * 64, 60_000
		}
		return 1 << 20, 60_000
	}
	f.mu.Unlock()
	dst := make([]float32, 1600)
	if _, err := r.IHVP(t.Context(), dst, ramp(1600)); err != nil {
		t.Fatal(err)
	}
	wantTwice(t, dst, ramp(1600))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peak["a"] != 4 {
		t.Errorf("at most %d in flight at a, want 4", f.peak["a"])
	}
	if f.peak["b"] < 8 || f.peak["b"] > sliceWindow {
		t.Errorf("at most %d in flight at b", f.peak["b"])
	}
	if wants[0] != 49*64 || slices.Min(wants) != 0 {
		t.Errorf("wanted %v", wants)
	}
	if l := r.c.link("a"); l.wanted != 0 || l.bytes != 0 || l.chunks != 0 {
		t.Errorf("link is %+v", l)
	}
}

func TestErrorsOfAContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	busy := &wire.Error{Code: wire.CodeBusy}
	err := ended(ctx, busy)
	if !errors.Is(err, wire.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wire.ErrBusy) || code(err) != wire.CodeTimeout {
		t.Errorf("error is %v", err)
	}
	if again := ended(ctx, nil, &expired{cause: ctx.Err()}, err, wire.ErrOverflow); again.Error() != err.Error() || errors.Is(again, wire.ErrOverflow) {
		t.Errorf("error is %v", again)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := ended(ctx, ctx.Err()); errors.Is(err, wire.ErrTimeout) || !errors.Is(err, context.Canceled) || err.Error() != "context canceled" {
		t.Errorf("error is %v", err)
	}
}
