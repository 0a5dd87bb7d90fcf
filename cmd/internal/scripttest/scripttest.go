// Package scripttest is what the programs' script tests have in common.
package scripttest

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"mfac/internal/natsx"
)

var update = flag.Bool("update", false, "write what commands print into the scripts")

// Main runs the tests of a package whose scripts call main by name, and fails where goroutines are
// left.
func Main(m *testing.M, name string, main func()) {
	testscript.Main(leakFree{m}, map[string]func(){name: main})
}

type leakFree struct{ m *testing.M }

func (l leakFree) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Params are those of testdata/script, with the command port.
func Params() testscript.Params {
	return testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"port": Port},
	}
}

// Service runs the scripts of a service, with a NATS server that NATS_URL names.
func Service(t *testing.T) {
	p := Params()
	p.Cmds["ready"] = ready
	p.Setup = func(env *testscript.Env) error {
		s, err := natsx.Embedded(natsx.EmbeddedOptions{})
		if err != nil {
			return err
		}
		env.Defer(s.Shutdown)
		env.Setenv("NATS_URL", s.URL())
		return nil
	}
	testscript.Run(t, p)
}

// Port is the command "port NAME", which sets a variable to a port that is free.
func Port(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// ready, "ready PATH CODE", waits until the admin server at $MFAC_ADMIN_ADDR answers so.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	last := ""
	for range 2000 {
		resp, err := client.Get("http://" + ts.Getenv("MFAC_ADMIN_ADDR") + args[0])
		if err == nil {
			last = resp.Status
			resp.Body.Close()
			if strconv.Itoa(resp.StatusCode) == args[1] {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s is %q, want %s", args[0], last, args[1])
}
