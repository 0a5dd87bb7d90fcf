// Package cli is what the programs' command lines have in common: how errors are told, exit
// codes, and the version.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	OK     = 0
	Failed = 1 // the command was understood, and failed
	Usage  = 2 // the command was not understood
)

// usageError is a command that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// UsageError is an error that ends the program with exit code Usage.
func UsageError(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silent is an error that has been told already.
type silent struct{ error }

// Told marks an error that the user has heard of: the program only ends with Failed.
func Told(err error) error { return silent{err} }

// Execute runs a command line and returns the exit code. An error is one line on stderr, after the
// program's name; nothing is added to stdout then.
func Execute(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{flagError(err)} })
	strict(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	var told silent
	if errors.As(err, &told) {
		return Failed
	}
	fmt.Fprintf(stderr, "%s: %s\n", root.Name(), oneLine(err))
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "Usage: %s (%s --help says more)\n", cmd.UseLine(), cmd.CommandPath())
		return Usage
	}
	return Failed
}

// flagError says what a flag's value must be, where pflag shows what strconv says.
func flagError(err error) error {
	var e *pflag.InvalidValueError
	if !errors.As(err, &e) {
		return err
	}
	var must string
	switch e.GetFlag().Value.Type() {
	case "int", "int64":
		must = fmt.Sprintf("a whole number, at most %d", math.MaxInt64)
	case "uint64":
		must = fmt.Sprintf("a whole number in [0, %d]", uint64(math.MaxUint64))
	case "float64":
		must = "a number"
	case "duration":
		must = "a time such as 20s or 2m"
	case "bool":
		must = "true or false"
	default:
		return err
	}
	return fmt.Errorf("%s is %s, must be %s", e.GetFlag().Name, e.GetValue(), must)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// strict makes wrong arguments usage errors, and those of commands that only have subcommands too.
func strict(cmd *cobra.Command) {
	check := cmd.Args
	switch {
	case cmd.Run == nil && cmd.RunE == nil:
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return UsageError("unknown command %q", args[0])
			}
			return cmd.Help()
		}
		check = cobra.ArbitraryArgs
	case check == nil && cmd.HasSubCommands():
		check = cobra.NoArgs // "unknown command"
	case check == nil:
		check = Names()
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// Names takes one argument for each name, and says which is missing.
func Names(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// Required returns a usage error that names the flags of these that were not given.
func Required(fs *pflag.FlagSet, names ...string) error {
	var missing []string
	for _, n := range names {
		if !fs.Changed(n) {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) > 0 {
		return UsageError("%s must be given", strings.Join(missing, ", "))
	}
	return nil
}

// Build says what a program was built from.
type Build struct {
	Version  string `json:"version"`
	Protocol string `json:"protocol"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// BuildOf is the running program's build.
func BuildOf(version, protocol string) Build {
	b := Build{Version: version, Protocol: protocol}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Go = info.GoVersion
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	return b
}

func (b Build) String() string {
	s := fmt.Sprintf("%s, protocol %s, %s", b.Version, b.Protocol, b.Go)
	if b.Commit != "" {
		s += ", commit " + b.Commit[:min(12, len(b.Commit))]
	}
	if b.Modified {
		s += " and changes"
	}
	return s
}
