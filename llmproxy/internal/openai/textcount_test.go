package openai

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHeard(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, data string
		want       TextCount
	}{
		{"a chunk", `{"id":"x","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}`, TextCount{5, 5}},
		{"the first chunk", `{"choices":[{"delta":{"role":"assistant","content":""}}]}`, TextCount{}},
		{"no content", `{"choices":[{"delta":{"content":null}}]}`, TextCount{}},
		{"several choices", `{"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"c"}}]}`, TextCount{3, 3}},
		{"reasoning", `{"choices":[{"delta":{"reasoning_content":"why"}}]}`, TextCount{3, 3}},
		{"reasoning beside an empty content", `{"choices":[{"delta":{"content":"","reasoning":"so"}}]}`, TextCount{2, 2}},
		{"tools", `{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}`, TextCount{7, 7}},
		{"completions", `{"choices":[{"text":" word","index":0}]}`, TextCount{5, 5}},
		{"a typed event", `{"type":"response.output_text.delta","delta":"word","item_id":"m"}`, TextCount{4, 4}},
		{"spaces", `{"choices": [{"delta": {"content" : "four"}}]}`, TextCount{4, 4}},
		{"letters of more bytes", `{"content":"héß語😀"}`, TextCount{5, 12}},
		{"escapes", `{"content":"\n\"\\\u00e9\u8a9e\ud83d\ude00"}`, TextCount{6, 12}},
		{"a lone surrogate", `{"content":"\ud83dx"}`, TextCount{6, 6}},
		{"a key inside a string", `{"content":"say \"content\":\"x\""}`, TextCount{17, 17}},
		{"logprobs", `{"logprobs":{"content":[{"token":"Hi","logprob":-1}]}}`, TextCount{}},
		{"cut", `{"content":"ab`, TextCount{2, 2}},
		{"cut in an escape", `{"content":"ab\`, TextCount{3, 3}},
		{"short", `:`, TextCount{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := Chunks.Next(nil, []byte(test.data)); got.Text != test.want && !got.Malformed { // which nobody gets
				t.Errorf("as a chunk %+v, want %+v", got, test.want)
			}
			if got := CountText([]byte(test.data)); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// Any text that a server quotes is counted to the character.
func FuzzHeard(f *testing.F) {
	f.Add("plain", []byte(`{"content": "x"}`))
	f.Add("\"content\":\"é\U0001F600\n", []byte(`"text":"\u`))
	f.Fuzz(func(t *testing.T, text string, foreign []byte) {
		CountText(foreign)
		Typed.Next([]byte("response.output_text.delta"), foreign)
		if !utf8.ValidString(text) {
			return
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		want := TextCount{utf8.RuneCountInString(text), len(text)}
		if got := CountText([]byte(`{"choices":[{"delta":{"content":` + string(quoted) + `}}]}`)); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	})
}

func BenchmarkHeard100K(b *testing.B) {
	for _, text := range []struct{ name, part string }{{"plain", "The quick brown fox jumps over the lazy dog. "}, {"Russian", "Съешь ещё этих мягких французских булок. "}, {"code", `\tif err != nil {\n\t\treturn \"x\"\n`}} {
		b.Run(text.name, func(b *testing.B) {
			answer := []byte(`{"choices":[{"message":{"content":"` + strings.Repeat(text.part, (100<<10)/len(text.part)) + `"}}]}`)
			b.SetBytes(int64(len(answer)))
			b.ReportAllocs()
			for b.Loop() {
				CountText(answer)
			}
		})
	}
}

// FuzzText holds that counting eight bytes at a time is counting.
func FuzzText(f *testing.F) {
	for _, text := range []string{``, `"`, `Hello there, world"`, `héß語😀 and more of it"`, `\n\"\\ \u00e9\u8a9e\ud83d\ude00"`, `cut in an escape \`, "\x80\xff\xc3\"\xe2\x82", `0123456"`, `01234567"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got TextCount
		n := got.text(text)
		want, length := oneByOne(text)
		if got != want || n != length {
			t.Errorf("%q: %+v and a length of %d, want %+v and %d", text, got, n, want, length)
		}
	})
}

// oneByOne is the plain way to count.
func oneByOne(text []byte) (said TextCount, length int) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return said, i
		case c == '\\':
			i += said.escape(text[i:])
		default:
			said.Bytes++
			if c&0xc0 != 0x80 {
				said.Chars++
			}
		}
	}
	return said, len(text)
}
