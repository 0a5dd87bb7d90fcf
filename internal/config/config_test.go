package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"mfac/wire"
)

// load loads a coordinator's settings from flags, environment and a file's text, if there is any.
func load(t *testing.T, args, environ []string, file string) (*Coordinator, []string, error) {
	t.Helper()
	c, set := ForCoordinator()
	if file != "" {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("mfac.yaml", []byte(file), 0o666); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, "MFAC_CONFIG=mfac.yaml")
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	warnings, err := set.Load(environ)
	return c, warnings, err
}

func TestDefaults(t *testing.T) {
	c, warnings, err := load(t, nil, nil, "")
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if err := wire.CheckName("name", c.Name); err != nil {
		t.Error(err)
	}
	want := &Coordinator{
		Common: Common{
			NATSURL: "nats://127.0.0.1:4222", Tenant: "default", AdminAddr: "127.0.0.1:9321", LogFormat: "json", LogLevel: "info",
			ConnectTimeout: time.Minute, DrainTimeout: 20 * time.Second,
		},
		Name: c.Name, LeaseTTL: 15 * time.Second, Silent: 15 * time.Second, StepDeadline: time.Minute, QueryDeadline: 2 * time.Minute, Replicas: 1,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	w, set := ForWorker()
	if _, err := set.Load(nil); err != nil {
		t.Fatal(err)
	}
	if w.Memory < 1 || w.Budget != 32<<20 || w.Threads != 0 || w.AdminAddr != "127.0.0.1:9322" {
		t.Errorf("%+v", w)
	}
	if err := wire.CheckName("id", w.ID); err != nil {
		t.Error(err)
	}
}

// A flag goes before the environment, the environment before the file, that before the default.
func TestPrecedence(t *testing.T) {
	flag, env, file := []string{"--lease-ttl=3s"}, []string{"MFAC_LEASE_TTL=4s"}, "lease_ttl: 5s\n"
	for _, tt := range []struct {
		name      string
		flag, env []string
		file      string
		want      time.Duration
	}{
		{"none", nil, nil, "", 15 * time.Second},
		{"file", nil, nil, file, 5 * time.Second},
		{"env", nil, env, "", 4 * time.Second},
		{"env, file", nil, env, file, 4 * time.Second},
		{"flag", flag, nil, "", 3 * time.Second},
		{"flag, file", flag, nil, file, 3 * time.Second},
		{"flag, env", flag, env, "", 3 * time.Second},
		{"all", flag, env, file, 3 * time.Second},
		{"empty env", nil, []string{"MFAC_LEASE_TTL="}, file, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := load(t, tt.flag, tt.env, tt.file)
			if err != nil || c.LeaseTTL != tt.want {
				t.Errorf("%v, %v, want %v", c.LeaseTTL, err, tt.want)
			}
		})
	}
	t.Run("of files", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"flag", "env"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("tenant: "+name), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := load(t, []string{"--config", filepath.Join(dir, "flag")}, []string{"MFAC_CONFIG=" + filepath.Join(dir, "env")}, "")
		if err != nil || c.Tenant != "flag" {
			t.Errorf("%q, %v", c.Tenant, err)
		}
	})
	t.Run("NATS_URL", func(t *testing.T) {
		c, _, err := load(t, nil, []string{"NATS_URL=nats://a:1"}, "nats_url: nats://b:1")
		if err != nil || c.NATSURL != "nats://a:1" {
			t.Errorf("%q, %v", c.NATSURL, err)
		}
	})
}

