package main

import (
	"testing"

	"mfac/cmd/internal/scripttest"
)

func TestMain(m *testing.M) { scripttest.Main(m, "coordinator", main) }

// The program as typed.
func TestScripts(t *testing.T) { scripttest.Service(t) }
