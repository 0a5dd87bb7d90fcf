package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"mfac/client"
	"mfac/wire"
)

// parseDampings reads a list of dampings: numbers with commas between, or low:high:logN, N of them from
// low to high at equal ratios.
func parseDampings(text string) ([]float64, error) {
	parts := strings.Split(text, ":")
	if len(parts) == 1 {
		var list []float64
		for word := range strings.SplitSeq(text, ",") {
			lambda, err := parseDamping(word)
			if err != nil {
				return nil, err
			}
			list = append(list, lambda)
		}
		return list, checkDampings(len(list))
	}
	count, isLog := strings.CutPrefix(parts[len(parts)-1], "log")
	n, err := strconv.Atoi(count)
	if len(parts) != 3 || !isLog || err != nil {
		return nil, wire.Invalid("damping", text, "a list a,b,c or low:high:logN, as 1e-8:1e-1:log8")
	}
	low, err := parseDamping(parts[0])
	if err != nil {
		return nil, err
	}
	high, err := parseDamping(parts[1])
	if err != nil {
		return nil, err
	}
	if err := checkDampings(n); err != nil {
		return nil, err
	}
	if !(high > low) || n < 2 {
		return nil, wire.Invalid("damping", text, "two dampings or more, from a smaller to a larger one")
	}
	list := make([]float64, n)
	a, b := math.Log10(low), math.Log10(high)
	for i := range list {
		x := math.Pow(10, a+(b-a)*float64(i)/float64(n-1))
		list[i], _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64) // 1e-5, not 1.0000000000000003e-5
	}
	list[0], list[n-1] = low, high
	return list, nil
}

func parseDamping(word string) (float64, error) {
	lambda, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
	if err != nil {
		return 0, wire.Invalid("damping", word, "a number")
	}
	return lambda, wire.CheckDamping("damping", lambda)
}

func checkDampings(n int) error {
	if n < 1 || n > client.MaxDampings {
		return wire.Invalid("dampings", n, fmt.Sprintf("in [1, %d]", client.MaxDampings))
	}
	return nil
}
