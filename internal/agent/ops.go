//go:build unix

package agent

import (
	"cmp"
	"fmt"
	"reflect"
	"time"

	"mfac/client"
	"mfac/wire"
)

// op is how requests of an op are served.
type op struct {
	quick   bool // in the reading goroutine, in the order of requests
	request reflect.Type
	serve   func(q *call) (any, error)
}

// beside and inOrder decode a request's own fields before it is served: in a goroutine of its own, or in
// the reading one.
func beside[T any](f func(q *call, r *T) (any, error)) op {
	return op{false, reflect.TypeFor[T](), with(f)}
}
func inOrder[T any](f func(q *call, r *T) (any, error)) op {
	return op{true, reflect.TypeFor[T](), with(f)}
}

func with[T any](f func(q *call, r *T) (any, error)) func(q *call) (any, error) {
	return func(q *call) (any, error) {
		r := new(T)
		if err := wire.DecodeMap(q.body, maxRequest, r); err != nil {
			return nil, err
		}
		return f(q, r)
	}
}

// ops are all that there are. docs/agent.md has a row for each.
var ops map[string]op

func init() { // not at its declaration: what serves a request looks into it
	ops = map[string]op{
		"hello":   inOrder(hello),
		"cancel":  inOrder(cancelCall),
		"buffer":  inOrder(takeBuffer),
		"release": inOrder(releaseBuffer),
		"leave":   inOrder(leave),

		"connect": beside(connect),
		"runs":    beside(listRuns),
		"workers": beside(listWorkers),
		"delete":  beside(deleteRun),
		"attach":  beside(attach),
		"join":    beside(join),
		"status":  beside(status),
		"steps":   beside(steps),
		"labels":  beside(labels),
		"layout":  beside(layout),

		"publish":      beside(publish),
		"precondition": beside(precondition),
		"forget":       beside(forget),
		"set":          beside(set),
		"resize":       beside(resize),
		"freeze":       beside(freeze),
		"frozen":       beside(frozen),

		"ihvp":           beside(ihvp),
		"fvp":            beside(fvp),
		"hvp":            beside(hvp),
		"invsqrt":        beside(invSqrt),
		"combine":        beside(combine),
		"gradient":       beside(gradient),
		"diag":           beside(diag),
		"column":         beside(column),
		"subblock":       beside(subblock),
		"sample":         beside(sample),
		"prune":          beside(prune),
		"compensate":     beside(compensate),
		"scores":         beside(scores),
		"pairs":          beside(pairs),
		"influence":      beside(influence),
		"self_influence": beside(selfInfluence),
		"likelihoods":    beside(likelihoods),
		"scalars":        beside(scalars),
		"spectrum":       beside(spectrum),
	}
}

type helloRequest struct {
	Protocol int    `msgpack:"protocol"`
	Version  string `msgpack:"version"` // of the program's package, for the log
}

type helloReply struct {
	Protocol int    `msgpack:"protocol"`
	Version  string `msgpack:"version"`
	URL      string `msgpack:"url,omitempty"` // of the agent's own cluster
}

func hello(q *call, r *helloRequest) (any, error) {
	if r.Protocol != Protocol {
		return nil, wire.Errorf(wire.CodeProtocol, "protocol", r.Protocol, fmt.Sprint(Protocol),
			"the agent is version %s, the program's package %s: use those that belong together", q.c.a.Version, cmp.Or(r.Version, "unknown"))
	}
	q.c.greeted = true
	return helloReply{Protocol, q.c.a.Version, q.c.a.url}, nil
}

type cancelRequest struct {
	Call uint64 `msgpack:"call"`
}

// cancelCall ends a call, which is answered by itself. One that is not in progress has been answered.
func cancelCall(q *call, r *cancelRequest) (any, error) {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	if cancel := q.c.calls[r.Call]; cancel != nil {
		cancel(errCancelled)
	}
	return nil, nil
}

type bufferRequest struct {
	Buffer uint64 `msgpack:"buffer"` // the program's name for it, from now on
	Size   int64  `msgpack:"size"`   // bytes
}

func takeBuffer(q *call, r *bufferRequest) (any, error) {
	fd := q.c.in.descriptor()
	if fd < 0 {
		return nil, wire.Invalid("descriptor", "missing", "one beside the request (SCM_RIGHTS)")
	}
	b, err := openBuffer(fd, r.Size)
	if err != nil {
		return nil, err
	}
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	switch {
	case q.c.buffers[r.Buffer] != nil:
		err = wire.Invalid("buffer", r.Buffer, "of no buffer that is there")
	case len(q.c.buffers) >= maxBuffers:
		err = wire.Errorf(wire.CodeTooLarge, "buffers", maxBuffers+1, fmt.Sprintf("at most %d of a connection", maxBuffers))
	default:
		q.c.buffers[r.Buffer] = b
		return nil, nil
	}
	b.close()
	return nil, err
}

