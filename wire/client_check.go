package wire

import (
	"cmp"
	"fmt"
	"math"
)

// This file: what the messages between clients and the coordinator are checked for.

// Validate implements Message. That the layout's bytes have the spec's hash shows nothing about
// what they are; whoever parses them checks that they are the layout's canonical form.
func (m *Create) Validate() error {
	if err := m.Spec.Validate(); err != nil {
		return err
	}
	if (len(m.Payload) == 0) != (m.Spec.Layout == "") {
		return Invalid("layout bytes", len(m.Payload), "sent with its hash, and only then")
	}
	if err := checkLayoutBytes(m.Payload); err != nil {
		return err
	}
	if hash := LayoutHash(m.Payload); m.Spec.Layout != "" && hash != m.Spec.Layout {
		return Invalid("layout hash", m.Spec.Layout, hash+", of the bytes sent")
	}
	return nil
}

// Validate implements Message.
func (m *Delete) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *InfoRequest) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *LayoutRequest) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *StepsRequest) Validate() error { return CheckName("run", m.Run) }

// Validate implements Message.
func (m *Layout) Validate() error { return checkLayoutBytes(m.Payload) }

// Validate implements Message.
func (m *List) Validate() error { return checkNameOrNone("after", m.After) }

// Validate implements Message.
func (m *Status) Validate() error { return checkNameOrNone("after", m.After) }

// Validate implements Message.
func (m *ListReply) Validate() error {
	if err := checkCount("runs", len(m.Runs), MaxList); err != nil {
		return err
	}
	for _, name := range m.Runs {
		if err := CheckName("runs", name); err != nil {
			return err
		}
	}
	return nil
}

// Validate implements Message.
func (m *StatusReply) Validate() error {
	if err := cmp.Or(checkNameOrNone("coord", m.Coord), checkCount("workers", len(m.Workers), MaxStatus)); err != nil {
		return err
	}
	for _, w := range m.Workers {
		if err := cmp.Or(
			CheckName("id", w.ID),
			checkWithin("capacity", w.Capacity, 0, math.MaxInt64),
			checkWithin("used", w.Used, 0, math.MaxInt64),
			checkCount("shards", w.Shards, math.MaxInt32),
			checkWithin("silent_ms", w.SilentMS, 0, math.MaxInt64),
		); err != nil {
			return err
		}
	}
	return nil
}

// Validate implements Message.
func (m *Info) Validate() error {
	if err := m.Spec.Validate(); err != nil {
		return err
	}
	if len(m.Lo) != len(m.Owner) || len(m.Lo) != m.Spec.Shards {
		return Invalid("shards", fmt.Sprintf("%d of %d", len(m.Owner), len(m.Lo)), "as many borders as owners")
	}
	if m.Lo[0] != 0 {
		return Invalid("lo", m.Lo[0], "0 first")
	}
	for s, w := range m.Owner {
		if w < 0 || w >= len(m.Workers) {
			return Invalid("owner", w, "in [0, "+itoa(len(m.Workers))+")")
		}
		if lo, n := m.Range(s); CheckRange(lo, n, m.Spec.Dim) != nil {
			return Invalid("lo", lo, "growing, below dim")
		}
	}
	if err := checkCount("workers", len(m.Workers), MaxShards); err != nil {
		return err
	}
	if m.State == StateReady { // till then there may be no workers
		if err := checkEpoch(m.Epoch); err != nil {
			return err
		}
		for _, w := range m.Workers { // clients make subjects of them
			if err := CheckName("workers", w); err != nil {
				return err
			}
		}
	}
	if m.Frozen != "" {
		if err := checkState("frozen", m.Frozen); err != nil {
			return err
		}
	}
	if !(m.Cond >= 0) || math.IsInf(m.Cond, 1) {
		return Invalid("cond", m.Cond, ">= 0 and finite")
	}
	return cmp.Or(
		checkCount("rows", m.Rows, MaxWindow),
		checkCount("open", m.Open, math.MaxInt32),
		checkCount("queries", m.Queries, math.MaxInt32),
		checkWithin("kept", m.Kept, 0, math.MaxInt64),
		checkCount("lost", m.Lost, math.MaxInt32),
		checkNameOrNone("coord", m.Coord),
	)
}

// Validate implements Message.
func (m *Open) Validate() error {
	if err := cmp.Or(CheckName("run", m.Run), checkDeadline(m.DeadlineMS), CheckLabel("label", m.Label), checkWeight(m.Weight)); err != nil {
		return err
	}
	if p := m.Precondition; p != nil {
		return checkOptions(p.Damping, p.Divisor, p.Result)
	}
	return nil
}

// Validate implements Message.
func (m *OpenReply) Validate() error {
	if err := cmp.Or(checkEpoch(m.Epoch), checkCount("whole", len(m.Whole), MaxShards)); err != nil {
		return err
	}
	for _, s := range m.Whole {
		if err := checkWithin("whole", s, 0, MaxShards-1); err != nil {
			return err
		}
	}
	return nil
}

