package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/wire"
)

// This file: the flags that replace H by its diagonal blocks.

// blocking is these flags.
type blocking struct {
	blocks string
	across bool
	only   bool // the whole alone
}

// whole is what --blocks says for the whole of H in a run of blocks.
const whole = "whole"

func (b *blocking) flags(f *pflag.FlagSet) {
	f.StringVar(&b.blocks, "blocks", "", "replace H by its diagonal blocks: tensor, one a tensor, or `B` columns, never across a tensor's border; or whole, in a run of blocks")
	f.BoolVar(&b.across, "across", false, "blocks of B columns whatever the tensors are")
}

// wholeFlag is the flag of commands that are not answered by blocks.
func (b *blocking) wholeFlag(f *pflag.FlagSet) {
	b.only = true
	f.StringVar(&b.blocks, "blocks", "", "`whole`: of the whole of H, in a run of blocks")
}

// option is what the flags stand for, nil for the run's.
func (b *blocking) option() (client.QueryOption, error) {
	switch {
	case b.blocks == "" && b.across, b.blocks == whole && b.across:
		return nil, cli.UsageError("--across goes with --blocks B")
	case b.blocks == "":
		return nil, nil
	case b.blocks == whole:
		return client.WithWhole(), nil
	case b.only:
		return nil, wire.Invalid("blocks", b.blocks, "whole, or left out: this is not answered by blocks")
	}
	of, err := b.of()
	if err != nil {
		return nil, err
	}
	if of == wire.BlockingTensor {
		return client.WithTensorBlocks(), nil
	}
	cols, across, err := of.Parse()
	if across {
		return client.WithBlocksAcross(cols), err
	}
	return client.WithBlocks(cols), err
}

// of is the blocks that the flags name.
func (b *blocking) of() (wire.Blocking, error) {
	if b.blocks == string(wire.BlockingTensor) {
		if b.across {
			return "", cli.UsageError("--across goes with --blocks B, not with --blocks tensor")
		}
		return wire.BlockingTensor, nil
	}
	cols, err := strconv.ParseInt(b.blocks, 10, 64)
	if err != nil || cols < 1 {
		return "", wire.Invalid("blocks", b.blocks, "tensor, or a number of columns, at least 1")
	}
	return wire.BlockingOf(min(cols, wire.MaxDim), b.across), nil
}

// patiently gives a query that is answered by blocks as long as it may live, where --timeout says nothing else.
func (b *blocking) patiently(ctx context.Context, cmd *cobra.Command, r *client.Run) (context.Context, context.CancelFunc) {
	if b.blocks == whole || b.blocks == "" && r.Spec().Blocks == "" || cmd.Flags().Changed("timeout") {
		return ctx, func() {}
	}
	return context.WithTimeout(cmd.Context(), long)
}

// queryOptions are those of a query.
func (b *blocking) queryOptions() ([]client.QueryOption, error) {
	o, err := b.option()
	if o == nil || err != nil {
		return nil, err
	}
	return []client.QueryOption{o}, nil
}
