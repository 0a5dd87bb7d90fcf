//go:build !amd64

package main

import "mfac/shard"

var converts map[shard.DType]func(p *byte, n int) float64
