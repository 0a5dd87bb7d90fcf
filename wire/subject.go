package wire

import "strings"

// Ops of the three roles: a subject's word for what is asked.
//
//	mfac.<tenant>.c.<op>.<client>                 client → coordinator
//	mfac.<tenant>.w.<worker>.<op>.<client>        client → worker
//	mfac.<tenant>.ctl.<worker>.<op>.<coordinator> coordinator → worker
//	mfac.<tenant>.hello.<worker>                  worker → all coordinators
//
// The last token names the caller: NATS permissions bind it, and the reply must lie under
// _INBOX.<caller>.
const (
	OpCreate = "create"
	OpDelete = "delete"
	OpInfo   = "info"
	OpLayout = "layout"
	OpList   = "list"
	OpStatus = "status"
	OpOpen   = "open"
	OpWait   = "wait"
	OpQuery  = "query"
	OpResult = "result"
	OpClose  = "close"
	OpSteps  = "steps"
	OpValues = "values"
	OpLabels = "labels"
	OpResize = "resize"
	OpForget = "forget"
	OpSet    = "set"
	OpFreeze = "freeze"
	OpFrozen = "frozen"

	OpChunk = "chunk"
	OpVec   = "vec"
	OpFetch = "fetch"

	OpAdopt      = "adopt"
	OpInstall    = "install"
	OpGram       = "gram"
	OpStage      = "stage"
	OpProducts   = "products"
	OpCommit     = "commit"
	OpEvict      = "evict"
	OpDrop       = "drop"
	OpPrepare    = "prepare"
	OpCoef       = "coef"
	OpNorms      = "norms"
	OpApply      = "apply"
	OpResidual   = "residual"
	OpRefine     = "refine"
	OpFactor     = "factor"
	OpColumns    = "columns"
	OpHold       = "hold"
	OpWhiten     = "whiten"
	OpRecall     = "recall"
	OpPrune      = "prune"
	OpBlocks     = "blocks"
	OpPairs      = "pairs"
	OpCloseQuery = "close_query"
	OpRelease    = "release"
	OpSlotLabels = "slot_labels"
	OpReshape    = "reshape"

	OpHello = "hello"
)

// Subjects makes the subjects of one tenant.
type Subjects struct{ Tenant string }

// Coordinator is the subject of a client's request to the coordinator.
func (s Subjects) Coordinator(op, client string) string {
	return "mfac." + s.Tenant + ".c." + op + "." + client
}

// Worker is the subject of a client's request to a worker.
func (s Subjects) Worker(worker, op, client string) string {
	return "mfac." + s.Tenant + ".w." + worker + "." + op + "." + client
}

// Control is the subject of a coordinator's request to a worker.
func (s Subjects) Control(worker, op, coordinator string) string {
	return "mfac." + s.Tenant + ".ctl." + worker + "." + op + "." + coordinator
}

// Hello is the subject of a worker's heartbeats.
func (s Subjects) Hello(worker string) string { return "mfac." + s.Tenant + ".hello." + worker }

// RunsBucket is the KV bucket of run specs and placements.
func (s Subjects) RunsBucket() string { return "mfac_" + s.Tenant + "_runs" }

// LeasesBucket is the KV bucket of leases, whose keys expire.
func (s Subjects) LeasesBucket() string { return "mfac_" + s.Tenant + "_leases" }

// InboxPrefix is what a caller's reply subjects must lie under.
func InboxPrefix(caller string) string { return "_INBOX." + caller }

// Caller is the last token of a request's subject: the name of who sent it.
func Caller(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// CheckReply checks that the reply subject of a request is its caller's own, so that nobody makes
// a service publish to a subject that the caller itself could not. It is called before any work.
func CheckReply(subject, reply string) error {
	caller := Caller(subject)
	if err := CheckName("client", caller); err != nil {
		return err
	}
	prefix := InboxPrefix(caller) + "."
	if !strings.HasPrefix(reply, prefix) || !plainSubject(reply) {
		return Errorf(CodeDenied, "reply", reply, "under "+prefix)
	}
	return nil
}

// plainSubject reports whether a message can be published to s: tokens that are not empty, of
// printable ASCII without wildcards.
func plainSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '>' }) {
			return false
		}
	}
	return true
}
