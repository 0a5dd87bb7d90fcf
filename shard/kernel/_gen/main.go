// Command gen writes a file of package kernel's assembly for amd64, with its stubs:
//
//	go run . OPERATION -out ../FILE.s -stubs ../FILE.go -pkg kernel
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
	"many":    many,
	"rows":    rows,
	"solve":   solve,
}

func main() {
	if len(os.Args) < 2 || operations[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gen dots|combine|many|rows|solve -out FILE -stubs FILE -pkg kernel")
		os.Exit(2)
	}
	op := operations[os.Args[1]]
	os.Args = append(os.Args[:1], os.Args[2:]...)
	ConstraintExpr("amd64")
	op()
	Generate()
}
