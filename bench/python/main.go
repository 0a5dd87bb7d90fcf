// Command python is the Go side of transport.py: it publishes gradients and reads them back, and prints how long
// each took, in seconds, as JSON. Each line on stdin asks for one more of each. With "other" it is the other end of
// plain requests: it acknowledges those to bench.put, and answers those to bench.get with as many bytes as they name.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"mfac/client"
	"mfac/wire"
)

type times struct {
	Publish float64 `json:"publish"`
	Fetch   float64 `json:"fetch"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "python:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "other" {
		return other(args[1])
	}
	if len(args) != 3 {
		return fmt.Errorf("usage: python URL RUN FIRST-STEP, or python other URL")
	}
	first, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := client.Connect(ctx, args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Join(ctx, args[1])
	if err != nil {
		return err
	}
	g, dst := make([]float32, r.Dim()), make([]float32, r.Dim())
	for j := range g {
		g[j] = float32(j%1000) / 1000
	}
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	for step := wire.Step(first); in.Scan(); step += 4 { // transport.py takes the steps between
		began := time.Now()
		if _, err := r.Publish(ctx, step, g); err != nil {
			return err
		}
		t := times{Publish: time.Since(began).Seconds()}
		began = time.Now()
		if _, err := r.Gradient(ctx, dst, step); err != nil {
			return err
		}
		t.Fetch = time.Since(began).Seconds()
		if err := out.Encode(t); err != nil {
			return err
		}
	}
	return in.Err()
}

// other answers until stdin ends.
func other(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Subscribe("bench.put", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		return err
	}
	reply := make([]byte, nc.MaxPayload())
	if _, err := nc.Subscribe("bench.get", func(m *nats.Msg) {
		n, err := strconv.Atoi(string(m.Data))
		if err == nil && n >= 0 && n <= len(reply) {
			_ = m.Respond(reply[:n])
		}
	}); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