// Validate implements Message.
func (m *Wait) Validate() error { return cmp.Or(CheckName("run", m.Run), checkEpoch(m.Epoch)) }

// Validate implements Message.
func (m *WaitReply) Validate() error {
	if m.State != StatePending && m.State != StateCommitted {
		return Invalid("state", m.State, "pending or committed")
	}
	if m.Refused != nil {
		if err := m.Refused.Validate(); err != nil {
			return err
		}
	}
	return cmp.Or(checkCount("rows", m.Rows, MaxWindow), checkBounds("bounds", m.Bounds))
}

// Validate implements Message.
func (m *Query) Validate() error {
	if m.Block != 0 || m.Starts != 0 {
		return m.validateBlocks()
	}
	if err := cmp.Or(
		CheckName("run", m.Run),
		checkOptions(m.Damping, m.Divisor, m.Result),
		checkWithin("vectors", m.Vectors, 1, MaxVectors),
		checkDeadline(m.DeadlineMS),
		checkWithin("min_rows", m.MinRows, 0, MaxWindow),
		checkWithin("steps", m.Steps, 0, MaxWindow),
		CheckSparsity(m.Sparsity),
		checkRuleOrNone(m.Rule),
	); err != nil {
		return err
	}
	if err := cmp.Or(m.checkFunction(), m.checkPattern()); err != nil {
		return err
	}
	switch m.Kind {
	case KindSample:
		return checkLen(m.Payload, 0)
	case KindVector, KindFisher, KindHessian:
		if err := CheckDType("dtype", m.DType); err != nil {
			return err
		}
		return checkLen(m.Payload, 0)
	case KindCombine:
		if m.Steps < 1 {
			return Invalid("steps", m.Steps, "in [1, "+itoa(MaxWindow)+"]")
		}
		if err := checkLen(m.Payload, 8*int64(m.Steps)*int64(1+m.Vectors)); err != nil {
			return err
		}
		return checkFinite("coefficients", m.Payload[8*m.Steps:])
	case KindRow:
		if m.Vectors != 1 {
			return Invalid("vectors", m.Vectors, "1 for a row")
		}
		if m.Result != F32 {
			return Invalid("result", m.Result, "f32, which says all that a row holds")
		}
		return checkLen(m.Payload, 8)
	case KindDiag, KindColumn, KindSubblock:
		return m.validateDiag()
	case KindPrune, KindCompensate:
		return m.validatePrune()
	case KindScalars, KindSpectrum:
		return m.checkSpectrum()
	case KindScores, KindPairs, KindInfluence, KindSelf:
		return m.checkScalars()
	case KindInvSqrt, KindLikelihood, KindLeaveOut:
		return m.checkTune()
	}
	return Invalid("kind", m.Kind, "one of the protocol's kinds of query")
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
	return CheckDType("result", result)
}

// Validate implements Message.
func (m *QueryReply) Validate() error {
	return cmp.Or(checkEpoch(m.Epoch), checkCount("rows", m.Rows, MaxWindow))
}

// Validate implements Message.
func (m *Result) Validate() error { return cmp.Or(CheckName("run", m.Run), checkEpoch(m.Epoch)) }

// Validate implements Message.
func (m *ResultReply) Validate() error {
	if m.State != StatePending && m.State != StateReady {
		return Invalid("state", m.State, "pending or ready")
	}
	return cmp.Or(checkCount("rows", m.Rows, MaxWindow), checkBounds("bounds", m.Bounds), checkBounds("residuals", m.Residuals), checkWithin("values", m.Values, 0, MaxValues), checkProgress(m))
}

// checkProgress checks how far a pending result is.
func checkProgress(m *ResultReply) error {
	if err := cmp.Or(checkPhase(m.Phase), checkWithin("total", m.Total, 0, 1<<62)); err != nil {
		return err
	}
	return checkWithin("done", m.Done, 0, m.Total)
}

// Validate implements Message.
func (m *Close) Validate() error { return cmp.Or(CheckName("run", m.Run), checkEpoch(m.Epoch)) }

// Validate implements Message.
func (m *Steps) Validate() error {
	return cmp.Or(checkCount("rows", m.Rows, MaxWindow), checkLen(m.Payload, 8*int64(m.Rows)))
}

// checkBounds checks the bounds of a result's errors, or its residuals, one a vector.
func checkBounds(field string, bounds []float64) error {
	for _, b := range bounds {
		if !(b >= 0) || math.IsInf(b, 1) {
			return Invalid(field, b, ">= 0 and finite")
		}
	}
	return checkCount(field, len(bounds), MaxVectors)
}

func checkDeadline(ms int64) error { return checkWithin("deadline_ms", ms, 0, MaxDeadlineMS) }

func checkLayoutBytes(p []byte) error {
	if len(p) > MaxLayout {
		return Errorf(CodeTooLarge, "layout bytes", len(p), "at most "+itoa(MaxLayout))
	}
	return nil
}

func checkNameOrNone(field, name string) error {
	if name == "" {
		return nil
	}
	return CheckName(field, name)
}
