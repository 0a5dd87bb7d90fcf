//go:build !linux

package worker

func memoryNodes() int { return 1 }
