//go:build !unix

package agent

import (
	"context"
	"errors"
)

// Run needs Unix sockets that carry descriptors.
func Run(context.Context, Options) error {
	return errors.New("there is no agent on this system: it needs Unix sockets that carry descriptors")
}
