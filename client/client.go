package client

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/wire"
)

// Client is a connection to the services of one tenant. See the package's documentation.
type Client struct {
	nc   *nats.Conn
	name string
	log  *zap.Logger
}

// Connect connects to the NATS servers at url (several with commas between) and returns when the
// connection is there. It does not ask whether a coordinator is.
func Connect(ctx context.Context, url string, opts ...Option) (*Client, error) {
	return nil, errNotBuilt
}

// Close ends the calls in progress, waits for them, and closes the connection unless it is that
// of WithConn.
func (c *Client) Close() {}

// Name is the name that the client's subjects and inbox carry.
func (c *Client) Name() string { return c.name }

// Attach creates a run, or joins the one of that name. One that exists and differs is an error
// of wire.CodeExists that names the field and both values.
func (c *Client) Attach(ctx context.Context, cfg RunConfig) (*Run, error) { return nil, errNotBuilt }

// Join joins a run that exists, as it is.
func (c *Client) Join(ctx context.Context, name string) (*Run, error) { return nil, errNotBuilt }

// Delete ends a run and frees its memory everywhere.
func (c *Client) Delete(ctx context.Context, name string) error { return errNotBuilt }

// Runs lists the names of the tenant's runs, in order.
func (c *Client) Runs(ctx context.Context) ([]string, error) { return nil, errNotBuilt }

// Workers lists the workers that the coordinators know, in order.
func (c *Client) Workers(ctx context.Context) ([]wire.WorkerStatus, error) { return nil, errNotBuilt }
