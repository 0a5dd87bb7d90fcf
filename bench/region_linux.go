package main

import "golang.org/x/sys/unix"

// mapRegion is n bytes of zeros outside Go's heap, in huge pages where the system grants them.
func mapRegion(n int64) ([]byte, error) {
	p, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // a wish
	}
	return p, err
}

func unmapRegion(p []byte) {
	if err := unix.Munmap(p); err != nil {
		panic(err) // it was not mapped: a defect of ours
	}
}