// Every setting can be given in each of the three places.
func TestAllPlaces(t *testing.T) {
	values := map[string]string{
		"duration": "19s", "name": "a-1", "n": "3", "bytes": "3MiB", "url": "nats://x:1", "file": "/f",
		"host:port": "127.0.0.1:99", "json|console": "console", "variant": "generic", "level": "warn",
	}
	for _, make := range []func() *Set{
		func() *Set { _, s := ForWorker(); return s },
		func() *Set { _, s := ForCoordinator(); return s },
	} {
		for _, setting := range make().list {
			v, ok := values[setting.Kind]
			if !ok {
				t.Fatalf("%s: no value for kind %s", setting.Name, setting.Kind)
			}
			path := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(path, []byte(setting.Name+": "+v), 0o666); err != nil {
				t.Fatal(err)
			}
			for _, place := range []struct {
				name      string
				args, env []string
			}{
				{"flag --" + setting.Flag(), []string{"--" + setting.Flag(), v}, nil},
				{setting.Env, nil, []string{setting.Env + "=" + v}},
				{path + ":1", []string{"--config", path}, nil},
			} {
				set := make()
				fs := pflag.NewFlagSet("", pflag.ContinueOnError)
				set.Flags(fs)
				if err := fs.Parse(place.args); err != nil {
					t.Fatal(err)
				}
				warnings, err := set.Load(place.env)
				if got := set.find(setting.Name); err != nil || len(warnings) > 0 || got.value != v || got.source != place.name {
					t.Errorf("%s by %s: %q from %q, %v %v", setting.Name, place.name, got.value, got.source, warnings, err)
				}
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args, env []string
		file      string
		want      string
	}{
		{"flag", []string{"--lease-ttl", "5"}, nil, "", "lease_ttl is 5 (flag --lease-ttl), must be a time from 1s to 1h0m0s, as 20s or 1m30s"},
		{"env", nil, []string{"MFAC_SILENT=1s"}, "", "silent is 1s (MFAC_SILENT), must be a time from 2s to 1h0m0s"},
		{"file", nil, nil, "tenant: acme\n\nreplicas: 0\n", "replicas is 0 (mfac.yaml:3), must be a whole number from 1 to 5"},
		{"name", nil, []string{"MFAC_NAME=A.b"}, "", "name is A.b (MFAC_NAME), must be ^[a-z0-9][a-z0-9_-]{0,62}$"},
		{"address", []string{"--admin-addr", "9321"}, nil, "", "admin_addr is 9321 (flag --admin-addr), must be host:port, as 127.0.0.1:9321, or off"},
		{"empty flag", []string{"--admin-addr="}, nil, "", `admin_addr is "" (flag --admin-addr), must be host:port`},
		{"level", []string{"--log-level", "loud"}, nil, "", "log_level is loud (flag --log-level), must be debug, info, warn or error"},
		{"unknown key", nil, nil, "lease_ttl: 20s\nleese_ttl: 5s\n", "mfac.yaml:2: unknown setting leese_ttl"},
		{"key as a flag", nil, nil, "lease-ttl: 5s\n", "mfac.yaml:1: unknown setting lease-ttl: it is written lease_ttl"},
		{"key as a variable", nil, nil, "MFAC_LEASE_TTL: 5s\n", "it is written lease_ttl"},
		{"a worker's key", nil, nil, "memory: 8GiB\n", "mfac.yaml:1: unknown setting memory"},
		{"twice", nil, nil, "silent: 5s\nname: a\nsilent: 6s\n", "mfac.yaml:3: silent is set twice, first in line 1"},
		{"list", nil, nil, "silent: [5s]\n", "mfac.yaml:1: silent must have one plain value"},
		{"null", nil, nil, "silent:\n", "mfac.yaml:1: silent must have one plain value"},
		{"alias", nil, nil, "name: &a x\ntenant: *a\n", "mfac.yaml:2: tenant must have one plain value"},
		{"not a map", nil, nil, "- a\n", "mfac.yaml:1: must be a map of settings"},
		{"two documents", nil, nil, "name: a\n---\nname: b\n", "must be one YAML document"},
		{"not YAML", nil, nil, "name: [", "mfac.yaml: yaml: line 1"},
		{"no file", []string{"--config", "/nowhere/c.yaml"}, nil, "", "read settings: open /nowhere/c.yaml: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := load(t, tt.args, tt.env, tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := load(t, nil, []string{
		"MFAC_LEESE_TTL=5s", "MFAC_MEMORY=8GiB", "PATH=/bin", "MFAC_ACME_PASSWORD=secret", "NATS_URL=", "MFAC_CONFIG=",
	}, "# nothing\n")
	want := []string{
		"environment variable MFAC_ACME_PASSWORD is no setting of mfac: ignored",
		"environment variable MFAC_LEESE_TTL is no setting of mfac: ignored",
	}
	if diff := cmp.Diff(want, warnings); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

func TestParseBytes(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64 // −1: refused
	}{
		{"0", 0}, {"1048576", 1 << 20}, {"8GiB", 8 << 30}, {"8Gi", 8 << 30}, {"8 gib", 8 << 30}, {"8GB", 8e9}, {"8G", 8e9},
		{"1.5KiB", 1536}, {"512MiB", 512 << 20}, {"2TiB", 2 << 40}, {"100B", 100}, {"9223372036854775807", 1<<63 - 1},
		{"", -1}, {"GiB", -1}, {"8Gibi", -1}, {"-1", -1}, {"-8GiB", -1}, {"1e9", -1}, {"nan", -1}, {"inf", -1}, {"9999999999TiB", -1},
		{"9223372036854775808", -1}, {"1.2.3", -1}, {"8 G B", -1},
	} {
		got, err := ParseBytes(tt.in)
		if tt.want < 0 && err == nil || tt.want >= 0 && (err != nil || got != tt.want) {
			t.Errorf("%q: %d, %v, want %d", tt.in, got, err, tt.want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 29: "2.5 GiB", 1 << 62: "4096.0 PiB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tt := range []struct{ host, suffix, want string }{
		{"node1", "", "node1"},
		{"Node-1.Example.COM", "", "node-1-example-com"},
		{"_dmz.host", "-12ab", "dmz-host-12ab"},
		{"höst", "", "h-st"},
		{long, "", long[:63]},
		{long, "-12ab", long[:58] + "-12ab"},
		{"a.", "", "a"},
		{"...", "", ""},
		{"", "-12ab", ""},
	} {
		got, err := fit(tt.host, tt.suffix)
		if (err != nil) != (tt.want == "") || got != tt.want {
			t.Errorf("%q: %q, %v, want %q", tt.host, got, err, tt.want)
		}
		if err == nil && wire.CheckName("", got) != nil {
			t.Errorf("%q is no name", got)
		}
	}
}

func TestAvailable(t *testing.T) {
	const gib = 1 << 30
	meminfo := "MemTotal: 16777216 kB\nMemAvailable:    8388608 kB\n" // 8 GiB
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing", nil, 0},
		{"no group", map[string]string{"proc/meminfo": meminfo}, 8 * gib},
		{"v2 without limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n",
		}, 8 * gib},
		{"v2", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "4294967296\n", "sys/fs/cgroup/a/b/memory.current": "3221225472\n",
			"sys/fs/cgroup/a/b/memory.stat": "anon 5\ninactive_file 1073741824\n",
		}, 2 * gib},
		{"v2, limit of a group around", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1073741824\n",
		}, gib},
		{"v1", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3221225472\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1073741824\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 2 * gib},
		{"over the limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1024\n", "sys/fs/cgroup/memory.current": "4096\n",
		}, 0},
		{"nonsense", map[string]string{"proc/meminfo": "MemAvailable: x kB\n", "proc/self/cgroup": "zzz\n0::\n"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := available(root); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	if n := AvailableMemory(); n <= 0 {
		t.Errorf("here: %d", n)
	}
}

// Whatever a file holds, it is read or refused.
func FuzzFile(f *testing.F) {
	f.Add([]byte("lease_ttl: 20s\nreplicas: 3\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [x]\n: y\n--- \n"))
	_, set := ForCoordinator()
	f.Fuzz(func(t *testing.T, p []byte) {
		entries, _, err := parseFile(p, set)
		for name := range entries {
			if err == nil && set.find(name) == nil {
				t.Errorf("took %q", name)
			}
		}
	})
}
