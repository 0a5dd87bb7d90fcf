package wire

import "fmt"

// This file: what the messages between clients and the coordinator are checked for.

// Validate implements Message.
func (m *Create) Validate() error {
	if err := m.Spec.Validate(); err != nil {
		return err
	}
	if (len(m.Payload) == 0) != (m.Spec.Layout == "") {
		return Invalid("layout bytes", len(m.Payload), "sent with its hash, and only then")
	}
	return nil
}
func (m *Delete) Validate() error        { return CheckName("run", m.Run) }
func (m *InfoRequest) Validate() error   { return CheckName("run", m.Run) }
func (m *LayoutRequest) Validate() error { return CheckName("run", m.Run) }
func (m *StepsRequest) Validate() error  { return CheckName("run", m.Run) }
func (*Layout) Validate() error          { return nil }
func (*List) Validate() error            { return nil }
func (*ListReply) Validate() error       { return nil }
func (*Status) Validate() error          { return nil }
func (*StatusReply) Validate() error     { return nil }

// Validate implements Message.
func (m *Info) Validate() error {
	if len(m.Lo) != len(m.Owner) || len(m.Lo) != m.Spec.Shards {
		return Invalid("shards", fmt.Sprintf("%d of %d", len(m.Owner), len(m.Lo)), "as many borders as owners")
	}
	for s, w := range m.Owner {
		if w < 0 || w >= len(m.Workers) {
			return Invalid("owner", w, "in [0, "+itoa(len(m.Workers))+")")
		}
		if lo, n := m.Range(s); CheckRange(lo, n, m.Spec.Dim) != nil {
			return Invalid("lo", lo, "growing, below dim")
		}
	}
	return nil
}

func (m *Open) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	if m.DeadlineMS < 0 {
		return Invalid("deadline_ms", m.DeadlineMS, ">= 0")
	}
	if p := m.Precondition; p != nil {
		return checkOptions(p.Damping, p.Divisor, p.Result)
	}
	return nil
}

func (*OpenReply) Validate() error { return nil }

func (m *Wait) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	return checkEpoch(m.Epoch)
}

func (*WaitReply) Validate() error { return nil }

// Validate implements Message.
func (m *Query) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	if err := checkOptions(m.Damping, m.Divisor, m.Result); err != nil {
		return err
	}
	if m.Vectors < 1 || m.Vectors > MaxVectors {
		return Invalid("vectors", m.Vectors, "in [1, "+itoa(MaxVectors)+"]")
	}
	if m.DeadlineMS < 0 {
		return Invalid("deadline_ms", m.DeadlineMS, ">= 0")
	}
	if m.MinRows < 0 || m.MinRows > MaxWindow {
		return Invalid("min_rows", m.MinRows, "in [0, "+itoa(MaxWindow)+"]")
	}
	switch m.Kind {
	case KindVector:
		if m.DType.Size() == 0 {
			return Invalid("dtype", m.DType, "f32 or f64")
		}
		return checkLen(m.Payload, 0)
	case KindCombine:
		if m.Steps < 1 || m.Steps > MaxWindow {
			return Invalid("steps", m.Steps, "in [1, "+itoa(MaxWindow)+"]")
		}
		return checkLen(m.Payload, 8*int64(m.Steps)*int64(1+m.Vectors))
	case KindRow:
		if m.Vectors != 1 {
			return Invalid("vectors", m.Vectors, "1 for a row")
		}
		if m.Result != F32 {
			return Invalid("result", m.Result, "f32, as the row is stored")
		}
		return checkLen(m.Payload, 8)
	}
	return Invalid("kind", m.Kind, "vector, combine or row")
}

func checkOptions(damping float64, divisor Divisor, result DType) error {
	if damping != 0 {
		if err := CheckDamping("damping", damping); err != nil {
			return err
		}
	}
	if divisor != "" && divisor != Capacity && divisor != Count {
		return Invalid("divisor", divisor, "capacity or count")
	}
	if result.Size() == 0 {
		return Invalid("result", result, "f32 or f64")
	}
	return nil
}

func (*QueryReply) Validate() error { return nil }

func (m *Result) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	return checkEpoch(m.Epoch)
}

func (*ResultReply) Validate() error { return nil }

func (m *Close) Validate() error {
	if err := CheckName("run", m.Run); err != nil {
		return err
	}
	return checkEpoch(m.Epoch)
}

func (m *Steps) Validate() error {
	if m.Rows < 0 || m.Rows > MaxWindow {
		return Invalid("rows", m.Rows, "in [0, "+itoa(MaxWindow)+"]")
	}
	return checkLen(m.Payload, 8*int64(m.Rows))
}
