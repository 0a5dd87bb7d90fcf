//go:build !amd64

package main

func vectorLoops() []loop { return nil }

func streamCopies() []copier { return nil }

func fill(p []byte) { clear(p) }
