// Package invariant checks what must hold. A violation is a defect of ours: it panics with a
// *Violation, which adapters recover at their one call of a core; the run stops as Internal.
package invariant

import "fmt"

// Violation is an invariant that did not hold.
type Violation struct{ Text string }

func (v *Violation) Error() string { return "invariant violated: " + v.Text }

// That panics with a *Violation unless ok. The text is made only then.
func That(ok bool, format string, args ...any) {
	if !ok {
		panic(&Violation{fmt.Sprintf(format, args...)})
	}
}
