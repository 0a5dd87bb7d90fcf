// Command gen writes a file of assembly for amd64, of package kernel or crc32c, with its stubs:
//
//	go run . OPERATION -out FILE.s -stubs FILE.go -pkg PACKAGE
//
// docs/kernels.md says what the registers hold and why.
package main

import (
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

var operations = map[string]func(){
	"dots":    dots,
	"combine": combine,
	"crc32c":  crc32c,
	"many":    many,
	"rows":    rows,
	"solve":   solve,
	"tiles":   tiles,
}

func main() {
	if len(os.Args) < 2 || operations[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gen dots|combine|crc32c|many|rows|solve|tiles -out FILE -stubs FILE -pkg kernel")
		os.Exit(2)
	}
	op := operations[os.Args[1]]
	os.Args = append(os.Args[:1], os.Args[2:]...)
	ConstraintExpr("amd64")
	op()
	Generate()
}
