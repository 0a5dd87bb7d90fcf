package client

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mfac/wire"
)

var errNotBuilt = errors.New("not built yet")

// DefaultDeadline is the deadline of a call whose context has none.
const DefaultDeadline = 2 * time.Minute

// Option is an option of Connect.
type Option func(*config) error

type config struct{}

// WithName names the client: its subjects and its inbox, _INBOX.<name>, carry the name, and NATS
// permissions are given for it. The default is random.
func WithName(name string) Option { return nil }

// WithTenant sets the tenant, "default" by default.
func WithTenant(tenant string) Option { return nil }

// WithCreds authenticates with a file of JWT credentials.
func WithCreds(file string) Option { return nil }

// WithNKey authenticates with the nkey whose seed is in a file.
func WithNKey(seedFile string) Option { return nil }

// WithTLS checks the server's certificate against the authorities in a file, and presents a
// certificate if one is given: each may be "".
func WithTLS(ca, cert, key string) Option { return nil }

// WithLogger sets the logger; by default nothing is logged.
func WithLogger(log *zap.Logger) Option { return nil }

// WithConn uses a connection that is there; Close leaves it open. Its inbox prefix must be
// _INBOX.<name>: the name is taken from there if WithName doesn't give it.
func WithConn(nc *nats.Conn) Option { return nil }

// WithConnectTimeout bounds the wait for the first connection, 10 s by default.
func WithConnectTimeout(d time.Duration) Option { return nil }

// WithWaiting sets what is told every few seconds while there is no first connection.
func WithWaiting(f func(message string)) Option { return nil }

// WithChunkBytes sets the most bytes of numbers in one message.
func WithChunkBytes(n int) Option { return nil }

// WithTryTimeout sets how long an answer is waited for before it is asked for again, 2 s by
// default.
func WithTryTimeout(d time.Duration) Option { return nil }

// PublishOption is an option of publishing a gradient.
type PublishOption interface{ publish(*call) error }

// PreconditionOption is an option of publishing a gradient and preconditioning it.
type PreconditionOption interface{ precondition(*call) error }

// QueryOption is an option of a query.
type QueryOption interface{ query(*call) error }

type call struct{}

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

// WaitOption is an option of publishing alone.
type WaitOption func(*call) error

func (f WaitOption) publish(c *call) error { return f(c) }

// WithDamping answers at lambda instead of the run's λ, with no more passes over G.
func WithDamping(lambda float64) ResultOption { return nil }

// WithDivisor answers with another divisor of the empirical Fisher than the run's.
func WithDivisor(d wire.Divisor) ResultOption { return nil }

// WithMinRows refuses an answer from fewer rows than n, with wire.CodeTooFewRows: a window that
// was lost or is half filled is never taken for a full one.
func WithMinRows(n int) ResultOption { return nil }

// WithAtLeast refuses an answer from a version below v, with wire.CodeBehind.
func WithAtLeast(v wire.Version) WindowOption { return nil }

// WithExactly asks for the answer at version v, or wire.CodeVersionGone or wire.CodeBehind: what
// pins several queries to one window.
func WithExactly(v wire.Version) WindowOption { return nil }

// WithToken sets what tells one publication of a step from another. Whoever opens the step with
// the same token joins it; another token starts it anew. By default it is random, and 0 where a
// step is published by columns, so that the ranks of a training job need not agree on one.
func WithToken(token uint64) StepOption { return nil }

// WithStepDeadline sets after how long the step is dropped if it is not complete by then. By
// default it is what is left of the call's deadline.
func WithStepDeadline(d time.Duration) StepOption { return nil }

// WithoutWait returns as soon as the columns are staged, with no Commit.
func WithoutWait() WaitOption { return nil }
