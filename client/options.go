package client

import (
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/internal/natsx"
	"mfac/wire"
)

const (
	// DefaultDeadline is the deadline of a call whose context has none.
	DefaultDeadline = 2 * time.Minute

	// DefaultChunkBytes is the most bytes of numbers in one message, unless the server's
	// max_payload is lower: 240 tiles of 1,024 float32 columns, or 120 of float64. Where smaller ones
	// were faster, they are taken; see the package's documentation.
	DefaultChunkBytes = 240 * tileColumns * 4

	tileColumns = 1024
	headerBytes = 4 << 10 // left free below max_payload, which counts headers too

	defaultConnectTimeout = 10 * time.Second
	defaultTryTimeout     = 2 * time.Second
	mostTryTimeout        = 5 * time.Second
)

// Option is an option of Connect.
type Option func(*config) error

type config struct {
	nats       natsx.Options
	tenant     string
	conn       *nats.Conn
	chunkBytes int
	tryTimeout time.Duration
}

// WithName names the client: its subjects and its inbox, _INBOX.<name>, carry the name, and NATS
// permissions are given for it. The default is random.
func WithName(name string) Option {
	return func(c *config) error {
		c.nats.Name = name
		return wire.CheckName("name", name)
	}
}

// WithTenant sets the tenant, "default" by default.
func WithTenant(tenant string) Option {
	return func(c *config) error {
		c.tenant = tenant
		return wire.CheckName("tenant", tenant)
	}
}

// WithCreds authenticates with a file of JWT credentials.
func WithCreds(file string) Option {
	return func(c *config) error {
		c.nats.Creds = file
		return nil
	}
}

// WithNKey authenticates with the nkey whose seed is in a file.
func WithNKey(seedFile string) Option {
	return func(c *config) error {
		c.nats.NKeySeed = seedFile
		return nil
	}
}

// WithTLS checks the server's certificate against the authorities in the file ca, and presents the
// certificate in the file cert, whose key is in the file key. What is "" is left out.
func WithTLS(ca, cert, key string) Option {
	return func(c *config) error {
		c.nats.TLSCA, c.nats.TLSCert, c.nats.TLSKey = ca, cert, key
		return nil
	}
}

// WithLogger sets the logger; by default nothing is logged.
func WithLogger(log *zap.Logger) Option {
	return func(c *config) error {
		c.nats.Log = log
		return nil
	}
}

// WithConn uses a connection that is there; Close leaves it open. Its inbox prefix must be
// _INBOX.<name>: the name is taken from there if WithName doesn't give it.
func WithConn(nc *nats.Conn) Option {
	return func(c *config) error {
		c.conn = nc
		return nil
	}
}

// WithConnectTimeout bounds the wait for the first connection, 10 s by default.
func WithConnectTimeout(d time.Duration) Option {
	return func(c *config) error {
		c.nats.Timeout = d
		return positive("connect timeout", d)
	}
}

// WithWaiting sets what is told every few seconds while there is no first connection.
func WithWaiting(f func(message string)) Option {
	return func(c *config) error {
		c.nats.Waiting = f
		return nil
	}
}

// WithChunkBytes fixes the bytes of numbers in one message, which are chosen up to DefaultChunkBytes
// else. It must leave 4 KiB of the server's max_payload to headers.
func WithChunkBytes(n int) Option {
	return func(c *config) error {
		c.chunkBytes = n
		if n < wire.F64.Size() || n > wire.MaxPayload {
			return wire.Invalid("chunk bytes", n, "in [8, 1000000]")
		}
		return nil
	}
}

// WithTryTimeout sets how long an answer is waited for before it is asked for again, 2 s by
// default. Answers to polls take a second.
func WithTryTimeout(d time.Duration) Option {
	return func(c *config) error {
		c.tryTimeout = d
		return positive("try timeout", d)
	}
}

func positive(field string, d time.Duration) error {
	if d <= 0 {
		return wire.Invalid(field, d, "> 0")
	}
	return nil
}

// PublishOption is an option of publishing a gradient: a StepOption, WithWire or WithoutWait.
type PublishOption interface{ publish(*call) error }

