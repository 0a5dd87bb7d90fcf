package wire

import (
	"errors"
	"hash/crc32"
	"testing"
)

func TestSubjects(t *testing.T) {
	s := Subjects{"demo"}
	for want, got := range map[string]string{
		"mfac.demo.c.info.alice":                 s.Coordinator(OpInfo, "alice"),
		"mfac.demo.w.w1.chunk.alice":             s.Worker("w1", OpChunk, "alice"),
		"mfac.demo.ctl.w1.adopt.coordinator":     s.Control("w1", OpAdopt, "coordinator"),
		"mfac.demo.hello.w1":                     s.Hello("w1"),
		"mfac_demo_runs":                         s.RunsBucket(),
		"mfac_demo_leases":                       s.LeasesBucket(),
		"alice":                                  Caller("mfac.demo.c.info.alice"),
		InboxPrefix(Caller("mfac.demo.x.alice")): "_INBOX.alice",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCheckReply(t *testing.T) {
	const subject = "mfac.demo.c.info.alice"
	for _, tt := range []struct {
		subject, reply string
		want           *Error
	}{
		{subject, "_INBOX.alice.x", nil},
		{subject, "_INBOX.alice.8jYd3.4a-_Z", nil},
		{subject, "", ErrDenied},
		{subject, "_INBOX.alice", ErrDenied},
		{subject, "_INBOX.alice.", ErrDenied},
		{subject, "_INBOX.alice..x", ErrDenied},
		{subject, "_INBOX.alice.x.", ErrDenied},
		{subject, "_INBOX.alice2.x", ErrDenied},
		{subject, "_INBOX.bob.x", ErrDenied},
		{subject, "_INBOX.alice.*", ErrDenied},
		{subject, "_INBOX.alice.>", ErrDenied},
		{subject, "_INBOX.alice.x y", ErrDenied},
		{subject, "_INBOX.alice.x\r\nPUB a 0", ErrDenied},
		{subject, "_INBOX.alice.\x00", ErrDenied},
		{subject, "$JS.API.STREAM.PURGE.X", ErrDenied},
		{"mfac.demo.c.info.*", "_INBOX.*.x", ErrInvalid},
		{"mfac.demo.c.info.", "_INBOX..x", ErrInvalid},
		{"alice", "_INBOX.alice.x", nil},
	} {
		err := CheckReply(tt.subject, tt.reply)
		if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%q, %q: %v, want %v", tt.subject, tt.reply, err, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "0": true, "a-b_c9": true, rep("a", 63): true,
		"": false, "A": false, "-a": false, "_a": false, "a.b": false, "a*": false, ">": false, "a b": false, "a\n": false, "é": false, rep("a", 64): false,
	} {
		if err := CheckName("run", name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCheckRange(t *testing.T) {
	const top = 1<<63 - 1
	for _, tt := range []struct {
		lo, n, d int64
		ok       bool
	}{
		{0, 1, 1, true}, {0, 10, 10, true}, {9, 1, 10, true}, {0, MaxDim, MaxDim, true},
		{0, 0, 10, false}, {0, -1, 10, false}, {-1, 1, 10, false}, {10, 1, 10, false}, {9, 2, 10, false},
		{top, top, 10, false}, {top, 1, top, false}, {1, top, top, false}, {-top - 1, top, top, false}, {top - 1, 1, top, true},
	} {
		if err := CheckRange(tt.lo, tt.n, tt.d); (err == nil) != tt.ok {
			t.Errorf("[%d, +%d) in %d: %v", tt.lo, tt.n, tt.d, err)
		}
	}
}

// The check value of CRC-32C, as every catalog of CRCs has it.
func TestChecksum(t *testing.T) {
	if got := Checksum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("%#x", got)
	}
	if Checksum([]byte("x")) == crc32.ChecksumIEEE([]byte("x")) {
		t.Error("that is another CRC-32")
	}
}

func TestMaxVectorsFor(t *testing.T) {
	for slots := 2; slots <= maxSlots; slots++ {
		k := MaxVectorsFor(slots)
		if k < 1 || k > MaxVectors || 8*k*slots+8*k > MaxPayload || 8*slots*(1+k) > MaxPayload {
			t.Fatalf("%d vectors with %d slots", k, slots)
		}
	}
}

func TestErrors(t *testing.T) {
	for want, err := range map[string]error{
		"damping is -1, must be > 0 and finite":     Invalid("damping", -1, "> 0 and finite"),
		"busy":                                      ErrBusy,
		"too few rows":                              ErrTooFewRows,
		"run x: unknown run":                        &Error{Code: CodeUnknownRun, Field: "run", Value: "x"},
		"n is 2, must be 1: try again":              Errorf(CodeBusy, "n", 2, "1", "try %s", "again"),
		`run is a?b, must be a name`:                Invalid("run", "a\nb", "a name"),
		"run is " + rep("x", 100) + "…, must be 1":  Invalid("run", rep("x", 200), "1"),
		"internal: boom":                            AsError(errors.New("boom")),
		"internal: " + rep("b", 400) + "…":          AsError(errors.New(rep("b", 10_000))),
		"f? is ?, must be 1":                        Invalid("f\x1b", "\xff", "1"),
		"run is é…, must be 1, and " + rep("y", 10): Invalid("run", "é…", "1, and "+rep("y", 10)),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if e := AsError(Invalid("a", 1, "2")); e.Code != CodeInvalid || !errors.Is(e, ErrInvalid) || errors.Is(e, ErrBusy) {
		t.Error(e)
	}
}
