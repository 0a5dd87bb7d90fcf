package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// Messages that would end a process which has msgpack decode them are decoded in a child process
// of its own, with little memory. Decode must give an error of ours for each. That the same child
// dies of those marked "kills" when it leaves out the scan shows that the test can fail.

// childEnv tells a child what to do: "decode", or the number of a case to decode without the scan.
const childEnv = "MFAC_WIRE_CHILD"

// childMemory is what a child may ask for beyond what it has when it starts.
const childMemory = 256 << 20

type hostile struct {
	name, typ, msgpack string
	kills              bool // a process that decodes it without the scan
}

func hostiles() []hostile {
	const m = 1 << 20
	list := []hostile{
		{"list of 2³¹ numbers", "info.reply", "\x81\xa2lo\xdd\x80\x00\x00\x00", true},
		{"list of 2³² numbers", "open.reply", "\x81\xa5whole\xdd\xff\xff\xff\xff", true},
		{"list of 2³¹ structs", "hello", "\x81\xa4held\xdd\x80\x00\x00\x00", true},
		{"list of 2³² names", "list.reply", "\x81\xa4runs\xdd\xff\xff\xff\xff", false},
		{"binary of 2³² bytes", "prepare", "\x81\xa4mask\xc6\xff\xff\xff\xff", true},
		{"list of 2³¹ in the header", "install", "\x81\xa4keep\xdd\x80\x00\x00\x00", true},
		{"binary of 2³² in the header", "coef", "\x81\xa4mask\xc6\xff\xff\xff\xff", true},
		{"two million deep, skipped", "info", "\x81\xa1x" + rep("\x91", 2*m) + "\x00", true},
		{"two million deep in maps, skipped", "info", "\x81\xa1x" + rep("\x81\xa1x", 2*m) + "\x00", true},
		{"two million deep in keys, skipped", "info", "\x81\xa1x" + rep("\x81", 2*m) + "\x00", true},
		{"deep in a list of numbers", "info.reply", "\x81\xa2lo" + rep("\x91", m) + "\x00", false},
		{"sixty thousand deep", "info", "\x81\xa1x" + rep("\x91", 60_000) + "\x00", false},
		{"fifty thousand deep in the header", "chunk", "\x81\xa1x" + rep("\x91", 49_000) + "\x00", false},
		{"map of 2³² outermost", "info", "\xdf\xff\xff\xff\xff", false},
		{"map of 2³¹ in a struct's place", "create", "\x81\xa4spec\xdf\x80\x00\x00\x00", false},
		{"nothing but a length", "info", "\x81\xa3run\xdb", false},
	}
	for name, head := range map[string]string{
		"array32": "\xdd\x80\x00\x00\x00", "map32": "\xdf\x80\x00\x00\x00", "bin32": "\xc6\xff\xff\xff\xff", "str32": "\xdb\xff\xff\xff\xff",
		"ext32": "\xc9\xff\xff\xff\xff\x01", "ext8": "\xc7\xff\x01", "array16": "\xdc\xff\xff", "map16": "\xde\xff\xff",
	} {
		list = append(list,
			hostile{name + " in a field", "info", "\x81\xa3run" + head, false},
			hostile{name + " in a field that is skipped", "info", "\x81\xa1x" + head, false},
			hostile{name + " as a key", "info", "\x81" + head, false},
			hostile{name + " in the header", "chunk", "\x81\xa3run" + head, false},
			hostile{name + " skipped in the header", "chunk", "\x81\xa1x" + head, false},
		)
	}
	return list
}

func (h hostile) frame() Frame {
	f := Frame{Header: map[string][]string{HeaderProtocol: {Protocol}, HeaderType: {h.typ}}, Data: []byte(h.msgpack)}
	if _, ok := types[h.typ].empty().(Bulk); ok {
		f.Header[HeaderMeta] = []string{base64.RawURLEncoding.EncodeToString(f.Data)}
		f.Data = nil
	}
	return f
}

func TestMain(m *testing.M) {
	switch what := os.Getenv(childEnv); what {
	case "":
		os.Exit(m.Run())
	case "decode":
		limitMemory()
		os.Exit(decodeHostiles())
	default:
		limitMemory()
		for _, h := range hostiles() {
			if h.name == what {
				err := msgpack.NewDecoder(strings.NewReader(h.msgpack)).Decode(types[h.typ].empty())
				fmt.Println("lives:", err)
			}
		}
	}
}

// decodeHostiles decodes each case, and complains of what is not an error of the wire.
func decodeHostiles() (status int) {
	for _, h := range hostiles() {
		m, err := Decode(h.frame(), h.typ)
		var e *Error
		if m != nil || !errors.As(err, &e) || e.Code != CodeMalformed && e.Code != CodeTooLarge || e.Field == "" || e.Limit == "" {
			fmt.Printf("%s: decoded to %v, %v\n", h.name, m, err)
			status = 1
		}
	}
	fmt.Println("lives")
	return status
}

// limitMemory lets this process have childMemory more of address space than it has. What is there
// already is counted, since a Go program reserves hundreds of megabytes when it starts.
func limitMemory() {
	p, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(p), &pages); err != nil {
		panic(err)
	}
	most := pages*uint64(os.Getpagesize()) + childMemory
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		panic(err)
	}
}

func child(t *testing.T, what string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	err = cmd.Run()
	return out.String(), err
}

func TestHostileMessagesAreRefused(t *testing.T) {
	if out, err := child(t, "decode"); err != nil || out != "lives\n" {
		t.Errorf("%v\n%.2000s", err, out)
	}
}

func TestHostileMessagesKillWithoutTheScan(t *testing.T) {
	for _, h := range hostiles() {
		if !h.kills {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			out, err := child(t, h.name)
			// The race detector's own memory is what may run out first.
			if err == nil || !strings.Contains(out, "fatal error") && !strings.Contains(out, "ThreadSanitizer failed to allocate") {
				t.Errorf("it lives (%v): %.500s", err, out)
			}
			t.Logf("%v: %.80s", err, out)
		})
	}
}
