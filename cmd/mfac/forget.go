package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/wire"
)

func (t *tool) forgetCommand() *cobra.Command {
	var list string
	cmd := &cobra.Command{
		Use:   "forget NAME --steps 3,7,9-12",
		Short: "Take gradients out of a window and zero their memory",
		Long: `forget takes the gradients of the given steps out of a run's window, all of them or none, and zeroes
their memory on every shard before it returns. Answers from then on are those of a window that never
had them. A step that isn't in the window is an error: mfac run steps NAME lists those that are. Queries
that are open on a version with one of the rows end with an error.

It does not reach results and gradients that were handed out, what their receivers made of them, nor
copies that an operating system has made, such as swap: see docs/forgetting.md.`,
		Args: cli.Names("NAME"),
	}
	cmd.Flags().StringVar(&list, "steps", "", "`steps` to forget: numbers and ranges, with commas between")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		steps, err := parseSteps(list)
		if err != nil {
			return err
		}
		return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
			r, err := c.Join(ctx, args[0])
			if err != nil {
				return err
			}
			done, err := r.Forget(ctx, steps...)
			if err != nil {
				return err
			}
			out := struct {
				Run     string       `json:"run"`
				Forgot  []wire.Step  `json:"forgot"`
				Version wire.Version `json:"version"`
				Rows    int          `json:"rows"`
			}{args[0], steps, done.Version, done.Rows}
			return t.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "forgot %s of run %s: version %d, %d of %d in the window\n",
					plural(len(steps), "step"), args[0], done.Version, done.Rows, r.Spec().Window)
			})
		})
	}
	return cmd
}

// parseSteps reads "3,7,9-12".
func parseSteps(list string) ([]wire.Step, error) {
	if list == "" {
		return nil, wire.Invalid("--steps", `""`, "numbers and ranges, as 3,7,9-12")
	}
	var steps []wire.Step
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			last = first
		}
		lo, err := strconv.ParseUint(first, 10, 64)
		hi, err2 := strconv.ParseUint(last, 10, 64)
		if err != nil || err2 != nil {
			return nil, wire.Invalid("--steps", strconv.Quote(part), "a number or a range, as 9-12")
		}
		if hi < lo {
			return nil, wire.Invalid("--steps", part, "a range that grows")
		}
		if hi-lo >= uint64(wire.MaxWindow-len(steps)) {
			return nil, wire.Invalid("--steps", part, fmt.Sprintf("at most %d steps in all", wire.MaxWindow))
		}
		for s := lo; ; s++ {
			steps = append(steps, wire.Step(s))
			if s == hi {
				break
			}
		}
	}
	return steps, nil
}

func (t *tool) setCommand() *cobra.Command {
	var damping float64
	var divisor string
	cmd := &cobra.Command{
		Use:   "set NAME [--damping λ] [--divisor capacity|count]",
		Short: "Give a run another damping or divisor",
		Long: `set changes the damping or the divisor of a run, for all of its clients, at once and without a pass
over the gradients. Queries that are open keep theirs. To ask one query at another damping, leave the
run alone: mfac ihvp --damping.`,
		Args: cli.Names("NAME"),
	}
	cmd.Flags().Float64Var(&damping, "damping", 0, "the new `λ`")
	cmd.Flags().StringVar(&divisor, "divisor", "", "the new divisor: capacity or count")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("damping") {
			if err := wire.CheckDamping("damping", damping); err != nil {
				return err
			}
		}
		if d := cmd.Flags().Lookup("divisor"); d.Changed && divisor != string(wire.Capacity) && divisor != string(wire.Count) {
			return wire.Invalid("divisor", strconv.Quote(divisor), "capacity or count")
		}
		if damping == 0 && divisor == "" {
			return wire.Invalid("changes", 0, "--damping or --divisor")
		}
		return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
			r, err := c.Join(ctx, args[0])
			if err != nil {
				return err
			}
			if _, err := r.Set(ctx, damping, wire.Divisor(divisor)); err != nil {
				return err
			}
			spec := r.Spec()
			return t.print(spec, func(w io.Writer) {
				fmt.Fprintf(w, "run %s: damping %g, divisor %s\n", spec.Name, spec.Damping, spec.Divisor)
			})
		})
	}
	return cmd
}
