package client

import (
	"context"
	"fmt"
	"slices"

	"mfac/wire"
)

// settleLayout checks a layout and returns its canonical form and its size. Where no tensor has
// an offset, each starts where the one before it ends.
func settleLayout(tensors []wire.Tensor) (payload []byte, dim int64, err error) {
	if len(tensors) > wire.MaxTensors {
		return nil, 0, wire.Errorf(wire.CodeTooLarge, "tensors", len(tensors), fmt.Sprintf("at most %d", wire.MaxTensors))
	}
	place := !slices.ContainsFunc(tensors, func(t wire.Tensor) bool { return t.Offset != 0 })
	list := slices.Clone(tensors)
	for i := range list {
		if place {
			list[i].Offset = dim
		}
		n := list[i].Size()
		if n < 0 || n > wire.MaxDim-dim {
			return nil, 0, wire.Invalid(fmt.Sprintf("shape of tensor %q", list[i].Name), list[i].Shape,
				fmt.Sprintf("of sides > 0, with its end at most %d", int64(wire.MaxDim)))
		}
		dim += n
	}
	payload = wire.CanonicalLayout(list)
	_, err = wire.ParseLayout(payload, dim)
	return payload, dim, err
}

// Layout asks for the run's layout, nil if it has none.
func (r *Run) Layout(ctx context.Context) ([]wire.Tensor, error) {
	ctx, done, err := r.c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("layout of run %s: %w", r.name, err)
	}
	defer done()
	reply, err := ask[*wire.Layout](ctx, r.c, wire.OpLayout, &wire.LayoutRequest{Run: r.name}, whileBusy)
	if err != nil {
		return nil, fmt.Errorf("layout of run %s: %w", r.name, err)
	}
	if r.spec.Layout == "" && len(reply.Payload) == 0 {
		return nil, nil
	}
	if hash := wire.LayoutHash(reply.Payload); hash != r.spec.Layout {
		return nil, fmt.Errorf("layout of run %s: %w", r.name, wire.Errorf(wire.CodeMalformed, "layout hash", hash, r.spec.Layout))
	}
	tensors, err := wire.ParseLayout(reply.Payload, r.spec.Dim)
	if err != nil {
		return nil, fmt.Errorf("layout of run %s: %w", r.name, err)
	}
	return tensors, nil
}
