package sim

import (
	"fmt"
	"reflect"
	"strings"

	"mfac/wire"
)

// copyOf is what the codec makes of a message, for less: another struct with other bytes.
func copyOf(m wire.Message) wire.Message {
	v := reflect.New(reflect.TypeOf(m).Elem())
	v.Elem().Set(reflect.ValueOf(m).Elem())
	c := v.Interface().(wire.Message)
	if b, ok := c.(wire.Bulk); ok {
		*b.Body() = append([]byte(nil), *b.Body()...)
	}
	return c
}

// describe is a message in a trace.
func describe(m wire.Message) string {
	if e, ok := m.(*wire.Error); ok {
		return fmt.Sprintf("error #%d %s: %v", e.Seq, e.Code, e)
	}
	var b strings.Builder
	b.WriteString(m.Type())
	fields(&b, reflect.ValueOf(m).Elem())
	return b.String()
}

func fields(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		switch {
		case f.IsZero() || t.Name == "Run" || t.Name == "CreditMS" || t.Name == "Credit" || t.Name == "Sum" || t.Name == "Spec" || t.Name == "UID":
		case t.Name == "Payload":
			fmt.Fprintf(b, " +%d", f.Len())
		case t.Anonymous:
			fields(b, f)
		default:
			fmt.Fprintf(b, " %s=%v", strings.ToLower(t.Name), f.Interface())
		}
	}
}
