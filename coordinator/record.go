package coordinator

import (
	"encoding/json"
	"fmt"
	"math"

	"mfac/internal/dtype"
	"mfac/shard"
	"mfac/wire"
)

// Record is what the KV bucket of runs keeps of a run, as JSON: all that can't be had from the
// shards.
type Record struct {
	Format int          `json:"format"` // 1
	Spec   wire.RunSpec `json:"spec"`
	UID    uint64       `json:"uid,string"`
	Lo     []int64      `json:"lo"`     // first column of each shard
	Placed []Place      `json:"placed"` // where each shard is
	Floor  wire.Version `json:"floor"`  // versions below may have been used

	// Takeovers counts the owners that have written this record. It tells their attempts, queries
	// and placements apart, for ever: revisions begin anew with a new bucket of leases.
	Takeovers uint64     `json:"takeovers"`
	Epoch     wire.Epoch `json:"epoch"`            // of the owner that wrote it: no two write alike
	Newest    *wire.Step `json:"newest,omitempty"` // the highest step seen at a takeover, or the first one; nil: none yet

	Change *Change   `json:"change,omitempty"` // the last one, by a client
	Freeze *Freezing `json:"freeze,omitempty"` // the last one
}

// Place is where a shard is: on Worker, since the takeover of this number.
type Place struct {
	Worker   string `json:"worker"`
	Revision uint64 `json:"revision"`
}

// recordFormat is the version of Record's JSON.
const recordFormat = 1

// versionReserve is how many versions a takeover reserves. A run whose shards have all lost their
// rows goes on above them: versions are never reused, and a step needs no KV write.
const versionReserve = 1 << 32

// Encode is the record's JSON.
func (r Record) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeRecord reads and checks a record.
func DecodeRecord(p []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(p, &r); err != nil {
		return r, fmt.Errorf("read run record: %w", err)
	}
	if r.Format != recordFormat {
		return r, wire.Errorf(wire.CodeUnsupported, "record format", r.Format, fmt.Sprint(recordFormat))
	}
	if err := r.Spec.Validate(); err != nil {
		return r, err
	}
	if len(r.Lo) != r.Spec.Shards || len(r.Placed) != r.Spec.Shards {
		return r, wire.Invalid("shards in record", len(r.Lo), fmt.Sprint(r.Spec.Shards))
	}
	if r.Lo[0] != 0 {
		return r, wire.Invalid("first shard border", r.Lo[0], "0")
	}
	if ch := r.Change; ch != nil {
		if err := wire.CheckName("caller in record", ch.Caller); err != nil {
			return r, err
		}
		if ch.Rows < 0 || ch.Rows > r.Spec.Window {
			return r, wire.Invalid("rows in record", ch.Rows, fmt.Sprintf("in [0, %d]", r.Spec.Window))
		}
	}
	if f := r.Freeze; f != nil {
		if err := wire.CheckName("caller in record", f.Caller); err != nil {
			return r, err
		}
	}
	for s := range r.Lo {
		if w := r.Placed[s].Worker; w != "" {
			if err := wire.CheckName("worker in record", w); err != nil {
				return r, err
			}
		}
		if lo, n := r.columns(s); wire.CheckRange(lo, n, r.Spec.Dim) != nil {
			return r, wire.Invalid("shard border", lo, "growing, below dim")
		}
	}
	return r, nil
}

// columns is shard s's first column and their number.
func (r *Record) columns(s int) (lo, n int64) {
	hi := r.Spec.Dim
	if s+1 < len(r.Lo) {
		hi = r.Lo[s+1]
	}
	return r.Lo[s], hi - r.Lo[s]
}

// shardBytes is the memory that shard s takes on its worker, the largest int64 if it is more than
// any has.
func (r *Record) shardBytes(s int) int64 {
	_, n := r.columns(s)
	bytes, err := shard.Bytes(shard.Config{Slots: r.Spec.Slots(), Cols: n, DType: dtype.Of(r.Spec.Store)})
	if err != nil {
		return math.MaxInt64
	}
	return bytes
}

func (r Record) clone() Record {
	r.Lo = append([]int64(nil), r.Lo...)
	r.Placed = append([]Place(nil), r.Placed...)
	if r.Change != nil {
		ch := *r.Change
		r.Change = &ch
	}
	if r.Freeze != nil {
		f := *r.Freeze
		r.Freeze = &f
	}
	return r
}

// room is a worker as placement sees it.
type room struct {
	id   string
	free int64
}

// place puts the given shards on workers that have room: each on one with the fewest of the run's
// shards, so that a pass runs on all of them, then with the most room left, ties by name. It
// returns a worker for each, or an error with the numbers.
func place(rec *Record, shards []int, rooms []room) (map[int]string, error) {
	if len(rooms) == 0 {
		return nil, wire.Errorf(wire.CodeNoWorkers, "workers", 0, "at least 1", "start one: a worker joins by itself")
	}
	var free int64
	for _, r := range rooms {
		free += r.free
	}
	count := map[string]int{} // of the run's shards on a worker
	for _, p := range rec.Placed {
		count[p.Worker]++
	}
	out := map[int]string{}
	for _, s := range shards {
		need := rec.shardBytes(s)
		better := func(a, b room) bool {
			switch fits := a.free >= need; {
			case fits != (b.free >= need):
				return fits
			case fits && count[a.id] != count[b.id]:
				return count[a.id] < count[b.id]
			case a.free != b.free:
				return a.free > b.free
			}
			return a.id < b.id
		}
		best := 0
		for i := range rooms {
			if better(rooms[i], rooms[best]) {
				best = i
			}
		}
		if rooms[best].free < need {
			var total int64
			for _, t := range shards {
				if n := rec.shardBytes(t); n > math.MaxInt64-total {
					total = math.MaxInt64
				} else {
					total += n
				}
			}
			return nil, wire.Errorf(wire.CodeTooLarge, "memory", fmt.Sprintf("%d bytes (%d slots × %d columns × %d)", total, rec.Spec.Slots(), rec.Spec.Dim, rec.Spec.Store.Size()),
				fmt.Sprintf("at most the %d bytes that are free on %d workers, %d of them for shard %d, of which the roomiest has %d", free, len(rooms), need, s, rooms[best].free),
				"add workers, take more shards, or a smaller window")
		}
		rooms[best].free -= need
		count[rooms[best].id]++
		out[s] = rooms[best].id
	}
	return out, nil
}