// PreconditionOption is an option of publishing a gradient and preconditioning it: a StepOption, a
// ResultOption or WithWire.
type PreconditionOption interface{ precondition(*call) error }

// QueryOption is an option of a query: a ResultOption, a WindowOption, a BlocksOption, WithWire or WithProgress.
type QueryOption interface{ query(*call) error }

// call is what the options of one call set.
type call struct {
	damping      float64
	divisor      wire.Divisor
	minRows      int
	atLeast      wire.Version
	exactly      wire.Version
	token        *uint64
	stepDeadline time.Duration
	noWait       bool
	labels       []string   // of the gradients, or nil
	weight       float64    // of the gradient; 0: 1
	wire         wire.DType // of what is sent; "": the caller's
	result       wire.DType // of what is fetched; "": the caller's
	verify       bool
	refine       bool
	progress     func(done, total int64)
	blocks       *blocks
	whole        bool // of H, in a run of blocks
	phases       func(Phase)
}

// ResultOption changes how a result is computed: it is an option of queries and preconditions.
type ResultOption func(*call) error

func (f ResultOption) query(c *call) error        { return f(c) }
func (f ResultOption) precondition(c *call) error { return f(c) }

// WindowOption says which window a query is to see: it is an option of queries.
type WindowOption func(*call) error

func (f WindowOption) query(c *call) error { return f(c) }

// StepOption changes how a step is opened: it is an option of publishing, with and without
// precondition.
type StepOption func(*call) error

func (f StepOption) publish(c *call) error      { return f(c) }
func (f StepOption) precondition(c *call) error { return f(c) }

// WireOption is an option of all calls that send numbers.
type WireOption func(*call) error

func (f WireOption) publish(c *call) error      { return f(c) }
func (f WireOption) precondition(c *call) error { return f(c) }
func (f WireOption) query(c *call) error        { return f(c) }

// WaitOption is an option of publishing alone.
type WaitOption func(*call) error

func (f WaitOption) publish(c *call) error { return f(c) }

// WithDamping answers at lambda instead of the run's λ, with no more passes over G.
func WithDamping(lambda float64) ResultOption {
	return func(c *call) error {
		c.damping = lambda
		return wire.CheckDamping("damping", lambda)
	}
}

// WithDivisor answers with another divisor of the empirical Fisher than the run's.
func WithDivisor(d wire.Divisor) ResultOption {
	return func(c *call) error {
		c.divisor = d
		if d != wire.Capacity && d != wire.Count {
			return wire.Invalid("divisor", d, "capacity or count")
		}
		return nil
	}
}

// WithWire sends the numbers of a gradient or of vectors in another dtype than they are of, each
// rounded once to the nearest as it is sent: in half the bytes, or a quarter. What is answered is
// the answer for the rounded vector. wire.BF16 has float32's range and 8 significant bits, wire.F16
// 11, up to 65504 and of less below 6e-5: a number too large for it is wire.CodeOverflow. It has
// nothing to do with the dtype that the run's rows are stored in, to which a gradient is rounded
// where it arrives.
func WithWire(t wire.DType) WireOption {
	return func(c *call) error {
		c.wire = t
		return wire.CheckDType("wire", t)
	}
}

// WithResult fetches the result in another dtype than dst's, rounded once from float64 by the
// workers; it is widened to dst's exactly. The answer's bound has the rounding in it: 2⁻⁸ of
// wire.BF16, 2⁻¹¹ of wire.F16.
func WithResult(t wire.DType) ResultOption {
	return func(c *call) error {
		c.result = t
		return wire.CheckDType("result", t)
	}
}

// WithMinRows refuses an answer from fewer rows than n, with wire.CodeTooFewRows: a window that
// was lost or is half filled is never taken for a full one.
func WithMinRows(n int) ResultOption {
	return func(c *call) error {
		c.minRows = n
		if n < 0 || n > wire.MaxWindow {
			return wire.Invalid("min rows", n, "in [0, 4096]")
		}
		return nil
	}
}

// WithAtLeast refuses an answer from a version below v, with wire.CodeBehind.
func WithAtLeast(v wire.Version) WindowOption {
	return func(c *call) error {
		c.atLeast = v
		return nil
	}
}

