package crc32c

import "golang.org/x/sys/cpu"

//go:generate go run -C ../../shard/kernel/_gen . crc32c -out ../../../internal/crc32c/crc32c_amd64.s -stubs ../../../internal/crc32c/crc32c_amd64.go -pkg crc32c

const blockBytes = 256

var fast = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasSSE42
