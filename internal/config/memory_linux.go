package config

import (
	"os"

	"golang.org/x/sys/unix"
)

func availableMemory() int64 {
	if n := available(os.DirFS("/")); n > 0 {
		return n
	}
	var info unix.Sysinfo_t // where /proc is not mounted
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(uint64(info.Freeram) * uint64(info.Unit)) //nolint:unconvert // Freeram has 32 bits on some machines
}
