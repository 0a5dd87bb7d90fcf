//go:build unix

package agent

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"mfac/wire"
)

const (
	maxBuffers = 4096    // of one connection
	maxBytes   = 1 << 46 // of a buffer
)

// buffer is memory that the program shares by a file's descriptor. Where the file can't be cut short any more, it
// is mapped. Where it could be, touching a page that has gone would kill the agent (SIGBUS): there it has memory
// of its own, which a call fills from the file before, and writes to the file after it.
type buffer struct {
	mem    []byte
	file   *os.File // nil where the memory is the file's own
	mu     sync.Mutex
	users  int
	closed bool
}

// openBuffer takes the descriptor, in any case.
func openBuffer(fd int, size int64) (_ *buffer, err error) {
	f := os.NewFile(uintptr(fd), "buffer")
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if size < 1 || size > min(maxBytes, math.MaxInt) {
		return nil, wire.Invalid("size", size, fmt.Sprintf("in [1, %d]", int64(maxBytes)))
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at a buffer: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() < size {
		return nil, wire.Invalid("size", size, fmt.Sprintf("at most %d, the file's, a regular one", st.Size()))
	}
	if sealed(fd) {
		b := &buffer{}
		if b.mem, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return nil, fmt.Errorf("map a buffer of %d bytes: %w", size, err)
		}
		_ = f.Close() // the mapping stays
		return b, nil
	}
	b := &buffer{file: f}
	if b.mem, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return nil, fmt.Errorf("memory for a buffer of %d bytes: %w", size, err)
	}
	return b, nil
}

// use keeps the memory there until done.
func (b *buffer) use() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.users++
	return true
}

func (b *buffer) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users--
	b.unmap()
}

// close lets the memory go once nobody uses it.
func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.unmap()
}

func (b *buffer) unmap() {
	if !b.closed || b.users > 0 || b.mem == nil {
		return
	}
	_ = unix.Munmap(b.mem)
	b.mem = nil
	if b.file != nil {
		_ = b.file.Close()
	}
}

// dtypes of views: those of the wire that client has types for, and i8 for masks.
const maskType = "i8"

var itemBytes = map[string]int64{string(wire.F32): 4, string(wire.F64): 8, maskType: 1}

// view names numbers in a buffer: Rows vectors of Cols numbers each, one behind the other.
type view struct {
	Buffer uint64 `msgpack:"buffer"`
	Offset int64  `msgpack:"offset"` // bytes
	DType  string `msgpack:"dtype"`
	Rows   int64  `msgpack:"rows"` // 0: 1
	Cols   int64  `msgpack:"cols"`
}

// held is a view whose memory stays until it is let go.
type held struct {
	view
	b   *buffer
	mem []byte
}

// hold checks a view of what may be of these dtypes. in says that its numbers are read by the call.
func (c *conn) hold(field string, v *view, in bool, dtypes ...string) (*held, error) {
	if v == nil {
		return nil, wire.Invalid(field, "missing", "a view of a buffer")
	}
	w := *v
	if w.Rows == 0 {
		w.Rows = 1
	}
	size := itemBytes[w.DType]
	ok := false
	for _, t := range dtypes {
		ok = ok || w.DType == t
	}
	if !ok {
		return nil, wire.Invalid(field+".dtype", w.DType, fmt.Sprintf("one of %v", dtypes))
	}
	c.mu.Lock()
	b := c.buffers[w.Buffer]
	c.mu.Unlock()
	if b == nil || !b.use() {
		return nil, wire.Invalid(field+".buffer", w.Buffer, "a buffer of this connection")
	}
	h := &held{view: w, b: b}
	total := int64(len(b.mem))
	switch {
	case w.Cols < 1 || w.Cols > total/size || w.Rows < 1 || w.Rows > total/size/w.Cols:
		b.done()
		return nil, wire.Invalid(field+" shape", fmt.Sprintf("(%d, %d)", w.Rows, w.Cols), fmt.Sprintf("positive, and within the buffer's %d bytes", total))
	case w.Offset < 0 || w.Offset%size != 0 || w.Offset > total-w.Rows*w.Cols*size:
		b.done()
		return nil, wire.Invalid(field+".offset", w.Offset, fmt.Sprintf("a multiple of %d in [0, %d]", size, total-w.Rows*w.Cols*size))
	}
	h.mem = b.mem[w.Offset:][:w.Rows*w.Cols*size]
	if in && b.file != nil {
		if _, err := b.file.ReadAt(h.mem, w.Offset); err != nil {
			b.done()
			if errors.Is(err, io.EOF) {
				return nil, wire.Invalid(field, "cut short by its owner", "as long as when it was handed over")
			}
			return nil, fmt.Errorf("read a buffer: %w", err)
		}
	}
	return h, nil
}

// written puts what a call has written into the program's memory.
func (h *held) written() error {
	if h.b.file == nil {
		return nil
	}
	if _, err := h.b.file.WriteAt(h.mem, h.Offset); err != nil {
		return fmt.Errorf("write a buffer: %w", err)
	}
	return nil
}

func (h *held) release() {
	if h != nil {
		h.b.done()
	}
}

// rowsOf are the view's vectors. Its dtype is T's.
func rowsOf[T float32 | float64 | int8](h *held) [][]T {
	all := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(h.mem))), h.Rows*h.Cols)
	rows := make([][]T, h.Rows)
	for i := range rows {
		rows[i] = all[int64(i)*h.Cols:][:h.Cols:h.Cols]
	}
	return rows
}
