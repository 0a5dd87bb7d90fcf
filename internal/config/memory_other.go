//go:build !linux && !darwin

package config

func availableMemory() int64 { return 0 }
