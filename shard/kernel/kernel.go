package kernel

import "fmt"

// LineCols is the number of columns in a line: 64 bytes of float32.
const LineCols = 16

// PanelSlots is the number of slots in a panel; a tile's last one may hold fewer.
const PanelSlots = 8

// A Tile is some columns of every slot's row: Lines lines of LineCols columns, in panels
// of PanelSlots slots (see the package comment). G has length Slots*Lines*LineCols.
type Tile struct {
	G            []float32
	Slots, Lines int
}

// A Variant is one implementation of the package's functions. All variants give the same
// bits. A Variant is immutable and may be used by many goroutines.
type Variant struct {
	name string
}

// Name is what ByName takes: "generic".
func (v *Variant) Name() string { return v.name }

var generic = Variant{name: "generic"}

var variants = []*Variant{&generic}

// Variants lists the implementations that this CPU can run, the fastest last.
func Variants() []*Variant { return append([]*Variant(nil), variants...) }

// Best is the fastest implementation that this CPU can run.
func Best() *Variant { return variants[len(variants)-1] }

// ByName finds an implementation by its name; "" is Best.
func ByName(name string) (*Variant, error) {
	if name == "" {
		return Best(), nil
	}
	var names []string
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
		names = append(names, v.name)
	}
	return nil, fmt.Errorf("kernel is %q, must be one of %q on this CPU", name, names)
}
