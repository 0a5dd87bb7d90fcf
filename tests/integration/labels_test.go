package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mfac/client"
	"mfac/wire"
)

// labelled checks which steps are in the window, and their labels.
func labelled(t *testing.T, run *client.Run, steps []wire.Step, labels []string) {
	t.Helper()
	w, err := run.Labels(soon(t))
	if err != nil || !slices.Equal(w.Steps, steps) || !slices.Equal(w.Labels, labels) {
		t.Errorf("the window is %+v, %v; want %v, %q", w, err, steps, labels)
	}
}

// TestLabels: labels come back with the steps they went with, whoever sent these, with scores and
// influence; they survive a coordinator and leave with their rows.
func TestLabels(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 3})
	cl := c.client()
	const d, m = 900, 5
	run := c.attach(cl, client.RunConfig{Name: "labels", Dim: d, Window: m, Damping: 1e-2, Shards: 3})
	g, v := gradients(41, 8, d), vector(42, d)
	if _, err := run.Publish(soon(t), 1, g[0], client.WithLabel("img/1.png")); err != nil {
		t.Fatal(err)
	}
	if _, err := run.PublishMany(soon(t), 2, g[1:3], client.WithLabels("", "Mäuse, 3")); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Precondition(soon(t), 4, make([]float32, d), g[3], client.WithLabel("vier")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup // two ranks
	for _, lo := range []int{0, 500} {
		hi := min(lo+500, d)
		wg.Go(func() {
			if _, err := run.PublishColumns(soon(t), 5, int64(lo), g[4][lo:hi], client.WithLabel("fünf")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	steps, labels := []wire.Step{1, 2, 3, 4, 5}, []string{"img/1.png", "", "Mäuse, 3", "vier", "fünf"}
	labelled(t, run, steps, labels)

	s, err := run.Scores64(soon(t), [][]float64{v})
	if err != nil || !slices.Equal(s.Steps, steps) || !slices.Equal(s.Labels, labels) {
		t.Errorf("scores of %v, %q, %v", s.Steps, s.Labels, err)
	}
	in, err := run.Influence(soon(t))
	if err != nil || !slices.Equal(in.Labels, labels) {
		t.Errorf("influence of %q, %v", in.Labels, err)
	}
	self, err := run.SelfInfluence(soon(t))
	if err != nil || !slices.Equal(self.Labels, labels) {
		t.Errorf("self-influence of %q, %v", self.Labels, err)
	}

	// Another owner learns them of the first shard.
	c.startCoordinator("c1")
	c.crashCoordinator("c0")
	labelled(t, run, steps, labels)

	// The oldest row leaves, then two are forgotten.
	if _, err := run.Publish(soon(t), 6, g[5]); err != nil {
		t.Fatal(err)
	}
	labelled(t, run, []wire.Step{2, 3, 4, 5, 6}, []string{"", "Mäuse, 3", "vier", "fünf", ""})
	if _, err := run.Forget(soon(t), 3, 5); err != nil {
		t.Fatal(err)
	}
	labelled(t, run, []wire.Step{2, 4, 6}, []string{"", "vier", ""})
	c.startCoordinator("c2")
	c.crashCoordinator("c1")
	labelled(t, run, []wire.Step{2, 4, 6}, []string{"", "vier", ""})
	if _, err := run.Forget(soon(t), 4); err != nil {
		t.Fatal(err)
	}
	labelled(t, run, []wire.Step{2, 6}, nil)
}

// TestLabelsOfLostRows: with the rows of a worker that is lost go their labels, also where it was not
// the one that kept them.
func TestLabelsOfLostRows(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"first", "other"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			c := start(t, shape{workers: 2})
			run := c.attach(c.client(), client.RunConfig{Name: "lost", Dim: 100, Window: 3, Damping: 1, Shards: 2})
			g := gradients(43, 3, 100)
			if _, err := run.PublishMany(soon(t), 1, g[:2], client.WithLabels("eins", "zwei")); err != nil {
				t.Fatal(err)
			}
			info, err := run.Status(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			shard := 0
			if lost == "other" {
				shard = 1
			}
			w := info.Workers[info.Owner[shard]]
			c.crashWorker(w)
			c.startWorker(w, 1<<30, 0)
			if _, err := run.Publish(within(t, 20*time.Second), 3, g[2], client.WithLabel("drei")); err != nil {
				t.Fatal(err)
			}
			labelled(t, run, []wire.Step{3}, []string{"drei"})
		})
	}
}

// TestLabelsRefused: a label that is too long, or none, is refused by the client and by the service,
// and nothing changes; so is another one under a token that is open.
func TestLabelsRefused(t *testing.T) {
	t.Parallel()
	c := start(t, shape{workers: 2})
	s := c.stranger("stranger")
	run := c.attach(c.client(), client.RunConfig{Name: "refused", Dim: 40, Window: 3, Damping: 1, Shards: 2})
	g := gradients(44, 2, 40)
	if _, err := run.Publish(soon(t), 1, g[0], client.WithLabel("eins")); err != nil {
		t.Fatal(err)
	}
	before, err := run.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.Publish(soon(t), 2, g[1], client.WithLabel(strings.Repeat("x", 10_000_000)))
	refusal{wire.CodeTooLarge, "label", "10000000 bytes long", "at most 256 bytes"}.check(t, err)
	for label, want := range map[string]refusal{
		strings.Repeat("x", 257):    {wire.CodeTooLarge, "label", "257 bytes long", "at most 256 bytes"},
		strings.Repeat("x", 40_000): {wire.CodeTooLarge, "label", "40000 bytes long", "at most 256 bytes"},
		"a\x1b[2J":                  {wire.CodeInvalid, "label", `a\x1b[2J`, "printable"},
	} {
		want.answer(t, s.coordinator(&wire.Open{Run: "refused", Step: 2, Label: label}))
	}
	if info, err := run.Status(soon(t)); err != nil || info.Open != 0 || info.Version != before.Version || info.Epoch != before.Epoch {
		t.Errorf("%+v, %v", info, err)
	}
	// As a rank that has the wrong example.
	as[*wire.OpenReply](t, s.coordinator(&wire.Open{Run: "refused", Step: 2, Token: 5, Label: "a"}))
	refusal{wire.CodeInvalid, "label", `"b"`, `"a"`}.answer(t, s.coordinator(&wire.Open{Run: "refused", Step: 2, Token: 5, Label: "b"}))
	refusal{wire.CodeInvalid, "label", "none", `"a"`}.answer(t, s.coordinator(&wire.Open{Run: "refused", Step: 2, Token: 5}))
	_, err = run.PublishColumns(soon(t), 2, 0, g[1][:20], client.WithToken(5), client.WithLabel("c"))
	refusal{wire.CodeInvalid, "label", `"c"`, `"a"`}.check(t, err)
	// Another publication of the step has a label of its own.
	if _, err := run.Publish(soon(t), 2, g[1], client.WithLabel("zwei")); err != nil {
		t.Fatal(err)
	}
	labelled(t, run, []wire.Step{1, 2}, []string{"eins", "zwei"})
}

// TestManyLabels: the largest window's longest labels, more than one message takes.
func TestManyLabels(t *testing.T) {
	if testing.Short() {
		t.Skip("publishes 4,096 gradients")
	}
	t.Parallel()
	c := start(t, shape{workers: 2})
	cl := c.client()
	run := c.attach(cl, client.RunConfig{Name: "many", Dim: 4, Window: wire.MaxWindow, Spare: 8, Damping: 1, Shards: 2})
	rows, labels := gradients(45, wire.MaxWindow, 4), make([]string, wire.MaxWindow)
	steps := make([]wire.Step, wire.MaxWindow)
	for i := range labels {
		steps[i] = wire.Step(i)
		labels[i] = fmt.Sprintf("%04d%s", i, strings.Repeat("ä", (wire.MaxLabel-4)/2))
	}
	if _, err := run.PublishMany(within(t, 5*time.Minute), 0, rows, client.WithLabels(labels...)); err != nil {
		t.Fatal(err)
	}
	labelled(t, run, steps, labels)
	c.startCoordinator("c1")
	c.crashCoordinator("c0")
	labelled(t, run, steps, labels)
	s, err := run.Scores(within(t, time.Minute), rows[:1], client.WithDamping(1e3))
	if err != nil || !slices.Equal(s.Labels, labels) {
		t.Errorf("scores of %d labels, %v", len(s.Labels), err)
	}
}
