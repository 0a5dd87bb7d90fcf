package natsx

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

const readyTimeout = 10 * time.Second

// EmbeddedOptions says how the server inside the process is run.
type EmbeddedOptions struct {
	Port       int    // 0 or -1: any free one
	StoreDir   string // of JetStream; "": a new directory, removed by Shutdown
	MaxPayload int32  // bytes; 0: NATS' default of 1 MiB
	Log        *zap.Logger
	// Configure may change NATS' own options last of all (users, TLS …), or is nil.
	Configure func(*server.Options)
}

// Server is a NATS server with JetStream inside the process, on 127.0.0.1.
type Server struct {
	ns   *server.Server
	temp string // the directory to remove, or ""
	once sync.Once
}

// Embedded starts a server and returns when it takes connections. It handles no signals.
func Embedded(o EmbeddedOptions) (*Server, error) {
	s := &Server{}
	if o.StoreDir == "" {
		dir, err := os.MkdirTemp("", "mfac-nats-")
		if err != nil {
			return nil, fmt.Errorf("start NATS: %w", err)
		}
		o.StoreDir, s.temp = dir, dir
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	opts := &server.Options{
		Host:       "127.0.0.1",
		Port:       o.Port,
		JetStream:  true,
		StoreDir:   o.StoreDir,
		MaxPayload: o.MaxPayload,
		NoSigs:     true,
		NoLog:      o.Log == nil,
	}
	if o.Configure != nil {
		o.Configure(opts)
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start NATS: %w", err), s.removeTemp())
	}
	if o.Log != nil {
		ns.SetLoggerV2(logger{o.Log.Sugar()}, false, false, false)
	}
	s.ns = ns
	ns.Start()
	if !ns.ReadyForConnections(readyTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("start NATS: not ready within %v (is port %d of 127.0.0.1 taken?)", readyTimeout, o.Port)
	}
	return s, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.ns.ClientURL() }

// Shutdown stops the server, waits until nothing of it runs, and removes its temporary store.
// Calling it again does nothing.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		_ = s.removeTemp()
	})
}

func (s *Server) removeTemp() error {
	if s.temp == "" {
		return nil
	}
	return os.RemoveAll(s.temp)
}

// logger hands the server's log to zap.
type logger struct{ *zap.SugaredLogger }

func (l logger) Noticef(format string, v ...any) { l.Infof(format, v...) }
func (l logger) Tracef(format string, v ...any)  { l.Debugf(format, v...) }

// Fatalf must not end the process: Embedded returns an error.
func (l logger) Fatalf(format string, v ...any) { l.Errorf(format, v...) }
