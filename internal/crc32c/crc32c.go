// Package crc32c is the checksum of payloads, CRC-32C (Castagnoli), at the speed of the second cache
// where the CPU multiplies polynomials by the vector; elsewhere it is hash/crc32's. A payload passes
// under it twice, when it is sent and when it has come, so it counts against the bus.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C of p.
func Checksum(p []byte) uint32 {
	n := 0
	sum := uint32(0)
	if blocks := len(p) / blockBytes; fast && blocks > 0 {
		n = blocks * blockBytes
		sum = ^updateAVX512(^sum, &p[0], blocks)
	}
	return crc32.Update(sum, table, p[n:])
}
