package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"mfac/wire"
)

// touched is raw NATS of which both ends touch the bytes, as whoever moves gradients must: they are summed
// where they lie before they are sent, and where they come they are summed and copied to where they stay.
type touched struct {
	b   *bed
	mem []byte // the client's
}

// newTouched has peers with memory of their own for n bytes in all.
func newTouched(b *bed, n int64) (*touched, error) {
	t := &touched{b: b, mem: make([]byte, n)}
	share := t.share()
	for w := range b.workers {
		mem := make([]byte, share)
		for i := range mem {
			mem[i] = byte(i)
		}
		nc, err := b.connect(fmt.Sprintf("touched-w%d", w))
		if err != nil {
			return nil, err
		}
		b.stops = append(b.stops, nc.Close)
		for op, handle := range map[string]nats.MsgHandler{
			"up": func(m *nats.Msg) {
				wire.Checksum(m.Data)
				copy(mem[placeOf(m):], m.Data)
				_ = m.Respond(nil) // who asked runs into its timeout
			},
			"down": func(m *nats.Msg) {
				part := mem[placeOf(m):][:binary.LittleEndian.Uint64(m.Data)]
				wire.Checksum(part)
				_ = m.Respond(part)
			},
		} {
			sub, err := nc.Subscribe(fmt.Sprintf("touched.%s.w%d.*", op, w), handle)
			if err == nil {
				err = sub.SetPendingLimits(-1, -1)
			}
			if err != nil {
				return nil, err
			}
		}
		if err := nc.Flush(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// placeOf is where in a peer's memory the bytes of a request lie: its subject ends with that.
func placeOf(m *nats.Msg) int {
	at, _ := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	return at
}

// share is the bytes of a peer.
func (t *touched) share() int64 {
	return (int64(len(t.mem)) + int64(t.b.workers) - 1) / int64(t.b.workers)
}

// move moves all bytes in chunks of a size, up or down, as many in flight as rawMove has.
func (t *touched) move(size int, up bool) error {
	b, share := t.b, t.share()
	var wg sync.WaitGroup
	errs := make(chan error, b.workers*rawInFlight)
	for w := range b.workers {
		mine := t.mem[int64(w)*share : min(int64(w+1)*share, int64(len(t.mem)))]
		todo := make(chan int, len(mine)/size+1)
		for at := 0; at < len(mine); at += size {
			todo <- at
		}
		close(todo)
		for range max(1, min(rawInFlight, rawBytes/size)) {
			wg.Go(func() {
				for at := range todo {
					part := mine[at:min(at+size, len(mine))]
					op, payload := "up", part
					if up {
						wire.Checksum(part)
					} else {
						op, payload = "down", binary.LittleEndian.AppendUint64(nil, uint64(len(part)))
					}
					reply, err := b.raw.Request(fmt.Sprintf("touched.%s.w%d.%d", op, w, at), payload, rawTimeout)
					if err != nil {
						errs <- err
						return
					}
					if !up {
						wire.Checksum(reply.Data)
						copy(part, reply.Data)
					}
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	return <-errs
}
