package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed blas.py
var blasScript string

// python is a child process with numpy: OpenBLAS as people have it.
type python struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	dir  string
	desc string
	now  int // threads
	torc bool
}

type answerOf struct {
	Error   string    `json:"error"`
	Seconds float64   `json:"seconds"`
	X       []float64 `json:"x"`
	Numpy   string    `json:"numpy"`
	Torch   string    `json:"torch"`
	Blas    []string  `json:"blas"`
}

type ask map[string]any

// lacksBLAS says why there is no OpenBLAS, "" if there is. The first call starts it.
func (e *env) lacksBLAS() string {
	if !e.tried {
		e.tried = true
		if e.py, e.pyErr = startPython(e); e.pyErr == nil {
			e.logf("bench: %s", e.py.desc)
		}
	}
	if e.pyErr != nil {
		return fmt.Sprintf("no OpenBLAS: %v", e.pyErr)
	}
	return ""
}

// interpreter is the user's Python, or one with numpy, scipy and threadpoolctl, made once in the
// user's cache.
func interpreter(e *env) (string, error) {
	works := func(bin string) error {
		out, err := exec.CommandContext(e.ctx, bin, "-c", "import numpy, scipy.linalg.blas, threadpoolctl").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", bin, err, lastLine(out))
		}
		return nil
	}
	if e.python != "" {
		return e.python, works(e.python)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "mfac-bench", "venv")
	bin := filepath.Join(dir, "bin", "python")
	if works(bin) == nil {
		return bin, nil
	}
	e.logf("bench: making a Python environment with numpy and scipy in the user's cache")
	for _, c := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{bin, "-m", "pip", "install", "-q", "numpy", "scipy", "threadpoolctl"},
	} {
		if out, err := exec.CommandContext(e.ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(c[1:], " "), err, lastLine(out))
		}
	}
	return bin, works(bin)
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func startPython(e *env) (*python, error) {
	bin, err := interpreter(e)
	if err != nil {
		return nil, err
	}
	p := &python{}
	if p.dir, err = os.MkdirTemp("", "mfac-bench-"); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(bin, "-c", blasScript)
	p.cmd.Stderr = e.stderr
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		// Whatever is set here for the sake of older builds would slow this one.
		if name != "OPENBLAS_CORETYPE" && name != "OPENBLAS_L2_SIZE" && name != "OPENBLAS_NUM_THREADS" && name != "OMP_NUM_THREADS" {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	a, err := p.ask(ask{"what": "info"})
	if err != nil {
		p.close()
		return nil, err
	}
	p.torc = a.Torch != ""
	p.desc = fmt.Sprintf("numpy %s with %s", a.Numpy, strings.Join(a.Blas, ", "))
	if p.torc {
		p.desc += ", torch " + a.Torch
	}
	return p, nil
}

func (p *python) ask(q ask) (answerOf, error) {
	var a answerOf
	b, err := json.Marshal(q)
	if err == nil {
		_, err = p.in.Write(append(b, '\n'))
	}
	var l []byte
	if err == nil {
		l, err = p.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(l, &a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a, fmt.Errorf("python, asked to %v: %w", q["what"], err)
	}
	return a, nil
}

// run times an operation on so many threads: one of them, from reps done in a row, after half
// as many. Python is idle when it returns.
func (p *python) run(op string, threads, reps int) (time.Duration, error) {
	if threads != p.now {
		if _, err := p.ask(ask{"what": "threads", "n": threads}); err != nil {
			return 0, err
		}
		p.now = threads
	}
	a, err := p.ask(ask{"what": "run", "op": op, "reps": reps})
	return time.Duration(a.Seconds * 1e9 / float64(reps)), err
}

// rows sends the numbers of a bed.
func (p *python) rows(b *rowsBed) error {
	file := filepath.Join(p.dir, "base")
	if err := os.WriteFile(file, b.base, 0o600); err != nil {
		return err
	}
	_, err := p.ask(ask{"what": "rows", "file": file, "m": b.m, "d": b.cols, "shift": rowShift, "c": b.coef})
	return errors.Join(err, os.Remove(file))
}

func (p *python) close() {
	_ = p.in.Close() // its loop ends
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.dir)
}
