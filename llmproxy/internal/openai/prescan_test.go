package openai

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func TestCountText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, data string
		want       jsonspan.TextCount
	}{
		{"chunk", `{"id":"x","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}`, jsonspan.TextCount{Chars: 5, Bytes: 5}},
		{"first chunk", `{"choices":[{"delta":{"role":"assistant","content":""}}]}`, jsonspan.TextCount{}},
		{"no content", `{"choices":[{"delta":{"content":null}}]}`, jsonspan.TextCount{}},
		{"several choices", `{"choices":[{"delta":{"content":"ab"}},{"delta":{"content":"c"}}]}`, jsonspan.TextCount{Chars: 3, Bytes: 3}},
		{"reasoning", `{"choices":[{"delta":{"reasoning_content":"why"}}]}`, jsonspan.TextCount{Chars: 3, Bytes: 3}},
		{"reasoning with empty content", `{"choices":[{"delta":{"content":"","reasoning":"so"}}]}`, jsonspan.TextCount{Chars: 2, Bytes: 2}},
		{"tools", `{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}`, jsonspan.TextCount{Chars: 7, Bytes: 7}},
		{"completions", `{"choices":[{"text":" word","index":0}]}`, jsonspan.TextCount{Chars: 5, Bytes: 5}},
		{"typed event", `{"type":"response.output_text.delta","delta":"word","item_id":"m"}`, jsonspan.TextCount{Chars: 4, Bytes: 4}},
		{"spaces", `{"choices": [{"delta": {"content" : "four"}}]}`, jsonspan.TextCount{Chars: 4, Bytes: 4}},
		{"characters of several bytes", `{"content":"héß語😀"}`, jsonspan.TextCount{Chars: 5, Bytes: 12}},
		{"escapes", `{"content":"\n\"\\\u00e9\u8a9e\ud83d\ude00"}`, jsonspan.TextCount{Chars: 6, Bytes: 12}},
		{"lone surrogate", `{"content":"\ud83dx"}`, jsonspan.TextCount{Chars: 6, Bytes: 6}},
		{"key inside a string", `{"content":"say \"content\":\"x\""}`, jsonspan.TextCount{Chars: 17, Bytes: 17}},
		{"logprobs", `{"logprobs":{"content":[{"token":"Hi","logprob":-1}]}}`, jsonspan.TextCount{}},
		{"truncated", `{"content":"ab`, jsonspan.TextCount{Chars: 2, Bytes: 2}},
		{"truncated in an escape", `{"content":"ab\`, jsonspan.TextCount{Chars: 3, Bytes: 3}},
		{"short", `:`, jsonspan.TextCount{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := Chunks.Next(nil, []byte(test.data)); got.Text != test.want && !got.Malformed { // the client does not get malformed events
				t.Errorf("Next counted %+v, want %+v", got.Text, test.want)
			}
			if got := CountText([]byte(test.data)); got != test.want {
				t.Errorf("CountText = %+v, want %+v", got, test.want)
			}
		})
	}
}

// FuzzCountText checks that text is counted correctly after encoding/json has encoded it.
func FuzzCountText(f *testing.F) {
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
		want := jsonspan.TextCount{Chars: utf8.RuneCountInString(text), Bytes: len(text)}
		if got := CountText([]byte(`{"choices":[{"delta":{"content":` + string(quoted) + `}}]}`)); got != want {
			t.Errorf("CountText = %+v for %q, want %+v", got, text, want)
		}
	})
}

func BenchmarkCountText100K(b *testing.B) {
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

// FuzzPrescan checks that prescan accepts every object that encoding/json accepts, and neither a part of one nor two together.
func FuzzPrescan(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body, 3) })
	for _, e := range chunkEvents {
		f.Add([]byte(e.data), 20)
	}
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		_, complete := prescan(data, new(jsonspan.TextCount))
		if _, again := prescan(data, nil); again != complete {
			t.Fatal("the result depends on whether text is counted")
		}
		object := bytes.Trim(data, " \t\r\n")
		if !json.Valid(data) || object[0] != '{' {
			return
		}
		if !complete {
			t.Fatal("prescan rejected a valid object")
		}
		const examined = 62 // levels; deeper objects are left to the parser
		if at < 0 || at >= len(object) || bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) >= examined {
			return
		}
		if _, complete := prescan(object[:at], nil); complete {
			t.Fatalf("prescan accepted the object without its end %q", object[at:])
		}
		if _, complete := prescan(append(object[:len(object):len(object)], object...), nil); complete {
			t.Fatal("prescan accepted two objects")
		}
	})
}
