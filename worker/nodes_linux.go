package worker

import (
	"os"
	"strings"
)

// memoryNodes is how many nodes the machine's memory lies on: 2 stands for all that are more than
// one, and 1 for what is not known.
func memoryNodes() int {
	list, err := os.ReadFile("/sys/devices/system/node/has_memory") // such as 0 or 0-1,4
	if err == nil && strings.ContainsAny(string(list), "-,") {
		return 2
	}
	return 1
}
