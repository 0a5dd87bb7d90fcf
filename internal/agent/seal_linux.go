package agent

import "golang.org/x/sys/unix"

// sealed reports whether a file can't be cut short any more (memfd_create(2), "File-sealing").
func sealed(fd int) bool {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_SHRINK != 0
}
