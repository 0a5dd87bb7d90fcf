package wire

import "math"

// One message of each type, for the golden files: they tell of one run, digits, in two shards on
// the workers w1 and w2. A message that has several forms is there more than once.

type example struct {
	name string // of the golden file
	msg  Message
}

var (
	exEpoch  = Epoch{0x1f2e3d4c5b6a7988, 17}
	exLayout = []Tensor{{"fc.weight", []int64{2, 3}, 0}, {"fc.bias", []int64{6}, 6}}
	exSpec   = RunSpec{
		Name: "digits", Dim: 12, Window: 4, Spare: 2, Shards: 2, Damping: 1e-5, Divisor: Capacity, Store: F32,
		Durability: DurabilityMemory, Layout: LayoutHash(CanonicalLayout(exLayout)),
	}
	exShard = Shard{Seq: 41, Run: "digits", Epoch: exEpoch, Shard: 1}
	exRows  = []Row{{0, 5, 7, 0}, {3, 6, 8, 2.5}}
	exMask  = []byte{0b001001}
)

func f32s(x ...float32) []byte {
	var p []byte
	for _, v := range x {
		b := math.Float32bits(v)
		p = append(p, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
	}
	return p
}

// f16s is 16-bit numbers, by their bits.
func f16s(bits ...uint16) []byte {
	var p []byte
	for _, b := range bits {
		p = append(p, byte(b), byte(b>>8))
	}
	return p
}

func examples() []example {
	chunkBF := f16s(0x3f80, 0xc000, 0x3f00, 0x3e80, 0x0000, 0x4040) // the same six numbers
	chunkHF := f16s(0x3c00, 0xc000, 0x3800, 0x3400, 0x0000, 0x4200)
	partBF := f16s(0x3e00, 0xba83, 0x40e0) // part's, rounded
	half := exSpec
	half.Name, half.Store, half.Layout = "faces", BF16, ""
	chunk := f32s(1, -2, 0.5, 0.25, 0, 3)
	part := AppendFloats(nil, []float64{0.125, -1e-3, 7})
	coef := AppendFloats(nil, []float64{0.5, 0, 0, -1, 0, 0})
	list := []example{
		{"create", &Create{Spec: exSpec, Payload: CanonicalLayout(exLayout)}},
		{"create-bf16", &Create{Spec: half}},
		{"delete", &Delete{Run: "digits", UID: 0x0123456789abcdef}},
		{"info", &InfoRequest{Run: "digits"}},
		{"info.reply", &Info{
			Spec: exSpec, UID: 0x0123456789abcdef, Epoch: exEpoch, State: StateReady, Lo: []int64{0, 6}, Workers: []string{"w1", "w2"}, Owner: []int{0, 1},
			Version: 2, Rows: 2, Newest: 6, Cond: 1.5, Open: 1, Coord: "coordinator",
		}},
		{"info.reply-frozen", &Info{
			Spec: exSpec, UID: 0x0123456789abcdef, Epoch: exEpoch, State: StateReady, Lo: []int64{0, 6}, Workers: []string{"w1", "w2"}, Owner: []int{0, 1},
			Version: 2, Rows: 2, Newest: 6, Cond: 1.5, Coord: "coordinator", Frozen: StateFrozen, Kept: 512,
		}},
		{"layout", &LayoutRequest{Run: "digits"}},
		{"layout.reply", &Layout{Payload: CanonicalLayout(exLayout)}},
		{"list", &List{}},
		{"list.reply", &ListReply{Runs: []string{"digits", "faces"}}},
		{"status", &Status{After: "w0"}},
		{"status.reply", &StatusReply{Coord: "coordinator", Workers: []WorkerStatus{{"w1", 0xfeedfacecafebeef, 1 << 30, 4096, 1, 120}}}},
		{"open", &Open{Run: "digits", Step: 7, Token: 0xa1b2c3d4e5f60718, DeadlineMS: 30_000, Precondition: &Precondition{Result: F32}}},
		{"open-label", &Open{Run: "digits", Step: 7, Token: 1, Label: "img/00042.png"}},
		{"open-plain", &Open{Run: "digits", Step: 7}},
		{"open.reply", &OpenReply{Epoch: exEpoch, Attempt: 9, Whole: []int{0}}},
		{"wait", &Wait{Run: "digits", Epoch: exEpoch, Step: 7, Attempt: 9}},
		{"wait.reply", &WaitReply{State: StateCommitted, Version: 3, Rows: 3, Query: 12, Bounds: []float64{5.96e-8}}},
		{"wait.reply-pending", &WaitReply{State: StatePending}},
		{"query", &Query{Run: "digits", Token: 99, Kind: KindVector, Vectors: 1, DType: F32, Result: F64, AtLeast: 3, MinRows: 2, DeadlineMS: 10_000}},
		{"query-combine", &Query{
			Run: "digits", Token: 100, Kind: KindCombine, Vectors: 1, Steps: 2, Result: F32, Damping: 1e-3, Divisor: Count,
			Payload: AppendFloats(AppendUint64s(nil, []Step{6, 7}), []float64{0.1, 0.9}),
		}},
		{"query-bf16", &Query{Run: "digits", Token: 102, Kind: KindVector, Vectors: 1, DType: F16, Result: BF16}},
		{"query-row", &Query{Run: "digits", Token: 101, Kind: KindRow, Vectors: 1, Result: F32, Exactly: 3, Payload: AppendUint64s(nil, []Step{7})}},
		{"query-hessian", &Query{Run: "digits", Token: 103, Kind: KindHessian, Vectors: 1, DType: F32, Result: F64}},
		{"query-sample", &Query{Run: "digits", Token: 104, Kind: KindSample, Vectors: 2, Result: F32, Seed: 42, First: 64}},
		{"query-refine", &Query{Run: "digits", Token: 105, Kind: KindVector, Vectors: 1, DType: F64, Result: F64, Verify: true, Refine: true}},
		{"query-diag", &Query{Run: "digits", Token: 103, Kind: KindDiag, Vectors: 1, Result: F32}},
		{"query-column", &Query{Run: "digits", Token: 104, Kind: KindColumn, Vectors: 2, Result: F64, Payload: AppendIndices(nil, []int64{7, 0})}},
		{"query-subblock", &Query{Run: "digits", Token: 105, Kind: KindSubblock, Vectors: 1, Result: F64, Payload: AppendIndices(nil, []int64{3, 11, 3})}},
		{"query-prune", &Query{Run: "digits", Token: 106, Kind: KindPrune, Vectors: 1, DType: F32, Result: F32, Sparsity: 0.5, Rule: RuleJoint, Masked: true}},
		{"query-prune-pattern", &Query{Run: "digits", Token: 107, Kind: KindPrune, Vectors: 1, DType: F32, Result: F32, Rule: RuleSummed, Keep: 2, Of: 4,
			Payload: AppendStrips(nil, []Strip{{Lo: 0, Len: 10}, {Lo: 160, Len: 16}})}},
		{"query-compensate", &Query{Run: "digits", Token: 107, Kind: KindCompensate, Vectors: 1, DType: F32, Result: F32, Masked: true}},
		{"query-whole", &Query{Run: "digits", Token: 109, Kind: KindScores, Vectors: 1, DType: F32, Result: F64, Whole: true}},
		{"query-blocks", &Query{Run: "digits", Token: 108, Kind: KindVector, Vectors: 1, DType: F32, Result: F32, Block: 4, Starts: 2, Payload: AppendIndices(nil, []int64{0, 10})}},
		{"query-scalars", &Query{Run: "digits", Token: 103, Kind: KindScalars, Vectors: 1, Result: F64, Payload: AppendFloats(nil, []float64{1e-5, 1e-3})}},
		{"query-spectrum", &Query{Run: "digits", Token: 104, Kind: KindSpectrum, Vectors: 1, Result: F64, Exactly: 3}},
		{"query-scores", &Query{Run: "digits", Token: 103, Kind: KindScores, Vectors: 2, DType: F32, Result: F64}},
		{"query-pairs", &Query{Run: "digits", Token: 104, Kind: KindPairs, Vectors: 2, DType: F32, Result: F64, Payload: AppendPairs(nil, []Pair{{0, 1}, {1, 1}})}},
		{"query-influence", &Query{Run: "digits", Token: 105, Kind: KindInfluence, Vectors: 1, Result: F64}},
		{"query-self", &Query{Run: "digits", Token: 106, Kind: KindSelf, Vectors: 1, Result: F64, Divisor: Count}},
		{"query-invsqrt", &Query{Run: "digits", Token: 107, Kind: KindInvSqrt, Vectors: 1, DType: F32, Result: F32}},
		{"query-likelihood", &Query{Run: "digits", Token: 108, Kind: KindLikelihood, Vectors: 2, DType: F32, Result: F64, Payload: AppendFloats(nil, []float64{1e-5, 1e-3})}},
		{"query-leaveout", &Query{Run: "digits", Token: 109, Kind: KindLeaveOut, Vectors: 1, Result: F64, Payload: AppendFloats(nil, []float64{1e-3})}},
		{"query.reply", &QueryReply{Query: 13, Epoch: exEpoch, Version: 3, Rows: 3}},
		{"result", &Result{Run: "digits", Epoch: exEpoch, Query: 13}},
		{"result.reply", &ResultReply{State: StateReady, Version: 3, Rows: 3, Bounds: []float64{1.2e-12}}},
		{"result.reply-verify", &ResultReply{State: StateReady, Version: 3, Rows: 3, Bounds: []float64{1.2e-12}, Residuals: []float64{2.5e-15}}},
		{"result.reply-values", &ResultReply{State: StateReady, Version: 3, Rows: 3, Bounds: []float64{1.2e-12}, Values: 3}},
		{"result.reply-pending", &ResultReply{State: StatePending, Version: 3, Rows: 3, Done: 19, Total: 27}},
		{"values", &Values{Run: "digits", Epoch: exEpoch, Query: 15, Lo: 1, N: 2}},
		{"values.reply", &ValuesReply{Lo: 1, N: 2, Payload: AppendFloats(nil, []float64{-0.5, 0.25})}},
		{"close", &Close{Run: "digits", Epoch: exEpoch, Query: 13}},
		{"forget", &Forget{Run: "digits", Token: 104, Payload: AppendUint64s(nil, []Step{5, 7})}},
		{"set", &Set{Run: "digits", Token: 105, Damping: 1e-3, Divisor: Count}},
		{"resize", &Resize{Run: "digits", Token: 106, Window: 8}},
		{"freeze", &Freeze{Run: "digits", Token: 106}},
		{"freeze-thaw", &Freeze{Run: "digits", Token: 107, Thaw: true}},
		{"frozen", &FrozenRequest{Run: "digits"}},
		{"frozen.reply", &Frozen{
			State: StateMaking, Version: 3, Rows: 3, Columns: 12, Done: 6, Workers: []string{"w1", "w2"}, Kept: []int64{384, 384}, Making: []int64{72, 72}, Free: []int64{4096, 1 << 20},
		}},
		{"steps", &StepsRequest{Run: "digits"}},
		{"steps-query", &StepsRequest{Run: "digits", Query: 15}},
		{"labels", &LabelsRequest{Run: "digits", Version: 3, From: 1}},
		{"labels-query", &LabelsRequest{Run: "digits", Query: 15}},
		{"labels.reply", &Labels{Version: 3, Rows: 3, From: 1, N: 2, Payload: AppendLabels(nil, []Labelled{{6, ""}, {7, "img/00042.png"}})}},
		{"steps.reply", &Steps{Version: 3, Rows: 3, Payload: AppendUint64s(nil, []Step{5, 6, 7})}},

		{"chunk", &Chunk{Run: "digits", Epoch: exEpoch, Step: 7, Attempt: 9, Shard: 1, Lo: 6, N: 6, DType: F32, Sum: Checksum(chunk), Want: 4_000_000, Payload: chunk}},
		{"chunk-bf16", &Chunk{Run: "digits", Epoch: exEpoch, Step: 7, Attempt: 9, Shard: 1, Lo: 6, N: 6, DType: BF16, Sum: Checksum(chunkBF), Want: 4_000_000, Payload: chunkBF}},
		{"chunk-f16", &Chunk{Run: "digits", Epoch: exEpoch, Step: 7, Attempt: 9, Shard: 1, Lo: 6, N: 6, DType: F16, Sum: Checksum(chunkHF), Want: 4_000_000, Payload: chunkHF}},
		{"vec-f16", &Vec{Run: "digits", Epoch: exEpoch, Query: 14, Shard: 1, Lo: 6, N: 6, DType: F16, Sum: Checksum(chunkHF), Payload: chunkHF}},
		{"vec", &Vec{Run: "digits", Epoch: exEpoch, Query: 13, Shard: 1, Lo: 6, N: 6, DType: F32, Sum: Checksum(chunk), Payload: chunk}},
		{"ack", &Ack{Staged: 6, Columns: 6, Credit: 2_000_000, CreditMS: 2000}},
		{"fetch", &Fetch{Run: "digits", Epoch: exEpoch, Query: 13, Shard: 1, Lo: 6, N: 3, DType: F64, Want: 24}},
		{"fetch-bf16", &Fetch{Run: "digits", Epoch: exEpoch, Query: 14, Shard: 1, Lo: 6, N: 3, DType: BF16, Want: 6}},
		{"fetch.reply-bf16", &Part{Lo: 6, N: 3, DType: BF16, Sum: Checksum(partBF), Credit: 6, CreditMS: 2000, Payload: partBF}},
		{"fetch.reply", &Part{Lo: 6, N: 3, DType: F64, Sum: Checksum(part), Credit: 24, CreditMS: 2000, Payload: part}},

		{"adopt", &Adopt{Shard: exShard, Instance: 0xfeedfacecafebeef, UID: 0x0123456789abcdef, Placed: 11, Lo: 6, Cols: 6, Slots: 6, Store: F32}},
		{"adopt-f16", &Adopt{Shard: exShard, Instance: 0xfeedfacecafebeef, UID: 0x0123456789abcdef, Placed: 11, Lo: 6, Cols: 6, Slots: 6, Store: F16}},
		{"adopt.reply", &Adopted{Shard: exShard, Version: 2, Staged: []Staged{{1, 7, 9, 0xa1b2c3d4e5f60718, true, 0}}, Payload: AppendRows(nil, exRows)}},
		{"install", &Install{Shard: exShard, Version: 2, Keep: []Staged{{1, 7, 9, 0xa1b2c3d4e5f60718, true, 0}}, Payload: AppendRows(nil, exRows)}},
		{"gram", &Gram{Shard: exShard, I0: 0, I1: 2, Payload: AppendSlots(nil, []Slot{0, 3})}},
		{"stage", &Stage{Shard: exShard, Step: 7, Attempt: 9, Slot: 1, Token: 0xa1b2c3d4e5f60718}},
		{"stage-label", &Stage{Shard: Shard{Seq: 40, Run: "digits", Epoch: exEpoch}, Step: 7, Attempt: 9, Slot: 1, Token: 1, Label: "img/00042.png"}},
		{"slot_labels", &SlotLabels{Shard: Shard{Seq: 42, Run: "digits", Epoch: exEpoch}, Payload: AppendSlots(nil, []Slot{0, 1})}},
		{"slot_labels.reply", &SlotLabelsReply{Shard: Shard{Seq: 42, Run: "digits", Epoch: exEpoch}, N: 2, Payload: AppendLabels(nil, []Labelled{{5, "img/00040.png"}, {7, ""}})}},
		{"products", &Multiply{Shard: exShard, Step: 7, Attempt: 9, Payload: AppendSlots(nil, []Slot{3})}},
		{"products.reply", &Products{Shard: exShard, Step: 7, Attempt: 9, Payload: AppendProducts(nil, []Product{{0, 7, -0.5}, {3, 8, 2}, {1, 9, 14.3125}})}},
		{"commit", &Commit{Shard: exShard, Version: 3, Step: 7, Attempt: 9, Slot: 1, Evict: true, EvictStep: 3, EvictSlot: 2, Query: 12, Result: F32, Payload: coef}},
		{"evict", &Evict{Shard: exShard, Version: 4, Payload: AppendRows(nil, exRows)}},
		{"reshape", &Reshape{Shard: exShard, Version: 3, Slots: 10, Payload: AppendRows(nil, []Row{{0, 5, 7, 0}, {1, 6, 8, 2.5}})}},
		{"drop", &Drop{Shard: exShard, Step: 7, Attempt: 9}},
		{"prepare", &Prepare{Shard: exShard, Query: 13, Vectors: 1, DType: F32, Mask: exMask}},
		{"coef", &Coef{Shard: exShard, Query: 13, Kind: KindVector, Vectors: 1, Damping: 1e-5, Result: F64, Mask: exMask, Payload: coef}},
		{"coef-row", &Coef{Shard: exShard, Query: 14, Kind: KindRow, Vectors: 1, Result: F32, Mask: []byte{0b001000}}},
		{"coef-column", &Coef{Shard: exShard, Query: 15, Kind: KindColumn, Vectors: 1, Damping: 1e-5, Result: F64, Mask: exMask, Payload: AppendIndices(coef, []int64{7})}},
		{"factor", &Factor{Shard: exShard, Query: 16, Rows: 2, Lo: 1, N: 2, Damping: 1e-5, Result: F32, Payload: AppendFloats(AppendSlots(nil, []Slot{0, 3}), []float64{0.5, 2})}},
		{"columns", &Columns{Shard: exShard, Query: 17, Mask: exMask, Payload: AppendIndices(nil, []int64{7, 11})}},
		{"columns-of", &Columns{Shard: exShard, Query: 17, Mask: exMask, Of: 19, Payload: AppendIndices(nil, []int64{7, 11})}},
		{"hold", &Hold{Shard: exShard, Query: 19, Damping: 1e-5, Payload: AppendSlots(nil, []Slot{0, 3})}},
		{"whiten", &Whiten{Shard: exShard, Query: 19, Lo: 6, N: 6}},
		{"recall", &Recall{Shard: exShard, Query: 20, Of: 19, Damping: 1e-5, Result: F64}},
		{"prune-begin", &Prune{Shard: exShard, Query: 18, Do: PruneBegin, Kind: KindPrune}},
		{"prune-gram", &Prune{Shard: exShard, Query: 18, Do: PruneGram, I0: 0, I1: 2, Payload: AppendSlots(nil, []Slot{0, 3})}},
		{"prune-score", &Prune{Shard: exShard, Query: 18, Do: PruneScore, I0: 2, I1: 5}},
		{"prune-group", &Prune{Shard: exShard, Query: 18, Do: PruneGroup, Keep: 2, Of: 4, Payload: AppendStrips(nil, []Strip{{Lo: 0, Len: 10}, {Lo: 160, Len: 16}})}},
		{"prune-choose-group", &Prune{Shard: exShard, Query: 18, Do: PruneChoose, Rule: RuleJoint, Keep: 2, Of: 4, Payload: AppendIndices(nil, []int64{511})}},
		{"prune-count", &Prune{Shard: exShard, Query: 18, Do: PruneCount, Key: 0xbfe << 52, Known: 11}},
		{"prune-choose", &Prune{Shard: exShard, Query: 18, Do: PruneChoose, Key: 0xbff0000000000001, Ties: 2, Rule: RuleSummed}},
		{"prune-dots", &Prune{Shard: exShard, Query: 18, Do: PruneDots, Mask: exMask}},
		{"prune-result", &Prune{Shard: exShard, Query: 18, Do: PruneResult, Result: F32, Mask: exMask, Payload: coef}},
		{"blocks-begin", &Blocks{Shard: exShard, Query: 19, Do: BlocksBegin, What: BlocksSolve, Vectors: 1, Damping: 1e-5, N: 3, Size: 4, Rows: 2, Payload: BeginPayload([]Slot{3, 0}, nil, Partition{[]int64{0, 10}, 12, 4})}},
		{"blocks-begin-weights", &Blocks{Shard: exShard, Query: 19, Do: BlocksBegin, What: BlocksDiag, Vectors: 1, Damping: 1e-5, N: 3, Size: 4, Rows: 2, Weights: true, Payload: BeginPayload([]Slot{3, 0}, []float64{0.5, 1}, Partition{[]int64{0, 10}, 12, 4})}},
		{"blocks-work", &Blocks{Shard: exShard, Query: 19, Do: BlocksWork, What: BlocksSolve}},
		{"blocks-work-combine", &Blocks{Shard: exShard, Query: 22, Do: BlocksWork, What: BlocksCombine, Payload: AppendFloats(nil, []float64{0.5, 2})}},
		{"blocks-work-residual", &Blocks{Shard: exShard, Query: 22, Do: BlocksWork, What: BlocksResidual, Payload: AppendFloats(nil, []float64{0.5, 2})}},
		{"blocks-gram", &Blocks{Shard: exShard, Query: 19, Do: BlocksGram, What: BlocksSolve, Lo: 6, Hi: 8, I0: 0, I1: 2}},
		{"blocks-dots", &Blocks{Shard: exShard, Query: 19, Do: BlocksDots, What: BlocksSolve, Lo: 6, Hi: 8}},
		{"blocks-factor", &Blocks{Shard: exShard, Query: 19, Do: BlocksFactor, Lo: 1, Payload: AppendFloats(nil, []float64{0.5, 2})}},
		{"blocks-finish", &Blocks{Shard: exShard, Query: 19, Do: BlocksFinish, What: BlocksSolve, Lo: 6, Hi: 8, Payload: AppendFloats(nil, []float64{0.5, 2})}},
		{"blocks-elements", &Blocks{Shard: exShard, Query: 20, Do: BlocksElements, Lo: 8, Hi: 10, Payload: AppendIndices(nil, []int64{9, 8})}},
		{"blocks-inner", &Blocks{Shard: exShard, Query: 21, Do: BlocksInner, Lo: 8, Hi: 10}},
		{"blocks-result", &Blocks{Shard: exShard, Query: 19, Do: BlocksResult, Result: F32}},
		{"norms", &Norms{Shard: exShard, Query: 13}},
		{"prepare-sample", &Prepare{Shard: exShard, Query: 15, Vectors: 2, DType: F64, Mask: exMask, Kind: KindSample, Seed: 42, First: 64}},
		{"coef-hessian", &Coef{Shard: exShard, Query: 16, Kind: KindHessian, Vectors: 1, Damping: 1e-5, Result: F64, Mask: exMask, Payload: coef}},
		{"apply", &Apply{Shard: exShard, Query: 13, Damping: 1e-5}},
		{"residual", &Residual{Shard: exShard, Query: 13, Vectors: 1, Damping: 1e-5, Payload: coef}},
		{"refine", &Refine{Shard: exShard, Query: 13, Vectors: 1, Round: 1, Which: 1, Payload: coef}},
		{"pairs", &DotVectors{Shard: exShard, Query: 13, Payload: AppendPairs(nil, []Pair{{0, 1}, {1, 1}})}},
		{"numbers", &Numbers{Shard: exShard, Count: 3, Payload: AppendFloats(nil, []float64{1, -0.5, 14.3125})}},
		{"close_query", &CloseQuery{Shard: exShard, Query: 13}},
		{"release", &Release{Shard: exShard, UID: 0x0123456789abcdef, Placed: 11}},
		{"hello", &Hello{Worker: "w2", Instance: 0xfeedfacecafebeef, Capacity: 1 << 30, Used: 4096, Held: []Held{{"digits", 0x0123456789abcdef, 1, 11}}, Shards: 1}},

		{"ok", &OK{Seq: 41}},
		{"error", &Error{Code: CodeStaleEpoch, Field: "epoch", Value: "1f2e3d4c5b6a7988-16", Limit: "1f2e3d4c5b6a7988-17", Hint: "ask for the run's info again", Epoch: exEpoch}},
		{"error-invalid", Invalid("damping", -1, "> 0 and finite")},
	}
	return list
}
