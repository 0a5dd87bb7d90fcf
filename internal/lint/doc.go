// Package lint checks, as a test, what no linter knows: which package may import which, and that
// the cores are pure.
package lint
