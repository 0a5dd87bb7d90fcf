package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mfac/client"
	"mfac/cmd/internal/cli"
	"mfac/coordinator"
	"mfac/internal/natsx"
	"mfac/wire"
)

// tool is the global flags, and where output goes.
type tool struct {
	server                 string
	creds, nkey            string
	tlsCA, tlsCert, tlsKey string
	tenant, name           string
	timeout                time.Duration
	json                   bool
	stdout, stderr         io.Writer
}

// How long a command may take that doesn't say.
const (
	quick          = 20 * time.Second // a run without owner has one again after 15
	unbounded      = 0                // but the SDK gives each gradient and each query two minutes
	connectTimeout = 5 * time.Second
	sayAfter       = 3 * time.Second // that nothing has been heard yet
)

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "mfac",
		Short: "Inverse-Hessian-vector products of a stream of gradients",
		Long: `mfac keeps the last m gradients of a training job, spread over workers, and multiplies vectors by the
inverse of the empirical Fisher matrix that they make: H = λI + 1/N Σ g gᵀ.

  mfac up                                                       start a cluster on this machine
  mfac run create digits --dim 1000 --window 32 --damping 1e-3  in another terminal: make a run,
  mfac publish digits grads.npy                                 publish gradients, a row each,
  mfac ihvp digits v.npy -o out.npy                             and ask for H⁻¹v

Vectors are .npy files: little-endian float32 or float64, one vector (1-D) or a vector a row (2-D).
Results go to stdout, errors to stderr; exit code 1 is an error, 2 a command that is not understood.`,
	}
	root.Flags().SortFlags = false
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&t.server, "server", "", "NATS `url`, or several with commas between (default NATS_URL, or nats://127.0.0.1:4222)")
	f.StringVar(&t.creds, "creds", "", "`file` of JWT credentials for NATS")
	f.StringVar(&t.nkey, "nkey", "", "`file` of an nkey's seed for NATS")
	f.StringVar(&t.tlsCA, "tls-ca", "", "`file` of authorities that NATS' certificate is checked against")
	f.StringVar(&t.tlsCert, "tls-cert", "", "`file` of the certificate to show to NATS")
	f.StringVar(&t.tlsKey, "tls-key", "", "`file` of the certificate's key")
	f.StringVar(&t.tenant, "tenant", "default", "`name` of whose runs these are")
	f.StringVar(&t.name, "name", "", "this client's `name`, which NATS permissions are given to (default random)")
	f.DurationVar(&t.timeout, "timeout", 0, "give up after this `time` (default 20s; 2m for each gradient or query; 1h for diag, prune, compensate and blocks)")
	f.BoolVar(&t.json, "json", false, "print JSON")
	root.AddCommand(t.demoCommand(), t.upCommand(), t.agentCommand(), t.runCommand(), t.publishCommand(), t.ihvpCommand(), t.fvpCommand(), t.hvpCommand(), t.sampleCommand(),
		t.diagCommand(), t.columnCommand(), t.elementCommand(), t.subblockCommand(), t.pruneCommand(), t.compensateCommand(),
		t.scoresCommand(), t.influenceCommand(), t.forgetCommand(), t.scalarsCommand(), t.spectrumCommand(), t.tuneCommand(), t.invSqrtCommand(), t.pairsCommand(), t.statusCommand(), t.versionCommand())
	return root
}

// url is the servers to connect to.
func (t *tool) url() string {
	if t.server != "" {
		return t.server
	}
	if url := os.Getenv("NATS_URL"); url != "" {
		return url
	}
	return "nats://127.0.0.1:4222"
}

// connected runs f with a client. The whole command ends at --timeout, or after def.
func (t *tool) connected(ctx context.Context, cmd *cobra.Command, def time.Duration, f func(ctx context.Context, c *client.Client) error) error {
	connect := connectTimeout
	if cmd.Flags().Changed("timeout") {
		if t.timeout <= 0 {
			return wire.Invalid("timeout", t.timeout, "> 0")
		}
		def, connect = t.timeout, t.timeout
	}
	if def != unbounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, def)
		defer cancel()
	}
	opts := []client.Option{
		client.WithTenant(t.tenant), client.WithConnectTimeout(connect),
		client.WithCreds(t.creds), client.WithNKey(t.nkey), client.WithTLS(t.tlsCA, t.tlsCert, t.tlsKey),
		client.WithWaiting(func(message string) { fmt.Fprintln(t.stderr, message) }),
	}
	if cmd.Flags().Changed("name") {
		opts = append(opts, client.WithName(t.name))
	}
	c, err := client.Connect(ctx, t.url(), opts...)
	if err != nil {
		return t.explain(ctx, err)
	}
	defer c.Close()
	if def != unbounded {
		defer t.patience(def)()
	}
	return t.explain(ctx, f(ctx, c))
}

// patience says so where nothing has happened for a while, unless it is called off.
func (t *tool) patience(most time.Duration) (callOff func()) {
	var mu sync.Mutex
	off := false
	timer := time.AfterFunc(sayAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !off {
			fmt.Fprintf(t.stderr, "no answer yet, waiting for %v more\n", most-sayAfter)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		off = true
	}
}

// join joins a run, in the time of a quick command also where publishing or asking may take long.
func (t *tool) join(ctx context.Context, c *client.Client, name string) (*client.Run, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quick)
		defer cancel()
		defer t.patience(quick)()
	}
	return c.Join(ctx, name)
}

// explain says what a newcomer can't see in an error.
func (t *tool) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), context.Canceled):
		return fmt.Errorf("interrupted: %w", err)
	case strings.Contains(err.Error(), "connect to NATS") && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w; `%s up` starts a cluster here, --server or NATS_URL names another", err, invocation())
	}
	return err
}

// invocation is how the tool was called, to say what to type next.
func invocation() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/mfac"
	}
	return "mfac"
}

// withServer is the flag that reaches a server, where it must be given.
func withServer(url string) string {
	if url == "nats://127.0.0.1:4222" {
		return ""
	}
	return " --server " + natsx.Redact(url)
}

// print writes v as JSON, or as text makes it.
func (t *tool) print(v any, text func(w io.Writer)) error {
	if !t.json {
		tw := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		text(tw)
		return tw.Flush()
	}
	enc := json.NewEncoder(t.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			b := cli.BuildOf(coordinator.Version, wire.Protocol)
			return t.print(b, func(w io.Writer) { fmt.Fprintln(w, "mfac", b) })
		},
	}
}
