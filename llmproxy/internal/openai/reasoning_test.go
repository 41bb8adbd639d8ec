package openai

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestNameReasoning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"a delta", `{"choices":[{"index":0,"delta":{"reasoning":"h\n\"m","content":""}}]}`, `{"choices":[{"index":0,"delta":{"reasoning":"h\n\"m","reasoning_content":"h\n\"m","content":""}}]}`},
		{"an answer of two choices", ` {"choices":[ {"message":{"content":"a","reasoning": "x"}},{"message":{"reasoning":"y"}}],"usage":{}}`,
			` {"choices":[ {"message":{"content":"a","reasoning": "x","reasoning_content":"x"}},{"message":{"reasoning":"y","reasoning_content":"y"}}],"usage":{}}`},
		{"an empty one", `{"choices":[{"delta":{"reasoning":""}}]}`, `{"choices":[{"delta":{"reasoning":"","reasoning_content":""}}]}`},
		{"null", `{"choices":[{"message":{"content":"a","reasoning":null}}]}`, ``},
		{"both names", `{"choices":[{"delta":{"reasoning":"a","reasoning_content":"a"}}]}`, ``},
		{"text about it", `{"choices":[{"delta":{"content":"\"reasoning\":\"a\""}}]}`, ``},
		{"elsewhere", `{"reasoning":"a","choices":[{"reasoning":"b","delta":{"x":{"reasoning":"c"}}}]}`, ``},
		{"no choices", `{"error":{"reasoning":"a"}}`, ``}, {"half of an event", `{"choices":[{"delta":{"reasoning":"a`, ``}, {"done", `[DONE]`, ``},
	} {
		got, ok := NameReasoning([]byte(tt.in))
		if ok != (tt.want != "") || ok && string(got) != tt.want || !ok && string(got) != tt.in {
			t.Errorf("%s: %s, %v", tt.name, got, ok)
		}
	}
}

// FuzzNameReasoning checks that valid JSON stays valid, and keeps what it says.
func FuzzNameReasoning(f *testing.F) {
	f.Add([]byte(`{"choices":[{"message":{"content":"a","reasoning": "x"}},{"delta":{"reasoning":"y"}}]}`))
	f.Add([]byte(`{"choices":[{"delta":{"reasoning":"a","reasoning":1`))
	f.Fuzz(func(t *testing.T, data []byte) {
		named, ok := NameReasoning(data)
		if json.Valid(data) && !json.Valid(named) || ok && strings.Replace(string(named), string(reasoningContentKey), "", 1) == string(data) {
			t.Errorf("%q became %q", data, named)
		}
	})
}

func BenchmarkNameReasoning(b *testing.B) {
	const chunk = `{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1760000000,"model":"meta-llama/Llama-3.1-8B-Instruct","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}`
	for name, data := range map[string][]byte{"content": []byte(chunk), "reasoning": []byte(strings.Replace(chunk, `"content"`, `"reasoning"`, 1))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NameReasoning(data)
			}
		})
	}
}
