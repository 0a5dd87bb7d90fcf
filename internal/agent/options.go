package agent

import (
	"io"
	"time"

	"go.uber.org/zap"

	"mfac/internal/cluster"
)

// Protocol is the version of the messages between a program and its agent: both must have the same.
const Protocol = 1

// DefaultGrace is how long an agent without a connection waits for one.
const DefaultGrace = 10 * time.Second

// Options says how an agent runs. What is zero takes its default.
type Options struct {
	Version string            // told in hello
	Parent  int               // process whose end ends the agent, or 0
	Alive   io.Reader         // at whose end the agent ends: the other side of a pipe that the parent holds; or nil
	Grace   time.Duration     // DefaultGrace
	Cluster *cluster.Options  // runs this cluster for as long as the agent, or nil
	Dir     string            // where the socket's folder is made; "": os.TempDir()
	Log     *zap.Logger       // nil logs nothing
	Ready   func(Ready) error // told when it listens
}

// Ready says where an agent listens.
type Ready struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	Socket   string `json:"socket"`
	URL      string `json:"url,omitempty"` // of the cluster's NATS
	PID      int    `json:"pid"`
}
