package main

import (
	"fmt"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"mfac/client"
)

// phases shows how far a query is on stderr, where that is a terminal.
func (t *tool) phases(what string) func(client.Phase) {
	f, ok := t.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(client.Phase) {}
	}
	bar := progressbar.NewOptions64(1, progressbar.OptionSetWriter(t.stderr), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100e6), progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(false))
	return func(p client.Phase) {
		bar.Describe(phaseText(what, p))
		bar.ChangeMax64(max(p.Total, 1))
		_ = bar.Set64(p.Done)
	}
}

// phaseText is what stands before the bar.
func phaseText(what string, p client.Phase) string {
	if p.Steps > 1 {
		return fmt.Sprintf("%s: step %d of %d, %s", what, p.Step, p.Steps, p.Name)
	}
	return what + ": " + p.Name
}
