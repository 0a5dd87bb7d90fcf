package main

import "strings"

// kind is a kind of work, and how the names of the functions that do it begin.
type kind struct {
	name  string
	funcs []string
}

// kinds of work: the first one that knows a function has it.
var kinds = []kind{
	{"copies and cleared memory", []string{"runtime.memmove", "runtime.memclr"}},
	{"scheduler", []string{
		"runtime.futex", "runtime.notewakeup", "runtime.notesleep", "runtime.ready", "runtime.goready", "runtime.wakep", "runtime.startm", "runtime.netpoll",
		"runtime.mcall", "runtime.park", "runtime.schedule", "runtime.findRunnable", "runtime.gosched", "runtime.sysmon", "runtime.entersyscall",
		"runtime.exitsyscall", "runtime.usleep", "runtime.osyield", "runtime.procyield", "runtime.mstart", "runtime.sigtramp",
	}},
	{"allocation", []string{"runtime.mallocgc", "runtime.newobject", "runtime.makeslice", "runtime.growslice"}},
	{"sockets", []string{"syscall.", "internal/poll.", "net."}},
	{"checksums", []string{"mfac/internal/crc32c.", "hash/crc32."}},
	{"looking for what is not finite", []string{"mfac/shard.firstBits", "mfac/shard.FirstNonFinite", "mfac/shard.FirstLost"}},
	{"the row written", []string{"mfac/shard/kernel.put", "mfac/shard/kernel.(*Variant).Put", "mfac/shard.(*Store).Write"}},
	{"kernel: vectors made float64", []string{"mfac/shard/kernel.expand"}},
	{"kernel: products", []string{"mfac/shard/kernel.dots", "mfac/shard/kernel.many", "mfac/shard/kernel.fetch"}},
	{"kernel: combination", []string{"mfac/shard/kernel.combine", "mfac/shard/kernel.round"}},
	{"pool", []string{"mfac/shard/pool."}},
	{"Go around the kernels", []string{"mfac/shard.", "mfac/shard/kernel."}},
	{"the rest of NATS", []string{"github.com/nats-io/"}},
	{"plain loops", []string{"main.read", "main.convert", "main.fill", "mfac/bench.read"}},
	{"client, worker, coordinator", []string{"mfac/client.", "mfac/worker.", "mfac/coordinator", "mfac/wire.", "mfac/internal/"}},
}

// collector is how functions begin that collect: it runs between what is timed.
var collector = []string{"runtime.GC", "runtime.gc", "runtime.bgsweep", "runtime.bgscavenge"}

func begins(name string, with []string) bool {
	for _, w := range with {
		if strings.HasPrefix(name, w) {
			return true
		}
	}
	return false
}

// kindOf is the kind of work of a stack, innermost function first: that of the first one that is of
// any. "" is the collector's.
func kindOf(stack []string) string {
	for _, f := range stack {
		if begins(f, collector) {
			return ""
		}
	}
	for _, f := range stack {
		for _, k := range kinds {
			if begins(f, k.funcs) {
				return k.name
			}
		}
	}
	return "other"
}
