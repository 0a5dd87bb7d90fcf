package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"mfac/wire"
)

// readLabels reads a file of labels: one a line for each of so many rows, "" being none.
func readLabels(path string, rows int64) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var labels []string
	r := bufio.NewReader(f)
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = wire.CheckLabel(fmt.Sprintf("label in line %d", len(labels)+1), line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if int64(len(labels)) == rows {
			return nil, fmt.Errorf("%s: lines is more than %d, must be %d, one a gradient", path, rows, rows)
		}
		labels = append(labels, line)
	}
	if int64(len(labels)) < rows {
		return nil, fmt.Errorf("%s: lines is %d, must be %d, one a gradient", path, len(labels), rows)
	}
	return labels, nil
}

// readLine reads a line, or io.EOF where there is none. The memory that it takes is that of the line.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// labelOf is that of row i, where labels are known.
func labelOf(labels []string, i int) string {
	if labels == nil {
		return ""
	}
	return labels[i]
}
