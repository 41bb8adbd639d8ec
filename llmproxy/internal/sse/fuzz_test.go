package sse

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzReader checks that a stream in any pieces has the events of the reference, and all bytes.
func FuzzReader(f *testing.F) {
	for i, tt := range streams {
		f.Add(tt.text, uint64(i))
	}
	f.Add(strings.Repeat(string(chunk), 3)+"data: [DONE]\n\n", uint64(1))
	f.Add(strings.Repeat("data: a\r\n\r", 3)+strings.Repeat("\n", 3), uint64(2))
	f.Fuzz(func(t *testing.T, stream string, seed uint64) {
		check(t, stream, strings.NewReader(stream))
		check(t, stream, iotest.OneByteReader(strings.NewReader(stream)))
		cut := rand.New(rand.NewPCG(seed, 0))
		var random pieces
		for rest := stream; rest != ""; {
			n := 1 + cut.IntN(len(rest))
			random = append(random, rest[:n])
			rest = rest[n:]
		}
		check(t, stream, &random)
	})
}

// FuzzAppend checks that any data is parsed as one event with the same data, its line ends as LF.
func FuzzAppend(f *testing.F) {
	f.Add("message", []byte(`{"a":1}`))
	f.Add("error", []byte("a\r\n\r\nevent: b\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if strings.ContainsAny(name, "\r\n") || name == "" {
			name = "x"
		}
		e, rest := Cut(AppendEvent(nil, name, data))
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		if len(rest) > 0 || string(e.Name) != name || string(e.Data) != want {
			t.Errorf("%q: got name %q, data %q, rest %q", data, e.Name, e.Data, rest)
		}
	})
}
