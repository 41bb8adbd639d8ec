package jsonspan

import (
	"strings"
	"testing"
)

// BenchmarkScan validates 1 MB of each kind.
func BenchmarkScan(b *testing.B) {
	const size = 1 << 20
	repeat := func(texts ...string) string {
		once := strings.Join(texts, "")
		return strings.TrimSuffix(strings.Repeat(once, size/len(once)), ",")
	}
	for _, t := range []struct{ name, elements string }{
		{"one text", `"` + repeat("The quick brown fox jumps over the lazy dog. ") + `"`},
		{"lines", repeat(`"`, strings.Repeat(`The quick brown fox jumps over the lazy dog.\n`, 20), `",`)},
		{"code", repeat(`"`, strings.Repeat(`\tfmt.Println(\"a queue\", len(q))\n`, 20), `",`)},
		{"10 bytes", repeat(`{"role":"user","content":"All right."},`)},
		{"40 bytes", repeat(`{"role":"user","content":"The quick brown fox jumps over the dog."},`)},
		{"two roles", repeat(`{"role":"user","content":"And the next?"},`, `{"role":"assistant","content":"The next one is the fourth."},`)},
		{"parts", repeat(`{"role":"user","content":[{"type":"text","text":"And the next?"}]},`, `{"role":"assistant","content":[{"type":"text","text":"The fourth."}]},`)},
		{"tools", repeat(`{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"n\":1}"}}]},`,
			`{"role":"tool","tool_call_id":"call_1","content":"12"},`)},
		{"inputs", repeat(`"All right.",`, `"The quick brown fox jumps",`)},
		{"numbers", repeat(`-0.123456,`)},
	} {
		b.Run(t.name, func(b *testing.B) {
			body := []byte(`{"messages":[` + t.elements + `]}`)
			var o Object
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if err := o.Scan(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
