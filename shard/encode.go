package shard

// FirstNonFinite32 is the index of the first NaN or infinity in little-endian float32
// bytes, or −1.
func FirstNonFinite32(p []byte) int { return -1 }

// FirstNonFinite64 is the index of the first NaN or infinity in little-endian float64
// bytes, or −1.
func FirstNonFinite64(p []byte) int { return -1 }

// AppendFloat32 appends x to p as little-endian float32 bytes, each rounded once, to
// nearest even. bad is the index of the first that is not finite then (too large for
// float32, or not finite before), or −1.
func AppendFloat32(p []byte, x []float64) (out []byte, bad int) { return p, -1 }

// AppendFloat64 appends x to p as little-endian float64 bytes. bad is the index of the
// first that is not finite, or −1.
func AppendFloat64(p []byte, x []float64) (out []byte, bad int) { return p, -1 }
