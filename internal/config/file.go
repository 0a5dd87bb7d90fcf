package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const maxFile = 1 << 20 // bytes

// entry is a setting in a file.
type entry struct {
	value string
	line  int
}

// readFile reads a YAML file: one map of settings to plain values. It is walked node by node
// rather than decoded, so that an error names its line, and a value is checked as one of a flag.
func readFile(path string, s *Set) (map[string]entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if len(p) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	entries, line, err := parseFile(p, s)
	if err != nil && line > 0 {
		return nil, fmt.Errorf("%s:%d: %w", path, line, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, nil
}

// parseFile returns the settings in a file, or what is wrong and in which line (0: not known).
func parseFile(p []byte, s *Set) (entries map[string]entry, line int, err error) {
	entries = map[string]entry{}
	dec := yaml.NewDecoder(bytes.NewReader(p))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return entries, 0, nil // nothing but comments
	} else if err != nil {
		return nil, 0, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, 0, errors.New("must be one YAML document")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, max(doc.Line, 1), errors.New("must be a map of settings, as lease_ttl: 20s")
	}
	list := doc.Content[0].Content
	for i := 0; i+1 < len(list); i += 2 {
		key, value := list[i], list[i+1]
		switch {
		case s.find(key.Value) == nil:
			return nil, key.Line, fmt.Errorf("unknown setting %s%s", key.Value, s.nearest(key.Value))
		case entries[key.Value].line > 0:
			return nil, key.Line, fmt.Errorf("%s is set twice, first in line %d", key.Value, entries[key.Value].line)
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null":
			return nil, value.Line, fmt.Errorf("%s must have one plain value", key.Value)
		}
		entries[key.Value] = entry{value.Value, value.Line}
	}
	return entries, 0, nil
}

// nearest is a hint at a setting that differs in dashes, capitals or a prefix only.
func (s *Set) nearest(key string) string {
	plain := strings.ReplaceAll(strings.ToLower(key), "-", "_")
	if t := s.find(strings.TrimPrefix(plain, strings.ToLower(envPrefix))); t != nil {
		return ": it is written " + t.Name
	}
	return ""
}
