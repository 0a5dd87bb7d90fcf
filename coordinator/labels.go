package coordinator

import (
	"fmt"
	"strconv"

	"mfac/wire"
)

// This file: labels of gradients. The first shard keeps them beside its rows, and tells a new owner: a
// row that is in the window is there, so its label is.

// checkLabel checks the label of who joins the publication o, or nil.
func (o *openStep) checkLabel(m *wire.Open) error {
	if o == nil || o.dropping || o.unnamed || o.token != m.Token || o.label == m.Label {
		return nil
	}
	return wire.Invalid("label", quoted(m.Label), quoted(o.label)+", as who opened step "+strconv.FormatUint(uint64(m.Step), 10)+" first has said")
}

func quoted(label string) string {
	if label == "" {
		return "none"
	}
	return strconv.Quote(label)
}

// loadLabels asks the first shard for the labels of the rows and of the open steps, from one on, then
// goes on with A.
func (c *Core) loadLabels(e *Effects, from int) {
	var labels []*string
	var steps []wire.Step
	var slots []wire.Slot
	for i := range c.rows {
		labels, steps, slots = append(labels, &c.rows[i].label), append(steps, c.rows[i].Step), append(slots, c.rows[i].Slot)
	}
	for _, o := range c.open {
		if !o.unnamed {
			labels, steps, slots = append(labels, &o.label), append(steps, o.step), append(slots, o.slot)
		}
	}
	if c.shards[0].adopted.Labels == 0 || from == len(slots) {
		c.load(e)
		return
	}
	c.call(e, 0, &wire.SlotLabels{Payload: wire.AppendSlots(nil, slots[from:])}, func(e *Effects, m wire.Message) {
		r, ok := m.(*wire.SlotLabelsReply)
		if !ok || r.N < 1 || r.N > len(slots)-from {
			c.restart(e, "the first shard does not tell the labels: "+said(m))
			return
		}
		list, err := wire.LabelList(r.Payload, r.N)
		if err != nil {
			c.restart(e, "the first shard does not tell the labels: "+err.Error())
			return
		}
		for i, l := range list {
			if l.Step != steps[from+i] {
				c.restart(e, fmt.Sprintf("the first shard has step %d in slot %d, and not %d", l.Step, slots[from+i], steps[from+i]))
				return
			}
			*labels[from+i] = l.Label
		}
		c.loadLabels(e, from+r.N)
	})
}

// labels lists the steps of the window and their labels.
func (c *Core) labels() []wire.Labelled {
	list := make([]wire.Labelled, len(c.rows))
	for i, r := range c.rows {
		list[i] = wire.Labelled{Step: r.Step, Label: r.label}
	}
	return list
}

// labelsRequest tells the steps of the window, or of a query's, and their labels, a page at a time.
func (c *Core) labelsRequest(e *Effects, in Request, m *wire.LabelsRequest) error {
	list, version := c.labels(), c.version
	if m.Query != 0 {
		q := c.queries[m.Query]
		if q == nil || q.closing {
			return c.notOpen(m.Query)
		}
		if q.steps == nil {
			return wire.Invalid("query", uint64(m.Query), "one whose numbers are of the window's rows")
		}
		list, version = q.labels, q.version
	}
	if m.Version != 0 && m.Version != version {
		return wire.Errorf(wire.CodeVersionGone, "version", m.Version, fmt.Sprint(version), "the window is another one by now: begin with row 0")
	}
	if m.From > len(list) {
		return wire.Invalid("from", m.From, fmt.Sprintf("in [0, %d]", len(list)))
	}
	list, rows := list[m.From:], len(list)
	n := wire.LabelsFit(list)
	e.send(in.From, &wire.Labels{Version: version, Rows: rows, From: m.From, N: n, Payload: wire.AppendLabels(nil, list[:n])})
	return nil
}
