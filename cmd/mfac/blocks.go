package main

import (
	"strconv"

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
}

func (b *blocking) flags(f *pflag.FlagSet) {
	f.StringVar(&b.blocks, "blocks", "", "replace H by its diagonal blocks: tensor, one a tensor, or `B` columns, never across a tensor's border")
	f.BoolVar(&b.across, "across", false, "blocks of B columns whatever the tensors are")
}

// options are those that the flags stand for.
func (b *blocking) options(f *pflag.FlagSet) ([]client.BlocksOption, error) {
	if !f.Changed("blocks") {
		if b.across {
			return nil, cli.UsageError("--across goes with --blocks B")
		}
		return nil, nil
	}
	if b.blocks == "tensor" {
		if b.across {
			return nil, cli.UsageError("--across goes with --blocks B, not with --blocks tensor")
		}
		return []client.BlocksOption{client.WithTensorBlocks()}, nil
	}
	cols, err := strconv.ParseInt(b.blocks, 10, 64)
	if err != nil || cols < 1 {
		return nil, wire.Invalid("blocks", b.blocks, "tensor, or a number of columns, at least 1")
	}
	if b.across {
		return []client.BlocksOption{client.WithBlocksAcross(cols)}, nil
	}
	return []client.BlocksOption{client.WithBlocks(cols)}, nil
}

// queryOptions are options, as those of queries.
func (b *blocking) queryOptions(f *pflag.FlagSet) (out []client.QueryOption, err error) {
	list, err := b.options(f)
	for _, o := range list {
		out = append(out, o)
	}
	return out, err
}
