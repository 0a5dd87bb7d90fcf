package worker

import "golang.org/x/sys/unix"

const canMap = true

// mapMemory asks the kernel for anonymous memory, in huge pages where it likes.
func mapMemory(n int64) ([]byte, error) {
	p, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // a wish
	}
	return p, err
}

func unmapMemory(p []byte) {
	if err := unix.Munmap(p); err != nil {
		panic(err) // it was not mapped: a defect of ours
	}
}

// discardMemory gives pages back, and leaves their addresses.
func discardMemory(p []byte) { _ = unix.Madvise(p, unix.MADV_DONTNEED) } // they go with the others otherwise
