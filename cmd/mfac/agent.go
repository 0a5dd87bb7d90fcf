package main

import (
	"encoding/json"
	"os"

	"github.com/spf13/cobra"

	"mfac/coordinator"
	"mfac/internal/agent"
	"mfac/internal/cluster"
	"mfac/internal/config"
	"mfac/wire"
)

func (t *tool) agentCommand() *cobra.Command {
	o := agent.Options{Version: coordinator.Version}
	var of cluster.Options
	var memory string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Serve a program beside this one over a Unix socket, as the Python package does",
		Long: `Serves programs over a Unix socket, to which only this user has access: the Python package starts it. It prints
a line of JSON that says where it listens. Each connection has a NATS connection of its own, which it asks for, so
--server, --creds and the like are not used. docs/agent.md has the messages.

It ends on SIGTERM, when nobody has been connected for a while, and with the process that --parent names.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := cmd.Flags()
			if f.Changed("parent") {
				if o.Parent < 1 {
					return wire.Invalid("parent", o.Parent, ">= 1")
				}
				o.Alive = os.Stdin
			}
			if o.Grace <= 0 {
				return wire.Invalid("grace", o.Grace, "> 0")
			}
			if f.Changed("workers") && of.Workers < 1 {
				return wire.Invalid("workers", of.Workers, ">= 1")
			}
			if memory != "" {
				n, err := config.ParseBytes(memory)
				if err != nil || n < 1 {
					return wire.Invalid("memory", memory, "a size in bytes, as 8GiB or 512MiB")
				}
				of.Capacity = n
			}
			o.Log = t.logger(verbose)
			if of.Workers > 0 {
				of.Tenant, of.Logger = t.tenant, o.Log
				o.Cluster = &of
			}
			o.Ready = func(r agent.Ready) error { return json.NewEncoder(t.stdout).Encode(r) }
			return agent.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.Parent, "parent", 0, "end with the process of this `id`, which must be the parent, and at the end of stdin")
	f.DurationVar(&o.Grace, "grace", agent.DefaultGrace, "`time` after which the agent ends, when nobody is connected")
	f.IntVar(&of.Workers, "workers", 0, "run a cluster of `n` workers in this process too, for as long as it lives")
	f.StringVar(&memory, "memory", "", "`bytes` of each of these workers, as 2GiB (default half of what is available, shared)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log to stderr")
	return cmd
}
