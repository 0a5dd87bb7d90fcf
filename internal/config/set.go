package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"mfac/internal/natsx"
)

// Setting is one setting. Its value is text until Load.
type Setting struct {
	Name    string // as in the file: lease_ttl
	Env     string // "": MFAC_ and the name in capitals
	Kind    string // of the value, for --help
	Default string
	Usage   string

	secret bool // may hold a password, which no message may
	parse  func(value string) error
	value  string
	source string
}

// Flag is the setting's flag, without the dashes.
func (s *Setting) Flag() string { return strings.ReplaceAll(s.Name, "_", "-") }

// Set are the settings of a program.
type Set struct {
	list   []*Setting
	config string
}

const (
	configFlag = "config"
	configEnv  = "MFAC_CONFIG"
	envPrefix  = "MFAC_"
)

func newSet(list []*Setting) *Set {
	for _, s := range list {
		if s.Env == "" {
			s.Env = envPrefix + strings.ToUpper(s.Name)
		}
	}
	return &Set{list: list}
}

func (s *Set) find(name string) *Setting {
	i := slices.IndexFunc(s.list, func(t *Setting) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return s.list[i]
}

// flagValue is a setting as a flag.
type flagValue struct{ *Setting }

func (v flagValue) String() string {
	if v.Setting == nil { // pflag asks a zero value for what need not be shown
		return ""
	}
	return v.Default
}
func (v flagValue) Type() string { return v.Kind }
func (v flagValue) Set(value string) error {
	v.value, v.source = value, "flag --"+v.Flag()
	return nil
}

// Flags adds a flag for each setting, and --config.
func (s *Set) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&s.config, configFlag, "", "YAML file of settings ["+configEnv+"]")
	fs.Lookup(configFlag).Value = fileValue{fs.Lookup(configFlag).Value}
	for _, t := range s.list {
		fs.Var(flagValue{t}, t.Flag(), t.Usage+" ["+t.Env+"]")
	}
}

// fileValue is called file in --help.
type fileValue struct{ pflag.Value }

func (fileValue) Type() string { return "file" }

// Load settles each setting, from the flags that were parsed, environ (of os.Environ) and the
// file. Warnings are about variables that look like settings and are none.
func (s *Set) Load(environ []string) (warnings []string, err error) {
	env, warnings := readEnv(environ)
	path := s.config
	if path == "" {
		path = env[configEnv]
	}
	file := map[string]entry{}
	if path != "" {
		if file, err = readFile(path, s); err != nil {
			return warnings, err
		}
	}
	for _, t := range s.list {
		switch e, inFile := file[t.Name]; {
		case t.source != "": // a flag
		case env[t.Env] != "":
			t.value, t.source = env[t.Env], t.Env
		case inFile:
			t.value, t.source = e.value, fmt.Sprintf("%s:%d", path, e.line)
		default:
			t.value, t.source = t.Default, "default"
		}
		if err := t.parse(t.value); err != nil {
			return warnings, t.refuse(err)
		}
	}
	return warnings, nil
}

func (s *Setting) refuse(limit error) error {
	value := s.value
	if s.secret {
		value = natsx.Redact(value)
	}
	if value == "" {
		value = `""`
	}
	return fmt.Errorf("%s is %s (%s), must be %w", s.Name, value, s.source, limit)
}

// readEnv picks the variables of settings, and warns of MFAC_* that are none.
func readEnv(environ []string) (env map[string]string, warnings []string) {
	known := allEnv()
	env = map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		switch {
		case known[k]:
			env[k] = v
		case strings.HasPrefix(k, envPrefix):
			warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting of mfac: ignored", k))
		}
	}
	slices.Sort(warnings)
	return env, warnings
}
