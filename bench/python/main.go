// Command python is the Go side of transport.py: it publishes gradients and reads them back, and prints how long
// each took, in seconds, as JSON. Each line on stdin asks for one more of each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

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
	if len(args) != 3 {
		return fmt.Errorf("usage: python URL RUN FIRST-STEP")
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
	for step := wire.Step(first); in.Scan(); step += 3 { // transport.py takes the steps between
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
