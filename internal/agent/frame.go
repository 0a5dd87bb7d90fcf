//go:build unix

package agent

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"

	"mfac/wire"
)

const (
	maxRequest = 4 << 20 // bytes of a request: a layout and the coefficients of many combinations fit
	maxPassed  = 16      // descriptors that came and no request has taken
	readBytes  = 64 << 10
)

// frames reads a connection: frames of a length (4 bytes, big-endian) and a msgpack map, and the
// descriptors that come beside them.
type frames struct {
	u      *net.UnixConn
	buf    []byte
	r, w   int
	passed []int // descriptors, in order of arrival
}

func newFrames(u *net.UnixConn) *frames { return &frames{u: u, buf: make([]byte, readBytes)} }

// next is the next frame's map, in memory of its own. Its error is io.EOF where the other side has closed the
// connection between two frames.
func (f *frames) next() ([]byte, error) {
	var head [4]byte
	if err := f.read(head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxRequest {
		return nil, wire.Errorf(wire.CodeTooLarge, "frame bytes", n, fmt.Sprintf("in [1, %d]", maxRequest))
	}
	p := make([]byte, n)
	if err := f.read(p); err != nil {
		return nil, err
	}
	return p, nil
}

// read fills p.
func (f *frames) read(p []byte) error {
	for len(p) > 0 {
		if f.r == f.w {
			if err := f.fill(); err != nil {
				return err
			}
		}
		n := copy(p, f.buf[f.r:f.w])
		f.r += n
		p = p[n:]
	}
	return nil
}

func (f *frames) fill() error {
	var oob [256]byte // CmsgSpace(4*maxPassed) and more
	f.r, f.w = 0, 0
	n, oobn, flags, _, err := f.u.ReadMsgUnix(f.buf, oob[:])
	if oobn > 0 {
		if err := f.take(oob[:oobn]); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if flags&unix.MSG_CTRUNC != 0 || len(f.passed) > maxPassed {
		return wire.Errorf(wire.CodeTooLarge, "descriptors", "too many", fmt.Sprintf("at most %d on their way", maxPassed))
	}
	f.w = n
	return nil
}

func (f *frames) take(oob []byte) error {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return wire.Errorf(wire.CodeMalformed, "control message", err, "SCM_RIGHTS")
	}
	for i := range list {
		fds, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			return wire.Errorf(wire.CodeMalformed, "control message", err, "SCM_RIGHTS")
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		f.passed = append(f.passed, fds...)
	}
	return nil
}

// descriptor takes the oldest of those that came, −1 if there is none.
func (f *frames) descriptor() int {
	if len(f.passed) == 0 {
		return -1
	}
	fd := f.passed[0]
	f.passed = f.passed[1:]
	return fd
}

// close closes the descriptors that nobody took.
func (f *frames) close() {
	for fd := f.descriptor(); fd >= 0; fd = f.descriptor() {
		_ = unix.Close(fd)
	}
}

// frameOf is a reply as it is sent.
func frameOf(r *reply) ([]byte, error) {
	body, err := msgpack.Marshal(r)
	if err != nil {
		return nil, err
	}
	p := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(p, uint32(len(body))) // below 2³²: wire.MaxValues numbers are 256 MiB
	return append(p, body...), nil
}
