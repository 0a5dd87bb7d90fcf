package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file: labels, by which a publisher knows the example that a gradient is of. One goes with its
// step (Open), and leaves with it.

// MaxLabel is the most bytes of a label.
const MaxLabel = 256

// shownLabel is how much of a label that is refused is shown.
const shownLabel = 32

// CheckLabel checks the label of a gradient: at most MaxLabel bytes of printable UTF-8; "" is none.
func CheckLabel(field, label string) error {
	if len(label) > MaxLabel {
		return Errorf(CodeTooLarge, field, fmt.Sprintf("%d bytes long (%s)", len(label), shorten(label)), "at most "+itoa(MaxLabel)+" bytes")
	}
	if !utf8.ValidString(label) || strings.ContainsFunc(label, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return Invalid(field, shorten(label), "printable UTF-8")
	}
	return nil
}

// shorten quotes the beginning of a label.
func shorten(label string) string {
	if len(label) <= shownLabel {
		return strconv.Quote(label)
	}
	n := shownLabel
	for n > shownLabel-utf8.UTFMax && !utf8.RuneStart(label[n]) {
		n--
	}
	return strconv.Quote(label[:n]) + "…"
}

// LabelsRequest asks which steps are in the window, or in that of a query whose answer is numbers by
// its rows, and how they are labelled: from row From on, the oldest being 0. Version, of the reply
// before, makes sure that it is the same window; CodeVersionGone where it isn't. Reply: Labels.
type LabelsRequest struct {
	Run     string  `msgpack:"run"`
	Query   QueryID `msgpack:"query,omitempty"`
	Version Version `msgpack:"version,omitempty"`
	From    int     `msgpack:"from,omitempty"`
}

// Labels lists N rows of the Rows in the window from row From on: all, or as many as fit. Payload: AppendLabels.
type Labels struct {
	Version Version `msgpack:"version"`
	Rows    int     `msgpack:"rows"`
	From    int     `msgpack:"from"`
	N       int     `msgpack:"n"`
	Payload []byte  `msgpack:"-"`
}

// SlotLabels asks the first shard for the labels of the rows and of the staged steps in the payload's
// slots (uint32 each). Reply: SlotLabelsReply.
type SlotLabels struct {
	Shard   `msgpack:",inline"`
	Payload []byte `msgpack:"-"`
}

// SlotLabelsReply has the steps in the first N of the slots, and their labels: all, or as many as fit.
// Payload: AppendLabels.
type SlotLabelsReply struct {
	Shard   `msgpack:",inline"`
	N       int    `msgpack:"n"`
	Payload []byte `msgpack:"-"`
}

// Labelled is a step and its label.
type Labelled struct {
	Step  Step
	Label string
}

const labelHead = 8 + 2

// AppendLabels appends steps and their labels as a payload: step (uint64), bytes of the label (uint16),
// the label.
func AppendLabels(p []byte, list []Labelled) []byte {
	for _, l := range list {
		p = binary.LittleEndian.AppendUint64(p, uint64(l.Step))
		p = binary.LittleEndian.AppendUint16(p, uint16(len(l.Label)))
		p = append(p, l.Label...)
	}
	return p
}

// LabelsFit is how many of the first steps of list go into one payload.
func LabelsFit(list []Labelled) int {
	bytes := 0
	for i, l := range list {
		if bytes += labelHead + len(l.Label); bytes > MaxPayload {
			return i
		}
	}
	return len(list)
}

// LabelList reads what AppendLabels wrote, n steps, and checks it.
func LabelList(p []byte, n int) ([]Labelled, error) {
	size := len(p)
	list := make([]Labelled, 0, min(n, size/labelHead))
	for len(p) >= labelHead && len(list) < n {
		step, bytes := Step(binary.LittleEndian.Uint64(p)), int(binary.LittleEndian.Uint16(p[8:]))
		p = p[labelHead:]
		if bytes > len(p) {
			return nil, Errorf(CodeMalformed, "label of step "+itoa(step), itoa(bytes)+" bytes", "within the "+itoa(len(p))+" bytes left")
		}
		label := string(p[:bytes])
		p = p[bytes:]
		if err := CheckLabel("label of step "+itoa(step), label); err != nil {
			return nil, err
		}
		list = append(list, Labelled{step, label})
	}
	if len(list) < n || len(p) > 0 {
		return nil, Invalid("payload bytes", size, "those of "+itoa(n)+" labels")
	}
	return list, nil
}

// Validate implements Message.
func (m *LabelsRequest) Validate() error {
	return cmp.Or(CheckName("run", m.Run), checkWithin("from", m.From, 0, MaxWindow))
}

// Validate implements Message.
func (m *Labels) Validate() error {
	if err := cmp.Or(checkCount("rows", m.Rows, MaxWindow), checkWithin("from", m.From, 0, m.Rows), checkCount("n", m.N, m.Rows-m.From)); err != nil {
		return err
	}
	if m.N == 0 && m.From < m.Rows {
		return Invalid("n", m.N, "at least 1")
	}
	_, err := LabelList(m.Payload, m.N)
	return err
}

// Validate implements Message.
func (m *SlotLabels) Validate() error {
	if err := m.Shard.Validate(); err != nil {
		return err
	}
	_, err := SlotList(m.Payload)
	return err
}

// Validate implements Message.
func (m *SlotLabelsReply) Validate() error {
	if err := cmp.Or(m.Shard.Validate(), checkCount("n", m.N, maxSlots)); err != nil {
		return err
	}
	_, err := LabelList(m.Payload, m.N)
	return err
}

// Type implements Message.
func (*LabelsRequest) Type() string   { return OpLabels }
func (*Labels) Type() string          { return "labels.reply" }
func (*SlotLabels) Type() string      { return OpSlotLabels }
func (*SlotLabelsReply) Type() string { return "slot_labels.reply" }

// Body implements Bulk.
func (m *Labels) Body() *[]byte          { return &m.Payload }
func (m *SlotLabels) Body() *[]byte      { return &m.Payload }
func (m *SlotLabelsReply) Body() *[]byte { return &m.Payload }

var (
	_ = register(func() Message { return new(LabelsRequest) })
	_ = register(func() Message { return new(Labels) })
	_ = register(func() Message { return new(SlotLabels) })
	_ = register(func() Message { return new(SlotLabelsReply) })
)
