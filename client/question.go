package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"mfac/wire"
)

// question is a query on the way to its answer.
type question struct {
	r      *Run
	req    wire.Query  // all but token and deadline
	in     input       // nil where no vectors are sent
	out    output      // nil where the answer is numbers
	lo, n  int64       // the columns of the result that are wanted
	sends  int         // vectors that are sent, where these are not as many as are fetched
	values []float64   // the answer, where it is numbers
	byRow  bool        // the numbers are of the rows of a window
	steps  []wire.Step // of these
	labels []string    // of these, or nil

	progress func(done, total int64) // WithProgress, or nil
	blocks   *blocks                 // nil: the run's, or the whole of H
	byBlocks bool
	phases   func(Phase) // WithPhases, or nil
}

func (r *Run) question(kind string, vectors int, out output, c *call) *question {
	return &question{r: r, out: out, n: r.spec.Dim, progress: c.progress, phases: c.phases, blocks: c.blocks, byBlocks: c.inRun(r) != nil, req: wire.Query{
		Run: r.name, Kind: kind, Vectors: vectors, Result: out.dtype(), Damping: c.damping, Divisor: c.divisor,
		AtLeast: c.atLeast, Exactly: c.exactly, MinRows: c.minRows, Verify: c.verify, Refine: c.refine, Whole: c.whole,
	}}
}

// combination asks for H⁻¹ of a stored gradient.
func (r *Run) combination(step wire.Step, out output, c *call) *question {
	q := r.question(wire.KindCombine, 1, out, c)
	q.req.Steps = 1
	q.req.Payload = combinePayload([]wire.Step{step}, [][]float64{{1}})
	return q
}

func combinePayload(steps []wire.Step, coef [][]float64) []byte {
	p := wire.AppendUint64s(nil, steps)
	for _, row := range coef {
		p = wire.AppendFloats(p, row)
	}
	return p
}

// lateMS is how much later than the call's own deadline the query's is: who runs out of time should
// hear of that, and of what was waited for, not that its query was closed.
const lateMS = 1000

// queryLost reports whether an error means that the query is no more, through no fault of its own:
// it is asked from the beginning then.
func queryLost(err error) bool { return lost(err) || code(err) == wire.CodeUnknownQuery }

// run asks, again from the beginning when the query is lost.
func (q *question) run(ctx context.Context) (Answer, error) {
	pause := backoff{least: 10 * time.Millisecond, most: time.Second}
	var last error
	for {
		seen := q.r.info()
		a, err := q.round(ctx)
		if err == nil {
			return a, nil
		}
		if ctx.Err() != nil {
			return Answer{}, ended(ctx, err, last)
		}
		last = err
		if !queryLost(err) {
			return Answer{}, err
		}
		q.r.c.log.Debug("query is asked again", zap.String("run", q.r.name), zap.Error(err))
		if !pause.sleep(ctx) {
			return Answer{}, ended(ctx, err)
		}
		if _, err := q.r.renew(ctx, seen); ctx.Err() != nil {
			return Answer{}, ended(ctx, last)
		} else if err != nil {
			return Answer{}, err
		}
	}
}

func (q *question) round(ctx context.Context) (Answer, error) {
	r := q.r
	req := q.req
	req.Token = rand.Uint64()
	req.DeadlineMS = clampMillis(millisLeft(ctx) + lateMS)
	if q.in != nil {
		req.DType = q.in.dtype()
	}
	reply, err := ask[*wire.QueryReply](ctx, r.c, wire.OpQuery, &req, whileBusy)
	if err != nil {
		return Answer{}, err
	}
	info, err := r.at(ctx, reply.Epoch)
	if err != nil {
		return Answer{}, err
	}
	defer r.close(info, reply.Query)
	if q.in != nil {
		if err := q.send(ctx, info, reply.Query); err != nil {
			return Answer{}, q.reason(ctx, info, reply.Query, err)
		}
	}
	result, err := q.wait(ctx, info, reply.Query)
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Version: result.Version, Rows: result.Rows, Bounds: result.Bounds, Residuals: result.Residuals}
	if (req.Verify || req.Refine) && len(result.Residuals) != req.Vectors {
		return Answer{}, wire.Errorf(wire.CodeUnsupported, "residuals", len(result.Residuals), fmt.Sprint(req.Vectors), "the coordinator is of a version that measures none")
	}
	if q.out == nil {
		if err := q.read(ctx, info, reply.Query, result.Values); err != nil {
			return Answer{}, err
		}
		return answer, nil
	}
	if err := q.fetch(ctx, info, reply); err != nil {
		return Answer{}, err
	}
	return answer, nil
}

// fetch fetches the result. How fast a diagonal comes says nothing of the size of its pieces.
func (q *question) fetch(ctx context.Context, info *wire.Info, reply *wire.QueryReply) error {
	r, t := q.r, q.out.dtype()
	grid := r.c.choose(wire.OpFetch, q.n*int64(q.req.Vectors)*int64(t.Size()))
	if q.req.Kind == wire.KindDiag && !q.byBlocks {
		grid = chosen{c: r.c, bytes: q.pieceBytes(reply.Rows)}
	}
	pieces := cut(info, q.lo, q.n, q.req.Vectors, grid.bytes, t)
	return r.download(info, reply.Query, pieces, q.out).watched(q.progress).timed(ctx, grid)
}

func (q *question) send(ctx context.Context, info *wire.Info, id wire.QueryID) error {
	r := q.r
	t := q.in.dtype()
	sends := max(q.sends, q.req.Vectors)
	grid := r.c.choose(wire.OpVec, r.spec.Dim*int64(sends)*int64(t.Size()))
	pieces := cut(info, 0, r.spec.Dim, sends, grid.bytes, t)
	return r.upload(info, pieces, q.in, wire.OpVec,
		func(p piece, payload []byte) wire.Message {
			return &wire.Vec{Run: r.name, Epoch: info.Epoch, Query: id, Index: p.index, Shard: p.shard,
				Lo: p.lo, N: p.n, DType: t, Payload: payload}
		},
		func(m wire.Message, sum uint32, want int64) { v := m.(*wire.Vec); v.Sum, v.Want = sum, want }).timed(ctx, grid)
}

// reason is why a worker doesn't know the query any more: the coordinator may have refused it
// since, for what another shard has said of it. err where the coordinator doesn't know either.
func (q *question) reason(ctx context.Context, info *wire.Info, id wire.QueryID, err error) error {
	if code(err) != wire.CodeUnknownQuery {
		return err
	}
	_, refused := ask[*wire.ResultReply](ctx, q.r.c, wire.OpResult, &wire.Result{Run: q.r.name, Epoch: info.Epoch, Query: id}, whileNoRoom)
	if refused == nil {
		return err
	}
	return refused
}

func (q *question) wait(ctx context.Context, info *wire.Info, id wire.QueryID) (*wire.ResultReply, error) {
	req := &wire.Result{Run: q.r.name, Epoch: info.Epoch, Query: id}
	for {
		asked := time.Now()
		reply, err := ask[*wire.ResultReply](ctx, q.r.c, wire.OpResult, req, whileNoRoom)
		if err != nil {
			return nil, err
		}
		if reply.State != wire.StatePending {
			return reply, nil
		}
		q.under(reply)
		if !leisurely(ctx, asked) {
			return nil, ended(ctx, nil)
		}
	}
}
