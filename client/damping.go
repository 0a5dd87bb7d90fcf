package client

import (
	"fmt"
	"maps"
	"slices"

	"mfac/wire"
)

// scalesOf is what dampings of tensors come to, as multiples of the run's, in the order of its layout.
func scalesOf(dampings map[string]float64, layout []byte, s wire.RunSpec) (wire.Scales, error) {
	if len(dampings) == 0 {
		return "", nil
	}
	if err := wire.CheckDamping("damping", s.Damping); err != nil {
		return "", err
	}
	var tensors []wire.Tensor
	if len(layout) > 0 {
		var err error
		if tensors, err = wire.ParseLayout(layout, s.Dim); err != nil {
			return "", err
		}
	}
	left := maps.Clone(dampings)
	var list []wire.Scale
	for _, t := range tensors {
		r := 1.0
		if d, ok := left[t.Name]; ok {
			if err := wire.CheckDamping("damping of "+t.Name, d); err != nil {
				return "", err
			}
			r = d / s.Damping
			if err := wire.CheckScale("damping of "+t.Name, r); err != nil {
				return "", err
			}
			delete(left, t.Name)
		}
		list = append(list, wire.Scale{Lo: t.Offset, R: r})
	}
	if len(left) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(left)))
		limit := "a tensor of the layout"
		if len(tensors) == 0 {
			limit += ", and there is none"
		}
		return "", wire.Invalid("damping", fmt.Sprintf("of %q", name), limit)
	}
	return wire.ScalesOf(list), nil
}
