package main

import (
	"context"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"mfac/client"
)

// patiently gives queries that may take long as long as they may live, where --timeout says nothing else.
func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, long)
}

// working shows on stderr, where that is a terminal, how far a query is, till end is called.
func (t *tool) working(what string) (opt client.QueryOption, end func()) {
	f, ok := t.stderr.(*os.File)
	visible := ok && term.IsTerminal(int(f.Fd()))
	bar := progressbar.NewOptions64(1000,
		progressbar.OptionSetWriter(t.stderr), progressbar.OptionSetVisibility(visible), progressbar.OptionSetDescription(what),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100e6))
	show := func(done, total int64) {
		if total > 0 {
			_ = bar.Set64(int64(999 * float64(done) / float64(total))) // at 1000 it would be over, and more may come
		}
	}
	return client.WithProgress(show), func() { _ = bar.Finish() }
}
