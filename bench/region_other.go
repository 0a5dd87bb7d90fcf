//go:build !linux

package main

import "unsafe"

// mapRegion is n bytes of zeros, aligned to a line.
func mapRegion(n int64) ([]byte, error) {
	p := make([]byte, n+64)
	return p[-uintptr(unsafe.Pointer(&p[0]))&63:][:n], nil
}

func unmapRegion([]byte) {}
