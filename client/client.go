package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/internal/natsx"
	"mfac/wire"
)

// ErrClosed is what calls return after Close, and those that it ended.
var ErrClosed = errors.New("the client is closed")

// closeGrace is how long Close waits for the word that queries are done with to go out.
const closeGrace = time.Second

// Client is a connection to the services of one tenant. See the package's documentation.
type Client struct {
	nc         *nats.Conn
	ownConn    bool
	name       string
	subjects   wire.Subjects
	log        *zap.Logger
	chunkBytes int   // the most in one message
	gridSizes  []int // of those that are chosen from; only chunkBytes if that was given
	tryTimeout time.Duration
	denied     atomic.Pointer[denial]

	ctx      context.Context // ends with Close
	end      context.CancelCauseFunc
	lateCtx  context.Context // of closers: ends a little later
	endLate  context.CancelFunc
	mu       sync.Mutex
	closed   bool
	calls    sync.WaitGroup // the calls in progress
	closers  sync.WaitGroup // those who tell that a query is done with
	links    map[string]*link
	grids    map[gridKey]*grid
	closeAll sync.Once
}

// Connect connects to the NATS servers at url (several with commas between) and returns when the
// connection is there. It does not ask whether a coordinator is.
func Connect(ctx context.Context, url string, opts ...Option) (*Client, error) {
	c := &Client{links: map[string]*link{}, grids: map[gridKey]*grid{}}
	cfg := config{tenant: "default", tryTimeout: defaultTryTimeout}
	cfg.nats.URL = url
	cfg.nats.Timeout = defaultConnectTimeout
	cfg.nats.Log = zap.NewNop()
	cfg.nats.OnError = c.natsError
	for _, o := range opts {
		if err := o(&cfg); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	if cfg.nats.Log == nil {
		cfg.nats.Log = zap.NewNop()
	}
	if err := c.dial(ctx, &cfg); err != nil {
		return nil, err
	}
	c.name = cfg.nats.Name
	c.subjects = wire.Subjects{Tenant: cfg.tenant}
	c.log = cfg.nats.Log
	c.tryTimeout = cfg.tryTimeout
	if err := c.setChunkBytes(cfg.chunkBytes); err != nil {
		if c.ownConn {
			c.nc.Close()
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	c.lateCtx, c.endLate = context.WithCancel(context.Background())
	return c, nil
}

// dial connects, or takes the connection that it was given, and settles the name.
func (c *Client) dial(ctx context.Context, cfg *config) error {
	if cfg.conn != nil {
		c.nc = cfg.conn
		inbox := c.nc.NewInbox() // <prefix>.<unique>
		prefix := inbox[:strings.LastIndexByte(inbox, '.')]
		if cfg.nats.Name == "" {
			cfg.nats.Name = strings.TrimPrefix(prefix, wire.InboxPrefix(""))
		}
		if prefix != wire.InboxPrefix(cfg.nats.Name) || wire.CheckName("name", cfg.nats.Name) != nil {
			return fmt.Errorf("connect: %w", wire.Errorf(wire.CodeInvalid, "inbox prefix", prefix, wire.InboxPrefix("<name>"),
				"connect with nats.CustomInboxPrefix"))
		}
		return nil
	}
	if cfg.nats.Name == "" {
		cfg.nats.Name = randomName()
	}
	nc, err := natsx.Connect(ctx, cfg.nats)
	if err != nil {
		return err
	}
	c.nc, c.ownConn = nc, true
	return nil
}

func (c *Client) setChunkBytes(n int) error {
	most := int(min(wire.MaxPayload, c.nc.MaxPayload()-headerBytes))
	c.gridSizes = []int{n}
	if n == 0 {
		n = min(DefaultChunkBytes, most)
		c.gridSizes = gridSizes(n)
	}
	if n > most || n < wire.F64.Size() {
		return wire.Errorf(wire.CodeInvalid, "chunk bytes", n, fmt.Sprintf("in [8, %d]", most),
			"the server's max_payload is %d, and %d of it are for headers", c.nc.MaxPayload(), headerBytes)
	}
	c.chunkBytes = n
	return nil
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "c" + hex.EncodeToString(b[:])
}

// denial is what NATS denied us last: a denied subject shows nowhere else, but as silence.
type denial struct {
	text string
	at   time.Time
}

func (c *Client) natsError(err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		c.denied.Store(&denial{err.Error(), time.Now()})
	}
}

// Close ends the calls in progress, waits for them, and closes the connection unless it is that
// of WithConn.
func (c *Client) Close() {
	c.closeAll.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.end(ErrClosed)
		c.calls.Wait()
		late := time.AfterFunc(closeGrace, c.endLate)
		c.closers.Wait()
		late.Stop()
		c.endLate()
		if c.ownConn {
			c.nc.Close()
		}
	})
}

// begin starts a call: its context ends with the client, and has a deadline. done ends the call.
func (c *Client) begin(ctx context.Context) (_ context.Context, done func(), _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	stop := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, stop = context.WithTimeout(ctx, DefaultDeadline)
	}
	return ctx, func() {
		unlink()
		stop()
		cancel(nil)
		c.calls.Done()
	}, nil
}

// Name is the name that the client's subjects and inbox carry.
func (c *Client) Name() string { return c.name }

// Delete ends a run and frees its memory everywhere.
func (c *Client) Delete(ctx context.Context, name string) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return fmt.Errorf("delete run %s: %w", name, err)
	}
	defer done()
	req := &wire.Delete{Run: name}
	if err := req.Validate(); err != nil {
		return err
	}
	// Which run: asked again, a name could be that of one made since.
	info, err := ask[*wire.Info](ctx, c, wire.OpInfo, &wire.InfoRequest{Run: name}, whileBusy)
	if err != nil {
		return fmt.Errorf("delete run %s: %w", name, err)
	}
	req.UID = info.UID
	_, before, err := askTwice[*wire.OK](ctx, c, wire.OpDelete, req, whileBusy)
	if err == nil || before && code(err) == wire.CodeUnknownRun { // then it was this call that deleted it
		return nil
	}
	return fmt.Errorf("delete run %s: %w", name, err)
}

// Runs lists the names of the tenant's runs, in order.
func (c *Client) Runs(ctx context.Context) ([]string, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	defer done()
	var names []string
	req := &wire.List{}
	for {
		reply, err := ask[*wire.ListReply](ctx, c, wire.OpList, req, whileBusy)
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		names = append(names, reply.Runs...)
		if !reply.More || len(reply.Runs) == 0 {
			return names, nil
		}
		req = &wire.List{After: names[len(names)-1]}
	}
}

// Workers lists the workers that the coordinators know, in order.
func (c *Client) Workers(ctx context.Context) ([]wire.WorkerStatus, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	defer done()
	workers, err := c.workers(ctx)
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return workers, nil
}

func (c *Client) workers(ctx context.Context) ([]wire.WorkerStatus, error) {
	var workers []wire.WorkerStatus
	req := &wire.Status{}
	for {
		reply, err := ask[*wire.StatusReply](ctx, c, wire.OpStatus, req, whileBusy)
		if err != nil {
			return nil, err
		}
		workers = append(workers, reply.Workers...)
		if !reply.More || len(reply.Workers) == 0 {
			return workers, nil
		}
		req = &wire.Status{After: workers[len(workers)-1].ID}
	}
}

// link is the flow control to a worker.
func (c *Client) link(worker string) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[worker]
	if l == nil {
		l = &link{}
		c.links[worker] = l
	}
	return l
}
