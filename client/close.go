package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mfac/wire"
)

// This file: queries are closed, so that what they read of the window may be replaced.

// closeFor is how long it is tried to tell that a query is done with. Most have ended by themselves then.
const closeFor = time.Minute

// close tells, in the background, that a query is done with: the version that it pins can go. If
// the word doesn't get through, the query ends at its deadline.
func (r *Run) close(info *wire.Info, id wire.QueryID) {
	c := r.c
	f, err := wire.Encode(&wire.Close{Run: r.name, Epoch: info.Epoch, Query: id})
	if err != nil {
		return
	}
	c.closers.Go(func() {
		ctx, cancel := context.WithTimeout(c.lateCtx, closeFor)
		defer cancel()
		pause := backoff{least: 10 * time.Millisecond, most: time.Second}
		for tries := 3; tries > 0; {
			_, err := c.try(ctx, c.subjects.Coordinator(wire.OpClose, c.name), f, c.tryTimeout)
			if err == nil || code(err) != wire.CodeBusy && !lost(err) {
				return
			}
			var s *silence
			if !errors.As(err, &s) || !s.away { // else nobody has heard it
				tries--
			}
			if !pause.sleep(ctx) {
				return
			}
		}
	})
}

// CloseQueries closes all that clients of this one's name have open of the run: queries, and what they have asked for with
// steps that are not committed yet. It is for a process that goes on under the name (WithName) of one that has died, before
// it asks anything: what that one had open would hold rows of the window until its deadline. A call of another client of the
// name that is under way asks again.
func (r *Run) CloseQueries(ctx context.Context) error {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return fmt.Errorf("close the queries of %s: %w", r.c.name, err)
	}
	defer done()
	info := r.info()
	if info.Epoch.IsZero() { // as it is in what Attach hears
		info, err = r.renew(ctx, info)
	}
	if err == nil && !info.Epoch.IsZero() { // else nobody serves the run, and nothing is open
		_, err = ask[*wire.OK](ctx, r.c, wire.OpClose, &wire.Close{Run: r.name, Epoch: info.Epoch}, whileBusy)
	}
	if err != nil {
		return fmt.Errorf("close the queries of %s: %w", r.c.name, err)
	}
	return nil
}
