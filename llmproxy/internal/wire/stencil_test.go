package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	chunkHead = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"m","choices":[{"index":0,"delta":{"content":"`
	chunkTail = `"},"logprobs":null,"finish_reason":null}]}`
)

func TestStencil(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, first, second string
		fits                bool
	}{
		{"another word", chunkHead + " one" + chunkTail, chunkHead + " another" + chunkTail, true},
		{"none", chunkHead + "one" + chunkTail, chunkHead + chunkTail, true},
		{"one behind none", chunkHead + chunkTail, chunkHead + "one" + chunkTail, true},
		{"escapes and other languages", chunkHead + "a" + chunkTail, chunkHead + `\"два\ud83d\ude00\n` + chunkTail, true},
		{"text elsewhere as well", `{"choices":[{"delta":{"reasoning":"hm","content":"a"}}]}`, `{"choices":[{"delta":{"reasoning":"hm","content":"bcd"}}]}`, true},
		{"another second", chunkHead + "a" + chunkTail, strings.Replace(chunkHead, "1760000000", "1760000001", 1) + "a" + chunkTail, false},
		{"a member inside of the hole", chunkHead + "a" + chunkTail, chunkHead + `a","refusal":"b` + chunkTail, false},
		{"news inside of the hole", chunkHead + "a" + chunkTail, chunkHead + `a"},"finish_reason":"stop","x":{"y":"` + chunkTail, false},
		{"an open escape", chunkHead + "a" + chunkTail, chunkHead + `a\` + chunkTail, false},
		{"a finish", chunkHead + "a" + chunkTail, `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, false},
		{"behind a finish", chunkHead + "a" + strings.Replace(chunkTail, "null}", `"stop"}`, 1), chunkHead + "b" + strings.Replace(chunkTail, "null}", `"stop"}`, 1), false},
		{"shorter than what is around the hole", chunkHead + "a" + chunkTail, `{}`, false},
		{"overlapping ends", `{"content":"aa"}`, `{"content":"}`, false},
		{"too large", `{"x":"` + strings.Repeat("x", maxStencil) + `","content":"a"}`, `{"x":"` + strings.Repeat("x", maxStencil) + `","content":"a"}`, false},
		{"no text", `{"choices":[]}`, `{"choices":[]}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s Stencil
			for _, data := range []string{tt.first, tt.second} {
				if diff := cmp.Diff(Chunks.Next(nil, []byte(data)), s.Next(Chunks, nil, []byte(data))); diff != "" {
					t.Errorf("%s\nis another event through the stencil (-want +got):\n%s", data, diff)
				}
			}
			if fits := s.vain == 0; fits != tt.fits {
				t.Errorf("the stencil fits: %t, want %t", fits, tt.fits)
			}
		})
	}
}

// Events that are never like the last one are not copied for long.
func TestStencilGivesUp(t *testing.T) {
	t.Parallel()
	var s Stencil
	for i := range 2 * maxVain {
		s.Next(Chunks, nil, fmt.Appendf(nil, `{"id":%d,"choices":[{"delta":{"content":"a"}}]}`, i))
	}
	if want := fmt.Sprintf(`"id":%d,`, maxVain); s.vain != maxVain+1 || !strings.Contains(string(s.around), want) {
		t.Errorf("%d in vain, the last stencil is %s", s.vain, s.around)
	}
}

// FuzzStencil holds that an event is the same with a stencil of another one as without.
func FuzzStencil(f *testing.F) {
	for i, e := range chunkEvents {
		f.Add([]byte(e.data), []byte(chunkEvents[(i+1)%len(chunkEvents)].data))
	}
	f.Add([]byte(chunkHead+"a"+chunkTail), []byte(chunkHead+`é\"\u00e9`+chunkTail))
	f.Add([]byte(chunkHead+"a"+chunkTail), []byte(chunkHead+`b","refusal":"c`+chunkTail))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var s Stencil
		for _, data := range [][]byte{first, second, first, first} {
			if diff := cmp.Diff(Chunks.Next(nil, data), s.Next(Chunks, nil, data)); diff != "" {
				t.Fatalf("%s\nis another event through the stencil (-want +got):\n%s", data, diff)
			}
		}
	})
}

// BenchmarkStencil is what BenchmarkNext measures of a word, with a stencil.
func BenchmarkStencil(b *testing.B) {
	data := []byte(chunkHead + " word" + chunkTail)
	for _, way := range []struct {
		name string
		next func(s *Stencil) Event
	}{
		{"with", func(s *Stencil) Event { return s.Next(Chunks, nil, data) }},
		{"without", func(*Stencil) Event { return Chunks.Next(nil, data) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			var s Stencil
			b.ReportAllocs()
			for b.Loop() {
				if way.next(&s).Said.Chars != 5 {
					b.Fatal("the text was not counted")
				}
			}
		})
	}
}
