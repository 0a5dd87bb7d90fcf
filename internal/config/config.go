package config

import (
	"time"

	"mfac/wire"
)

// Common are the settings of every service.
type Common struct {
	NATSURL                string
	Creds, NKey            string
	TLSCA, TLSCert, TLSKey string
	Tenant                 string
	AdminAddr              string // host:port, or Off
	LogFormat, LogLevel    string
	ConnectTimeout         time.Duration
	DrainTimeout           time.Duration
}

// Off, as AdminAddr, is no admin server.
const Off = "off"

// Worker are the settings of cmd/worker.
type Worker struct {
	Common
	ID             string
	Memory, Budget int64  // bytes
	Threads        int    // 0: as many as GOMAXPROCS
	Kernel         string // empty: the fastest
}

// Coordinator are the settings of cmd/coordinator.
type Coordinator struct {
	Common
	Name                        string
	LeaseTTL, Silent            time.Duration
	StepDeadline, QueryDeadline time.Duration
	Replicas                    int
}

const day = 24 * time.Hour

func (c *Common) settings(adminAddr string) []*Setting {
	return []*Setting{
		{Name: "nats_url", Env: "NATS_URL", Kind: "url", Default: "nats://127.0.0.1:4222", Usage: "NATS server, or several with commas between", secret: true, parse: text(&c.NATSURL)},
		{Name: "creds", Kind: "file", Usage: "JWT credentials for NATS", parse: text(&c.Creds)},
		{Name: "nkey", Kind: "file", Usage: "seed of an nkey for NATS", parse: text(&c.NKey)},
		{Name: "tls_ca", Kind: "file", Usage: "authorities that NATS' certificate is checked against", parse: text(&c.TLSCA)},
		{Name: "tls_cert", Kind: "file", Usage: "certificate to show to NATS", parse: text(&c.TLSCert)},
		{Name: "tls_key", Kind: "file", Usage: "key of tls_cert", parse: text(&c.TLSKey)},
		{Name: "tenant", Kind: "name", Default: "default", Usage: "whose runs these are: the second token of all subjects", parse: name(&c.Tenant)},
		{Name: "connect_timeout", Kind: "duration", Default: "60s", Usage: "give up if there is no NATS after this long", parse: duration(&c.ConnectTimeout, time.Millisecond, day)},
		{Name: "drain_timeout", Kind: "duration", Default: "20s", Usage: "after SIGTERM, how long what is under way may take to end", parse: duration(&c.DrainTimeout, time.Millisecond, day)},
		{Name: "admin_addr", Kind: "host:port", Default: adminAddr, Usage: "where /healthz, /readyz and /debug/pprof are served, or off", parse: address(&c.AdminAddr)},
		{Name: "log_format", Kind: "json|console", Default: "json", Usage: "of the log on stderr", parse: oneOf(&c.LogFormat, "json", "console")},
		{Name: "log_level", Kind: "level", Default: "info", Usage: "debug, info, warn or error", parse: oneOf(&c.LogLevel, "debug", "info", "warn", "error")},
	}
}

// ForWorker returns the settings of a worker, which Load fills into the struct.
func ForWorker() (*Worker, *Set) {
	w := &Worker{}
	return w, newSet(append([]*Setting{
		{Name: "worker_id", Kind: "name", Usage: "a worker's name, of its own; default: the host's name made to fit", parse: hostName(&w.ID, "")},
		{Name: "memory", Kind: "bytes", Default: "auto", Usage: "for gradients and vectors, as 8GiB; auto: three quarters of what is available to the process", parse: memory(&w.Memory)},
		{Name: "budget", Kind: "bytes", Default: "32MiB", Usage: "of chunks and results in flight, over all clients", parse: byteSize(&w.Budget, wire.MaxPayload)},
		{Name: "threads", Kind: "n", Default: "0", Usage: "of a computation; 0: one a core", parse: integer(&w.Threads, 0, 4096)},
		{Name: "kernel", Kind: "variant", Default: "auto", Usage: "instructions to compute with: generic, avx2, avx512, or auto, the fastest of this CPU; no result depends on it", parse: kernel(&w.Kernel)},
	}, w.settings("127.0.0.1:9322")...))
}

// ForCoordinator returns the settings of a coordinator, which Load fills into the struct.
func ForCoordinator() (*Coordinator, *Set) {
	c := &Coordinator{}
	return c, newSet(append([]*Setting{
		{Name: "name", Kind: "name", Usage: "the coordinator's name; default: the host's name made to fit, and four random digits", parse: hostName(&c.Name, randomSuffix())},
		{Name: "lease_ttl", Kind: "duration", Default: "15s", Usage: "how long a run is without owner after its coordinator died; less than 15s is for tests", parse: duration(&c.LeaseTTL, time.Second, time.Hour)},
		{Name: "silent", Kind: "duration", Default: "15s", Usage: "a worker that is silent for so long is lost", parse: duration(&c.Silent, 2*time.Second, time.Hour)},
		{Name: "step_deadline", Kind: "duration", Default: "1m", Usage: "a step that is not complete after so long is dropped", parse: duration(&c.StepDeadline, time.Second, day)},
		{Name: "query_deadline", Kind: "duration", Default: "2m", Usage: "a query that is still open after so long is closed", parse: duration(&c.QueryDeadline, time.Second, day)},
		{Name: "replicas", Kind: "n", Default: "1", Usage: "of the KV buckets, at most the number of NATS servers", parse: integer(&c.Replicas, 1, 5)},
	}, c.settings("127.0.0.1:9321")...))
}

// allEnv are the variables that any service knows.
func allEnv() map[string]bool {
	known := map[string]bool{configEnv: true}
	_, w := ForWorker()
	_, c := ForCoordinator()
	for _, s := range append(w.list, c.list...) {
		known[s.Env] = true
	}
	return known
}
