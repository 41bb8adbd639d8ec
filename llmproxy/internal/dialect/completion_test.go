package dialect

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A parameter that chat does not have is an error that names it.
func TestCompletionsThatAreNoChat(t *testing.T) {
	t.Parallel()
	const prompt = `"prompt":"Hi"`
	for _, tt := range []struct{ name, request, param, message string }{
		{"no prompt", `{"model":"m"}`, "prompt", "prompt: is missing; send a text"},
		{"null", `{"prompt":null}`, "prompt", "prompt: is missing; send a text"},
		{"an empty text", `{"prompt":""}`, "prompt", "prompt: is empty; send a text"},
		{"an empty list", `{"prompt":[]}`, "prompt", "prompt: is missing; send a text"},
		{"a list of an empty text", `{"prompt":[""]}`, "prompt", "prompt: is empty; send a text"},
		{"two texts", `{"prompt":["a","b"]}`, "prompt", "prompt: has 2 texts, and this model has a chat API only; send a request for each"},
		{"tokens", `{"prompt":[1,2]}`, "prompt", "prompt: must be a text, because this model has a chat API only: tokens are not possible"},
		{"a list of tokens", `{"prompt":[[1,2]]}`, "prompt", "prompt: must be a text, because this model has a chat API only: tokens are not possible"},
		{"logprobs", `{` + prompt + `,"logprobs":0}`, "logprobs", "logprobs: is not possible with this model, which has a chat API only; leave it out"},
		{"echo", `{` + prompt + `,"echo":true}`, "echo", "echo: is not possible with this model, which has a chat API only; leave it out"},
		{"suffix", `{` + prompt + `,"suffix":"}"}`, "suffix", "suffix: is not possible with this model, which has a chat API only; leave it out"},
		{"best_of", `{` + prompt + `,"best_of":2}`, "best_of", "best_of: is not possible with this model, which has a chat API only; leave it out"},
		{"messages", `{` + prompt + `,"messages":[]}`, "messages", "messages: belongs to chat; send the request to /v1/chat/completions"},
		{"tools", `{` + prompt + `,"tools":[]}`, "tools", "tools: belongs to chat; send the request to /v1/chat/completions"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body, err := ChatFromCompletion(scan(t, tt.request))
			if err == nil {
				t.Fatalf("got %s", body)
			}
			if diff := cmp.Diff(tt.message, err.Message); err.Status != 400 || err.Param != tt.param || diff != "" {
				t.Errorf("status %d, param %s %s", err.Status, err.Param, diff)
			}
		})
	}
}

// Requests of any JSON become chat with one message, or an error that names a parameter.
func FuzzChatFromCompletion(f *testing.F) {
	addGoldens(f, "completion-request")
	f.Add([]byte(`{"prompt":["a"],"\u0070rompt":"b","best_of":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		chat, err := ChatFromCompletion(&o)
		if err != nil {
			if err.Status != 400 || err.Param == "" {
				t.Errorf("%s is refused with status %d, %q", body, err.Status, err.Param)
			}
			return
		}
		var request struct {
			Messages []struct{ Role, Content string }
		}
		if failed := json.Unmarshal(chat, &request); failed != nil || len(request.Messages) != 1 || request.Messages[0].Content == "" {
			t.Errorf("%s becomes %s, %v", body, chat, failed)
		}
	})
}

// Chunks and answers of any JSON become JSON, in which every choice has a text.
func FuzzCompletionAnswer(f *testing.F) {
	addGoldens(f, "completion-answer")
	addGoldens(f, "chat-answer")
	f.Add([]byte(`{"choices":[{"delta":{"content":[{"thinking":"a"}],"reasoning":"b"}},{"delta":null,"message":{"content":"c"}},{}],"choices":null}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var o jsonspan.Object
		if o.Scan(answer) != nil {
			return
		}
		var c CompletionAnswer
		event := c.Append(nil, []byte(strings.ReplaceAll(string(answer), "\n", " ")))
		if e, rest := sse.Cut(event); len(rest) > 0 || !json.Valid(e.Data) {
			t.Errorf("%s becomes %s", answer, event)
		}
		whole, _, ok := c.Whole(nil, answer)
		if !ok {
			return
		}
		var completion struct{ Choices []any }
		if err := json.Unmarshal(whole, &completion); err != nil {
			t.Errorf("%s becomes %s, %v", answer, whole, err)
		}
		for _, choice := range completion.Choices {
			if text, ok := choice.(map[string]any)["text"].(string); !ok {
				t.Errorf("%s becomes %s, text %q", answer, whole, text)
			}
		}
	})
}

func TestCompletionAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`{}`, `{"choices":null}`, `{"choices":{}}`, `[]`, `{"error":{"message":"no"}}`} {
		if got, _, ok := new(CompletionAnswer).Whole(nil, []byte(answer)); ok {
			t.Errorf("%s became %s", answer, got)
		}
	}
}

// Whatever CheckTokenize accepts becomes a request for chat, or an error that names a parameter.
func FuzzChatToTokenize(f *testing.F) {
	f.Add([]byte(`{"model":"m","prompt":"Hi"}`))
	f.Add([]byte(`{"content":"Hi","prompt":null,"with_pieces":true}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":"Hi"}],"content":1,"tools":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o, chat jsonspan.Object
		if o.Scan(body) != nil || CheckTokenize(&o) != nil {
			return
		}
		got, err := ChatToTokenize(&o)
		if err != nil {
			if err.Status != 400 || err.Param == "" {
				t.Errorf("%s is refused with status %d, %q", body, err.Status, err.Param)
			}
			return
		}
		if failed := chat.Scan(got); failed != nil {
			t.Fatalf("%s becomes %s: %v", body, got, failed)
		}
		if messages, ok := chat.Get("messages"); !ok || messages[0] != '[' && messages[0] != 'n' {
			t.Errorf("%s becomes %s", body, got)
		}
	})
}
