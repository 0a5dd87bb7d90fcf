package sim

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: a client is a coroutine, which must be over when its history is.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
