//go:build !amd64

package kernel

// Otherwise is of amd64.
func Otherwise() *Variant { return nil }