// WithExactly asks for the answer at version v, or wire.CodeVersionGone or wire.CodeBehind: what
// pins several queries to one window.
func WithExactly(v wire.Version) WindowOption {
	return func(c *call) error {
		c.exactly = v
		if v == 0 { // on the wire, 0 is any
			return wire.Invalid("exactly", v, "> 0: version 0, a new run's, has no rows to pin")
		}
		return nil
	}
}

// WithToken sets what tells one publication of a step from another. Whoever opens the step with
// the same token joins it; another token starts it anew. By default it is random, and 0 where a
// step is published by columns, so that the ranks of a training job need not agree on one.
func WithToken(token uint64) StepOption {
	return func(c *call) error {
		c.token = &token
		return nil
	}
}

// WithStepDeadline sets after how long the step is dropped if it is not complete by then. By
// default it lives as long as the call, and is dropped within half a minute of an end without a
// commit.
func WithStepDeadline(d time.Duration) StepOption {
	return func(c *call) error {
		c.stepDeadline = d
		return positive("step deadline", d)
	}
}

// WithoutWait returns as soon as the columns are staged, with a zero Commit.
func WithoutWait() WaitOption {
	return func(c *call) error {
		c.noWait = true
		return nil
	}
}

// CheckOption has answers checked: it is an option of H⁻¹v and of H⁻¹ of stored gradients.
type CheckOption func(*call) error

func (f CheckOption) query(c *call) error { return f(c) }

// WithVerify measures the answer's residuals, ‖Hx − v‖/‖v‖ in float64, H being that of the blocks where it is asked
// by blocks, by two more passes over the window: they are in Answer.Residuals. A residual speaks of x before it is rounded to the result's
// dtype. It is no bound of x's error: that is up to ‖H⁻¹‖‖v‖/‖x‖ times as large, and the least that
// can be measured is some 1e-16 ‖H‖‖x‖/‖v‖, more than the residual of a good answer where ‖x‖ is large.
func WithVerify() CheckOption {
	return func(c *call) error {
		c.verify = true
		return nil
	}
}

// WithRefine refines each answer once, and keeps what has the smaller residual: x + H⁻¹(v − Hx), by
// five more passes over the window, of which three work with twice the digits and take some ten times
// as long; H⁻¹ of stored gradients takes four. The answer's bounds are those of what is kept, so a query
// that is refused for its bound may be answered so. Answer.Residuals has the residuals of what is kept. Not by blocks.
func WithRefine() CheckOption {
	return func(c *call) error {
		c.refine = true
		return nil
	}
}

func publishCall(opts []PublishOption) (*call, error) {
	c, err := collect(opts, PublishOption.publish)
	if err == nil {
		err = fits[float32]("wire", c.wire)
	}
	return c, err
}

// publishOne is for one gradient.
func publishOne(opts []PublishOption) (*call, error) {
	c, err := publishCall(opts)
	if err == nil {
		err = c.checkLabels(1)
	}
	return c, err
}

// preconditionCall is for results of type T.
func preconditionCall[T Float](opts []PreconditionOption) (*call, error) {
	c, err := collect(opts, PreconditionOption.precondition)
	if err == nil {
		err = fits[float32]("wire", c.wire)
	}
	if err == nil {
		err = fits[T]("result", c.result)
	}
	if err == nil {
		err = c.checkLabels(1)
	}
	return c, err
}

// queryCall is for vectors and results of type T.
func queryCall[T Float](opts []QueryOption) (*call, error) {
	c, err := collect(opts, QueryOption.query)
	if err == nil {
		err = fits[T]("wire", c.wire)
	}
	if err == nil {
		err = fits[T]("result", c.result)
	}
	return c, err
}

// fits checks that numbers of type T can be of dtype t on the wire: it is not wider.
func fits[T Float](field string, t wire.DType) error {
	if t.Size() > sizeOf[T]() {
		return wire.Invalid(field, t, "f32, bf16 or f16 for float32 numbers")
	}
	return nil
}

func collect[O any](opts []O, apply func(O, *call) error) (*call, error) {
	c := &call{}
	for _, o := range opts {
		if err := apply(o, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}
