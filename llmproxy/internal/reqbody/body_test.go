package reqbody

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A log can ask for the signals of a request whose body has been closed, and finds what they were, although the memory may belong to another request now.
func TestKeep(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		size       int
		keep, read bool // read: the signals were needed before
		want       bool // their content is there
		pooled     bool // the memory is used again
	}{
		{"small", 1000, true, false, true, true},
		{"large", 100_000, true, false, true, false},
		{"large, with signals", 100_000, true, true, true, true},
		{"no log", 1000, false, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Repeat("a", test.size)
			b, usage := readChat(t, text, test.keep)
			request, held := b.JSON(), b.buffer.memory.bytes
			if test.read {
				request.Signals()
			}
			b.Close()
			b.Close()
			if pooled := b.buffer.memory.holders.Load() == 0; pooled != test.pooled || usage.Bytes() != 0 {
				t.Errorf("pooled %t with %d bytes reserved, want %t and none", pooled, usage.Bytes(), test.pooled)
			}
			if test.pooled {
				clear(*held) // by the next request
			}
			if got := request.Signals().Content(); got != text[:min(len(text), len(got))] || (got != "") != test.want {
				t.Errorf("the content is %.40q, want it %t", got, test.want)
			}
		})
	}
}

// The memory of a small body, and of one whose signals were read, is used again while its answer is streamed.
func TestRelease(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		size       int
		keep, read bool // read: the signals were needed before
		released   bool
	}{
		{"small", 1000, false, false, true},
		{"small, for a log", 1000, true, false, true},
		{"large", 100_000, false, false, false},
		{"large, with signals", 100_000, false, true, true},
		{"large, with signals, for a log", 100_000, true, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Repeat("a", test.size)
			b, usage := readChat(t, text, test.keep)
			request, held := b.JSON(), b.buffer.memory.bytes
			if test.read {
				request.Signals()
			}
			b.Release()
			if released := usage.Bytes() == 0; released != test.released {
				t.Errorf("released %t, want %t", released, test.released)
			}
			if test.released {
				clear(*held) // by the next request
			}
			signals := request.Signals()
			if want := openai.EstimateTokens(test.size); signals.PromptTokens < want {
				t.Errorf("%d tokens, want at least %d", signals.PromptTokens, want)
			}
			if test.keep && !strings.HasPrefix(text, signals.Content()) || test.keep && signals.Content() == "" {
				t.Errorf("the content is %.40q", signals.Content())
			}
			b.Close()
			if usage.Bytes() != 0 {
				t.Errorf("%d bytes are left", usage.Bytes())
			}
		})
	}
}

// readChat reads a request for chat with a text, and returns what is reserved for it, too.
func readChat(t *testing.T, text string, keep bool) (*Body, *memory.Usage) {
	t.Helper()
	chat, _ := openai.LookupEndpoint("/v1/chat/completions")
	r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"`+text+`"}]}`))
	b, usage := new(Body), new(memory.Usage)
	if err := b.Read(&sender{}, r, chat, Options{Limit: 1 << 20, Keep: keep, Memory: memory.NewAccount(usage, 1<<20)}); err != nil {
		t.Fatal(err)
	}
	return b, usage
}
