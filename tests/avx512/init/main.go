//go:build linux

// Command init is the first and only process of the emulated machine of run.sh: it runs /test with
// the arguments of /args, one a line, prints a line with its exit status, and turns the machine off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Printf("\nexit status %d.\n", run())
	unix.Sync()
	// What Bochs listens to; "Shutdown" at this port ends it.
	if port, err := os.OpenFile("/dev/port", os.O_WRONLY, 0); err == nil {
		for i := range len("Shutdown") {
			_, _ = port.WriteAt([]byte("Shutdown"[i:i+1]), 0x8900)
		}
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() int {
	for dir, fs := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			fmt.Println(err)
			return 125
		}
		if err := unix.Mount(fs, dir, fs, 0, ""); err != nil && err != unix.EBUSY {
			fmt.Println(dir, err)
			return 125
		}
	}
	args, err := os.ReadFile("/args")
	if err != nil {
		fmt.Println(err)
		return 125
	}
	cmd := exec.Command("/test", strings.Fields(string(args))...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stdout, "/tmp"
	cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp"}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Println(err)
		return 125
	}
	return cmd.ProcessState.ExitCode()
}
