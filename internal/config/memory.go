package config

import (
	"bufio"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// fallbackMemory is assumed where the machine doesn't say.
const fallbackMemory = 2 << 30

// AvailableMemory is the bytes that the process may take without the machine swapping or its
// control group killing it: on Linux the least of MemAvailable and what is left of the group's
// limit (v1 or v2) and of those around it, elsewhere half of the machine's memory. It is a look at
// this moment.
func AvailableMemory() int64 {
	if n := availableMemory(); n > 0 {
		return n
	}
	return fallbackMemory
}

// available is AvailableMemory of a Linux machine whose files are in root, 0 where they say nothing.
func available(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	if n, ok := field(root, "proc/meminfo", "MemAvailable:"); ok && n <= math.MaxInt64>>10 {
		least = n << 10 // the file has KiB
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if err != nil || len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "": // v2
			least = min(least, leftOf(root, "sys/fs/cgroup", parts[2], "memory.max", "memory.current", "inactive_file"))
		case hasWord(parts[1], "memory"): // v1
			least = min(least, leftOf(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// leftOf is what is left of the limits of a control group and of those around it. Pages of files
// that nobody has used of late don't count as taken: the kernel gives them up first.
func leftOf(root fs.FS, mount, group, limit, usage, cache string) int64 {
	least := int64(math.MaxInt64)
	for dir := path.Join("/", group); ; dir = path.Dir(dir) {
		at := path.Join(mount, dir)
		if most, ok := number(root, path.Join(at, limit)); ok {
			used, _ := number(root, path.Join(at, usage))
			cached, _ := field(root, path.Join(at, "memory.stat"), cache)
			least = min(least, max(most-max(used-cached, 0), 0))
		}
		if dir == "/" {
			return least
		}
	}
}

// number reads a file that is one number; "max" is none.
func number(root fs.FS, name string) (int64, bool) {
	p, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(p)), 10, 64)
	return n, err == nil && n >= 0
}

// field reads the number behind a word in a file of lines.
func field(root fs.FS, name, word string) (int64, bool) {
	f, err := root.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == word {
			n, err := strconv.ParseInt(words[1], 10, 64)
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}
