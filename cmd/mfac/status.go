package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/internal/config"
	"mfac/internal/natsx"
	"mfac/wire"
)

// clusterView is what status prints.
type clusterView struct {
	Server  string              `json:"server"`
	Tenant  string              `json:"tenant"`
	Workers []wire.WorkerStatus `json:"workers"`
	Runs    []runView           `json:"runs"`
}

func (t *tool) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show workers, shards and runs: how full windows are, their versions and condition",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.connected(cmd.Context(), cmd, quick, func(ctx context.Context, c *client.Client) error {
				v := clusterView{Server: natsx.Redact(t.url()), Tenant: t.tenant, Workers: []wire.WorkerStatus{}}
				workers, err := c.Workers(ctx)
				if err != nil {
					return err
				}
				v.Workers = append(v.Workers, workers...)
				if v.Runs, err = views(ctx, c); err != nil {
					return err
				}
				return t.print(v, v.write)
			})
		},
	}
}

func (v clusterView) write(w io.Writer) {
	fmt.Fprintf(w, "%s, tenant %s: %s, %s\n\n", v.Server, v.Tenant, plural(len(v.Workers), "worker"), plural(len(v.Runs), "run"))
	if len(v.Workers) > 0 {
		fmt.Fprintln(w, "WORKER\tSHARDS\tUSED\tOF\tHEARD OF")
		for _, k := range v.Workers {
			heard := "just now"
			if k.SilentMS >= 2000 {
				heard = (time.Duration(k.SilentMS) * time.Millisecond).Round(time.Second).String() + " ago"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", k.ID, k.Shards, config.FormatBytes(k.Used), config.FormatBytes(k.Capacity), heard)
		}
		fmt.Fprintln(w)
	}
	if len(v.Runs) > 0 {
		writeRuns(w, v.Runs)
	}
}
