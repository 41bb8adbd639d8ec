package wire

import (
	"bytes"
	"strings"
	"testing"
)

// assembled puts lines together; slowly, without a look at what is alike.
func assembled(lines []byte, slowly bool) (string, bool) {
	var a Assembly
	var line []byte
	for next := range bytes.SplitSeq(lines, []byte("\n")) {
		if slowly {
			a.last = alikeness{}
		}
		line = append(line[:0], next...) // as a caller may who uses one buffer
		a.Add(line)
	}
	whole, ok := a.Whole()
	return string(whole), ok
}

var alikes = []struct{ name, lines, want string }{
	{"text", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"\"\\"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":""}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"c"}}]}`, `"content":"a\"\\c"`},
	{"the same twice", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}`, `"content":"aa"`},
	{"padding", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}],"obfuscation":"xyz"}
{"id":"c","choices":[{"index":0,"delta":{"content":"b"}}],"obfuscation":""}`, `"content":"ab"`},
	{"a quote that ends it early", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"b","x":"y"}}]}`, `"content":"ab","x":"y"`},
	{"an escaped quote", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"b\"}}]}`, ""},
	{"cut off", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"b`, ""},
	{"text and thoughts", `{"id":"c","choices":[{"index":0,"delta":{"reasoning":"1","content":"a"}}]}
{"id":"c","choices":[{"index":0,"delta":{"reasoning":"2","content":"b"}}]}
{"id":"c","choices":[{"index":0,"delta":{"reasoning":"3"}}]}
{"id":"c","choices":[{"index":0,"delta":{"reasoning":"4"}}]}`, `"reasoning":"1234","content":"ab"`},
	{"arguments", `{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}
{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}}]}
{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"2"}}]}}]}
{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}}]}`, `"arguments":"{12}"`},
	{"log probabilities grow, too", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}`, `"logprobs":{"content":[1,1,1]}`},
	{"choices by turns", `{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}
{"id":"c","choices":[{"index":1,"delta":{"content":"b"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"c"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"d"}}]}`, `"content":"acd"`},
	{"two choices in one", `{"id":"c","choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}]}
{"id":"c","choices":[{"index":0,"text":"c"},{"index":1,"text":"d"}]}`, `"text":"bd"`},
	{"the same key twice", `{"id":"c","choices":[{"index":0,"delta":{"content":"a","content":"b"}}]}
{"id":"c","choices":[{"index":0,"delta":{"content":"c","content":"d"}}]}`, `"content":"abcd"`},
}

func TestAlike(t *testing.T) {
	t.Parallel()
	for _, test := range alikes {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, ok := assembled([]byte(test.lines), false)
			if ok != (test.want != "") || !strings.Contains(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// FuzzAlike holds that it makes no difference.
func FuzzAlike(f *testing.F) {
	for _, test := range alikes {
		f.Add([]byte(test.lines))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		fast, ok := assembled(lines, false)
		slow, want := assembled(lines, true)
		if fast != slow || ok != want {
			t.Errorf("%q became %s (%v), not %s (%v)", lines, fast, ok, slow, want)
		}
	})
}

// streamOf is 200 events as a server sends them.
func streamOf(data string) (stream [][]byte) {
	for i := range 200 {
		stream = append(stream, []byte(strings.Replace(data, " the", " the"[:1+i%4], 1)))
	}
	return stream
}

func TestAssembleAllocations(t *testing.T) {
	stream := streamOf(events[0].data)
	got := testing.AllocsPerRun(100, func() {
		var a Assembly
		for _, data := range stream {
			a.Add(data)
		}
	})
	if got > 45 { // what grows with the answer's length is its text alone
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkAssemble puts streams together, as servers send them.
func BenchmarkAssemble(b *testing.B) {
	for _, e := range events[:3] {
		b.Run(e.name, func(b *testing.B) {
			stream := streamOf(e.data)
			b.ReportAllocs()
			for b.Loop() {
				var a Assembly
				for _, data := range stream {
					a.Add(data)
				}
				if _, ok := a.Whole(); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}
