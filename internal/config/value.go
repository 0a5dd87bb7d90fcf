package config

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"mfac/wire"
)

// The parsers set what they point to, or return the limit that a value breaks.

func text(p *string) func(string) error {
	return func(v string) error {
		*p = v
		return nil
	}
}

func name(p *string) func(string) error {
	return func(v string) error {
		*p = v
		return checkName(v)
	}
}

// kernel leaves to the worker which of the kernels the CPU can run.
func kernel(p *string) func(string) error {
	one := oneOf(p, "auto", "generic", "avx2", "avx512")
	return func(v string) error {
		err := one(v)
		if *p == "auto" {
			*p = ""
		}
		return err
	}
}

func checkName(v string) error {
	var e *wire.Error
	if errors.As(wire.CheckName("", v), &e) {
		return errors.New(e.Limit)
	}
	return nil
}

// hostName is a name whose default is the host's with a suffix.
func hostName(p *string, suffix string) func(string) error {
	return func(v string) (err error) {
		if v != "" {
			*p = v
			return checkName(v)
		}
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("given: the host's name is not known: %w", err)
		}
		*p, err = fit(host, suffix)
		return err
	}
}

// fit makes a host's name fit wire.CheckName, with a suffix.
func fit(host, suffix string) (string, error) {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(host))
	s = strings.TrimLeft(s, "-_")
	if n := 63 - len(suffix); len(s) > n {
		s = s[:n]
	}
	s = strings.TrimRight(s, "-_")
	if s == "" {
		return "", fmt.Errorf("given: the host's name %q has no letter or digit to make one of", host)
	}
	return s + suffix, nil
}

// randomSuffix tells two coordinators of one host apart.
func randomSuffix() string { return fmt.Sprintf("-%04x", rand.Uint32()&0xffff) }

func duration(p *time.Duration, least, most time.Duration) func(string) error {
	return func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < least || d > most {
			return fmt.Errorf("a time from %v to %v, as 20s or 1m30s", least, most)
		}
		*p = d
		return nil
	}
}

func integer(p *int, least, most int) func(string) error {
	return func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("a whole number from %d to %d", least, most)
		}
		*p = n
		return nil
	}
}

func oneOf(p *string, allowed ...string) func(string) error {
	return func(v string) error {
		for _, a := range allowed {
			if v == a {
				*p = v
				return nil
			}
		}
		n := len(allowed) - 1
		return errors.New(strings.Join(allowed[:n], ", ") + " or " + allowed[n])
	}
}

func address(p *string) func(string) error {
	return func(v string) error {
		*p = v
		if v == Off {
			return nil
		}
		_, port, err := net.SplitHostPort(v)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			return errors.New("host:port, as 127.0.0.1:9321, or off")
		}
		return nil
	}
}

func byteSize(p *int64, least int64) func(string) error {
	return func(v string) error {
		n, err := ParseBytes(v)
		if err != nil {
			return err
		}
		if n < least {
			return fmt.Errorf("at least %d bytes", least)
		}
		*p = n
		return nil
	}
}

// memory is a size, or auto.
func memory(p *int64) func(string) error {
	return func(v string) error {
		if v != "auto" {
			return byteSize(p, 1)(v)
		}
		*p = AvailableMemory() / 4 * 3
		return nil
	}
}

var units = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20,
	"gi": 1 << 30, "gib": 1 << 30, "ti": 1 << 40, "tib": 1 << 40,
}

// ParseBytes reads a size as 8GiB, 8Gi, 1.5GB or 1048576. The error is the limit, for a sentence
// that ends in "must be".
func ParseBytes(s string) (int64, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(s)
	}
	unit, ok := units[strings.ToLower(strings.TrimSpace(s[end:]))]
	if ok && unit == 1 {
		if n, err := strconv.ParseInt(s[:end], 10, 64); err == nil {
			return n, nil // to the byte
		}
	}
	x, err := strconv.ParseFloat(s[:end], 64)
	if !ok || err != nil || x*unit >= math.MaxInt64 {
		return 0, errors.New("a size in bytes, as 8GiB, 512MiB or 1048576")
	}
	return int64(x * unit), nil
}

// FormatBytes writes a size for people: 2.5 GiB.
func FormatBytes(n int64) string {
	x := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
		switch {
		case x < 1024 && unit == "B":
			return fmt.Sprintf("%d B", n)
		case x < 1024:
			return fmt.Sprintf("%.1f %s", x, unit)
		}
		x /= 1024
	}
	return fmt.Sprintf("%.1f PiB", x)
}
