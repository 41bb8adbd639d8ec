package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// Whatever an upstream leaves out, and wherever an answer ends, its tokens are known.
func TestUsageIsAlwaysKnown(t *testing.T) {
	const prompt = `"messages":[{"role":"user","content":"twelve bytes"}]` // 3 tokens, and 4 for the message
	chunks := func(more ...string) fakellm.Answer {
		return fakellm.RawEvents(append([]string{`data: {"choices":[{"index":0,"delta":{"content":"four"},"finish_reason":null}]}`}, more...)...)
	}
	const finish, done = `data: {"choices":[{"index":0,"delta":{"content":" five"},"finish_reason":"stop"}]}`, `data: [DONE]`
	json := func(body string) fakellm.Answer {
		return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(body))
	}
	for _, test := range []struct {
		name, path, body string
		answer           fakellm.Answer
		want             tokens.Usage
		estimated        bool
		chars            int
	}{
		{"in a chunk of its own", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(finish, `data: {"choices":[],"usage":{"prompt_tokens":70,"completion_tokens":20}}`, done), tokens.Usage{Input: 70, Output: 20}, false, 9},
		{"on the last chunk", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(strings.TrimSuffix(finish, "}")+`,"usage":{"prompt_tokens":71,"completion_tokens":21}}`, done), tokens.Usage{Input: 71, Output: 21}, false, 9},
		{"nowhere in a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(finish, done), tokens.Usage{Input: 7, Output: 3}, true, 9},
		{"of a stream that broke off", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(), tokens.Usage{Input: 7, Output: 1}, true, 4},
		{"in a whole answer", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":72,"completion_tokens":22}}`), tokens.Usage{Input: 72, Output: 22}, false, 5},
		{"nowhere in a whole answer", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}]}`), tokens.Usage{Input: 7, Output: 2}, true, 5},
		{"null", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}],"usage":null}`), tokens.Usage{Input: 7, Output: 2}, true, 5},
		{"of a response", "responses", `{"model":"m","stream":true,"input":"twelve bytes"}`,
			fakellm.RawEvents("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}",
				"event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"four\"}",
				"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":73,\"output_tokens\":23}}}"),
			tokens.Usage{Input: 73, Output: 23}, false, 4},
		{"of a response that does not say", "responses", `{"model":"m","stream":true,"input":"twelve bytes"}`,
			fakellm.RawEvents("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}",
				"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[]}}"),
			tokens.Usage{Input: 3, Output: 1}, true, 4},
		{"zeros of a whole answer", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`), tokens.Usage{Input: 7, Output: 2}, true, 5},
		{"numbers that cannot be read", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":"?","completion_tokens":-1}}`), tokens.Usage{Input: 7, Output: 2}, true, 5},
		{"an input of zero in a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(finish, `data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":10}}`, done), tokens.Usage{Input: 7, Output: 10}, true, 9},
		{"an output of zero in a whole answer", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":72,"completion_tokens":0}}`), tokens.Usage{Input: 72, Output: 2}, true, 5},
		{"an output of zero without a text", "chat/completions", `{"model":"m",` + prompt + `}`,
			json(`{"choices":[{"message":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":72,"completion_tokens":0}}`), tokens.Usage{Input: 72}, false, 0},
		{"zeros after the counts of a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(strings.TrimSuffix(finish, "}")+`,"usage":{"prompt_tokens":71,"completion_tokens":21}}`, `data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, done),
			tokens.Usage{Input: 71, Output: 21}, false, 9},
		{"in every chunk of a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(`data: {"choices":[{"delta":{"content":""}}],"usage":{"prompt_tokens":71,"completion_tokens":1}}`, strings.TrimSuffix(finish, "}")+`,"usage":{"prompt_tokens":71,"completion_tokens":21}}`, done),
			tokens.Usage{Input: 71, Output: 21}, false, 9},
		{"Groq's in a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(strings.TrimSuffix(finish, "}")+`,"x_groq":{"usage":{"prompt_tokens":71,"completion_tokens":21}}}`, done), tokens.Usage{Input: 71, Output: 21}, false, 9},
		{"Moonshot's in a stream", "chat/completions", `{"model":"m","stream":true,` + prompt + `}`,
			chunks(strings.TrimSuffix(finish, "}]}")+`,"usage":{"prompt_tokens":71,"completion_tokens":21,"cached_tokens":70}}]}`, done), tokens.Usage{Input: 71, Output: 21, Cached: 70}, false, 9},
		{"zeros of embeddings", "embeddings", `{"model":"m","input":"twelve bytes"}`, json(`{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":0,"total_tokens":0}}`), tokens.Usage{Input: 3}, true, 0},
		{"of a ranking", "rerank", `{"model":"m","query":"twelve bytes","documents":["four"]}`, json(`{"results":[{"index":0,"document":{"text":"four"}}],"usage":{"total_tokens":9}}`), tokens.Usage{Input: 9, Searches: 1}, false, 4},
		{"of embeddings", "embeddings", `{"model":"m","input":"twelve bytes"}`, json(`{"data":[{"embedding":[0.1]}]}`), tokens.Usage{Input: 3}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			fake.Always(test.answer)
			s.logged = true // else nobody counts the characters
			s.serve("m u/real")
			s.post("/v1/"+test.path, test.body)
			rec := s.record()
			if diff := cmp.Diff(test.want, rec.Usage); diff != "" || !rec.HasUsage || rec.Estimated != test.estimated || rec.Chars != test.chars {
				t.Errorf("usage known: %v, estimated: %v, %d characters %s", rec.HasUsage, rec.Estimated, rec.Chars, diff)
			}
		})
	}
}
