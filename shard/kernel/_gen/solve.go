package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const mostSolve = 6

func solve() {
	for _, s := range isas {
		TEXT("solve"+s.name, NOSPLIT, "func(w *float64, ldw int, l *float64, ldl, i, p, n int)")
		Pragma("noescape")
		Doc(fmt.Sprintf("solve%s is Variant.solve.", s.name))
		byCount("p", 1, mostSolve, func(p int, label func(string) string) { solveRows(s, p, label) })
	}
	squares()
}

// solveRows keeps two registers of columns of p rows: first what the rows above take away, one
// after the other, then the p rows among themselves.
func solveRows(s isa, p int, label func(string) string) {
	w, ldw := Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	l, ldl := Load(Param("l"), GP64()), Load(Param("ldl"), GP64())
	first, n := Load(Param("i"), GP64()), Load(Param("n"), GP64())
	SHLQ(U8(3), ldw)
	SHLQ(U8(3), ldl)
	cols := 2 * s.width

	// l at the block's first row.
	skip := GP64()
	MOVQ(first, skip)
	IMULQ(ldl, skip)
	ADDQ(skip, l)
	lAt := rowsOf(l, ldl, p)
	block := GP64() // from w to the block's first row
	MOVQ(first, block)
	IMULQ(ldw, block)

	acc := make([][]Register, p)
	for i := range acc {
		acc[i] = s.vecs(2)
	}
	lv, wv := s.vec(), s.vecs(2)
	above, k := GP64(), GP64()
	Label(label("columns"))
	at := GP64()
	LEAQ(Mem{Base: w, Index: block, Scale: 1}, at)
	for i := range p {
		for j, a := range acc[i] {
			VMOVUPD(Mem{Base: at, Disp: s.bytes() * j}, a)
		}
		ADDQ(ldw, at)
	}
	MOVQ(w, above)
	XORQ(k, k)
	CMPQ(k, first)
	JEQ(LabelRef(label("among")))
	Label(label("above"))
	for j, v := range wv {
		VMOVUPD(Mem{Base: above, Disp: s.bytes() * j}, v)
	}
	for i := range p {
		VBROADCASTSD(lAt(i, 0), lv)
		for j, a := range acc[i] {
			VFNMADD231PD(lv, wv[j], a)
		}
	}
	ADDQ(ldw, above)
	ADDQ(U8(8), l)
	INCQ(k)
	CMPQ(k, first)
	JNE(LabelRef(label("above")))
	Label(label("among"))
	for i := range p {
		VBROADCASTSD(lAt(i, 8*i), lv)
		for j, a := range acc[i] {
			VDIVPD(lv, a, a)
			VMOVUPD(a, Mem{Base: above, Disp: s.bytes() * j})
		}
		ADDQ(ldw, above)
		for i2 := i + 1; i2 < p; i2++ {
			VBROADCASTSD(lAt(i2, 8*i), lv)
			for j, a := range acc[i2] {
				VFNMADD231PD(lv, acc[i][j], a)
			}
		}
	}
	SHLQ(U8(3), k)
	SUBQ(k, l)
	ADDQ(U32(8*cols), w)
	SUBQ(U8(cols), n)
	JNZ(LabelRef(label("columns")))
}

func squares() {
	TEXT("squaresAVX2", NOSPLIT, "func(y, w *float64, ldw, rows, n int)")
	Pragma("noescape")
	Doc("squaresAVX2 is Variant.squares.")
	y, w, ldw := Load(Param("y"), GP64()), Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	rows, n := Load(Param("rows"), GP64()), Load(Param("n"), GP64())
	SHLQ(U8(3), ldw)
	acc := []Register{YMM(), YMM(), YMM(), YMM()}
	at, count := GP64(), GP64()
	Label("columns")
	for _, a := range acc {
		avx2.zero(a)
	}
	MOVQ(w, at)
	MOVQ(rows, count)
	Label("row")
	for j, a := range acc {
		v := YMM()
		VMOVUPD(Mem{Base: at, Disp: 32 * j}, v)
		VFMADD231PD(v, v, a)
	}
	ADDQ(ldw, at)
	DECQ(count)
	JNZ(LabelRef("row"))
	for j, a := range acc {
		VMOVUPD(a, Mem{Base: y, Disp: 32 * j})
	}
	ADDQ(U32(128), w)
	ADDQ(U32(128), y)
	SUBQ(U8(16), n)
	JNZ(LabelRef("columns"))
	VZEROUPPER()
	RET()
}
