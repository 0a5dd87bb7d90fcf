package main

import (
	"errors"
	"io"
)

var errNotYet = errors.New("not built yet")

type growOptions struct{ most float64 }

type billionOptions struct {
	dim           int64
	rows, workers int
	store         string
}

func grow(*env, io.Writer) error    { return errNotYet }
func billion(*env, io.Writer) error { return errNotYet }
func writePages() error             { return errNotYet }

func saveTable(*env, []result) error { return errNotYet }
