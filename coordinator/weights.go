package coordinator

import "mfac/wire"

// weightsOf is the weights of rows, oldest first: what their publishers said, and how far each has
// faded since the newest of them in a run with a half-life. By the newest that is there, so that a window
// that has forgotten it answers as if it had never been. Nil where all are 1.
func (c *Core) weightsOf(rows []row) []float64 {
	ws, ones := make([]float64, len(rows)), true
	for i, r := range rows {
		ws[i] = wire.OrOne(r.Weight) * c.rec.Spec.Fade(uint64(rows[len(rows)-1].Step-r.Step))
		ones = ones && ws[i] == 1
	}
	if ones {
		return nil
	}
	return ws
}