type releaseRequest struct {
	Buffer uint64 `msgpack:"buffer"`
}

func releaseBuffer(q *call, r *releaseRequest) (any, error) {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	b := q.c.buffers[r.Buffer]
	if b == nil {
		return nil, wire.Invalid("buffer", r.Buffer, "a buffer of this connection")
	}
	delete(q.c.buffers, r.Buffer)
	b.close()
	return nil, nil
}

type connectRequest struct {
	URL       string `msgpack:"url"` // "": the agent's own cluster
	Creds     string `msgpack:"creds"`
	NKey      string `msgpack:"nkey"`
	TLSCA     string `msgpack:"tls_ca"`
	TLSCert   string `msgpack:"tls_cert"`
	TLSKey    string `msgpack:"tls_key"`
	Tenant    string `msgpack:"tenant"`
	Name      string `msgpack:"name"`
	ConnectMS int64  `msgpack:"connect_ms"` // 0: client's default
	Again     bool   `msgpack:"again"`      // the name was the program's at an agent that has died
}

type connectReply struct {
	Name string `msgpack:"name"` // the client's, which NATS permissions are given to
	URL  string `msgpack:"url"`
}

func connect(q *call, r *connectRequest) (any, error) {
	c := q.c
	url := cmp.Or(r.URL, c.a.url)
	if url == "" {
		return nil, wire.Invalid("url", "missing", "of a NATS server: the agent has no cluster of its own")
	}
	opts := []client.Option{client.WithCreds(r.Creds), client.WithNKey(r.NKey), client.WithTLS(r.TLSCA, r.TLSCert, r.TLSKey), client.WithLogger(c.a.log)}
	if r.Tenant != "" {
		opts = append(opts, client.WithTenant(r.Tenant))
	}
	if r.Name != "" {
		opts = append(opts, client.WithName(r.Name))
	}
	if r.ConnectMS != 0 {
		opts = append(opts, client.WithConnectTimeout(time.Duration(min(max(r.ConnectMS, -1), maxTimeoutMS))*time.Millisecond))
	}
	c.mu.Lock()
	busy := c.client != nil || c.dialing
	c.dialing = true
	c.mu.Unlock()
	if busy {
		return nil, wire.Errorf(wire.CodeExists, "connection", "there", "made once: open another socket for another")
	}
	cl, err := client.Connect(q.ctx, url, opts...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialing = false
	if err != nil {
		return nil, unavailable(err)
	}
	c.client = cl
	if r.Again {
		c.taken = map[string]bool{}
	}
	return connectReply{cl.Name(), url}, nil
}

type empty struct{}

func listRuns(q *call, _ *empty) (any, error) {
	cl, err := q.c.connected()
	if err != nil {
		return nil, err
	}
	names, err := cl.Runs(q.ctx)
	return map[string]any{"runs": names}, err
}

func listWorkers(q *call, _ *empty) (any, error) {
	cl, err := q.c.connected()
	if err != nil {
		return nil, err
	}
	list, err := cl.Workers(q.ctx)
	return map[string]any{"workers": list}, err
}

type nameRequest struct {
	Name string `msgpack:"name"`
}

func deleteRun(q *call, r *nameRequest) (any, error) {
	cl, err := q.c.connected()
	if err != nil {
		return nil, err
	}
	return nil, cl.Delete(q.ctx, r.Name)
}

type attachRequest struct {
	Name     string   `msgpack:"name"`
	Dim      int64    `msgpack:"dim"`
	Layout   []byte   `msgpack:"layout"` // JSON, as in docs/protocol.md; dim is its size
	Window   int      `msgpack:"window"`
	Damping  *float64 `msgpack:"damping"`
	Divisor  string   `msgpack:"divisor"`
	Shards   int      `msgpack:"shards"`
	Spare    int      `msgpack:"spare"`
	Store    string   `msgpack:"store"`
	HalfLife float64  `msgpack:"half_life"`       // steps; 0: gradients don't fade
	Tensors  []string `msgpack:"tensors"`         // of the layout, that have dampings of their own:
	Dampings []byte   `msgpack:"tensor_dampings"` // f64, one each
	Blocks   *int64   `msgpack:"blocks"`          // columns of a block of H; 0: a block a tensor; left out: the whole of H
	Across   bool     `msgpack:"across"`          // tensors' borders
}

// runReply is a run that was attached to or joined.
type runReply struct {
	Run        uint64    `msgpack:"run"` // its handle
	MaxVectors int       `msgpack:"max_vectors"`
	Info       wire.Info `msgpack:"info"`
}

func attach(q *call, r *attachRequest) (any, error) {
	cl, err := q.c.connected()
	if err != nil {
		return nil, err
	}
	cfg := client.RunConfig{Name: r.Name, Dim: r.Dim, Window: r.Window, Divisor: wire.Divisor(r.Divisor), Shards: r.Shards, Spare: r.Spare, Store: wire.DType(r.Store), HalfLife: r.HalfLife}
	if r.Damping != nil {
		if cfg.Damping = *r.Damping; cfg.Damping == 0 {
			return nil, wire.CheckDamping("damping", 0) // to client, 0 is the default
		}
	}
	if len(r.Layout) > 0 {
		if cfg.Layout, err = wire.ParseLayout(r.Layout, r.Dim); err != nil {
			return nil, err
		}
	}
	dampings, err := floatsOf("tensor_dampings", r.Dampings)
	if err != nil {
		return nil, err
	}
	if len(dampings) != len(r.Tensors) {
		return nil, wire.Invalid("tensor_dampings", len(dampings), fmt.Sprintf("%d, one a tensor", len(r.Tensors)))
	}
	for i, name := range r.Tensors {
		if cfg.TensorDamping == nil {
			cfg.TensorDamping = map[string]float64{}
		}
		cfg.TensorDamping[name] = dampings[i]
	}
	switch {
	case r.Blocks == nil:
	case *r.Blocks == 0 && !r.Across:
		cfg.Blocks = wire.BlockingTensor
	default:
		cfg.Blocks = wire.BlockingOf(*r.Blocks, r.Across)
	}
	run, err := cl.Attach(q.ctx, cfg)
	if err != nil {
		return nil, err
	}
	return q.c.joined(q, run)
}

func join(q *call, r *nameRequest) (any, error) {
	cl, err := q.c.connected()
	if err != nil {
		return nil, err
	}
	run, err := cl.Join(q.ctx, r.Name)
	if err != nil {
		return nil, err
	}
	return q.c.joined(q, run)
}

func (c *conn) joined(q *call, run *client.Run) (any, error) {
	if err := c.takeOver(q, run); err != nil {
		return nil, err
	}
	info, err := run.Status(q.ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.runs) >= maxRuns {
		return nil, wire.Errorf(wire.CodeTooLarge, "runs", len(c.runs)+1, fmt.Sprintf("at most %d of a connection: leave some", maxRuns))
	}
	c.lastRun++
	c.runs[c.lastRun] = run
	return runReply{c.lastRun, run.MaxVectors(), info}, nil
}

// takeOver closes what an agent that has died had open of a run, once: before anything else of the run's is asked.
func (c *conn) takeOver(q *call, run *client.Run) error {
	name := run.Spec().Name
	c.mu.Lock()
	taken := c.taken == nil || c.taken[name]
	c.mu.Unlock()
	if taken {
		return nil
	}
	if err := run.CloseQueries(q.ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken[name] = true
	return nil
}

// maxRuns is of one connection at once.
const maxRuns = 10_000

type runRequest struct {
	Run uint64 `msgpack:"run"`
}

// leave forgets a handle. The run stays.
func leave(q *call, r *runRequest) (any, error) {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	delete(q.c.runs, r.Run)
	return nil, nil
}

func status(q *call, r *runRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	info, err := run.Status(q.ctx)
	return map[string]any{"info": info, "max_vectors": run.MaxVectors()}, err
}

func steps(q *call, r *runRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	w, err := run.Steps(q.ctx)
	return map[string]any{"version": w.Version, "steps": wire.AppendUint64s(nil, w.Steps)}, err
}

func labels(q *call, r *runRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	w, err := run.Labels(q.ctx)
	return map[string]any{"version": w.Version, "steps": wire.AppendUint64s(nil, w.Steps), "labels": w.Labels}, err
}

func layout(q *call, r *runRequest) (any, error) {
	run, err := q.c.run(r.Run)
	if err != nil {
		return nil, err
	}
	tensors, err := run.Layout(q.ctx)
	if err != nil || tensors == nil {
		return nil, err
	}
	return map[string]any{"layout": wire.CanonicalLayout(tensors)}, nil
}
