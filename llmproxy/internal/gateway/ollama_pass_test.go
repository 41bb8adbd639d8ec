package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An Ollama server gets the bytes of clients of its own API, but for the model's name and what the configuration changes, and they get its
// bytes.
func TestOllamaPasses(t *testing.T) {
	t.Parallel()
	const odd = `{ "messages" : [{"role":"user","content":"caf\u00e9","future":1}] ,"options":{"temperature":0.0, "num_ctx":9},"think" : true,"model":"m","unknown":{"b":1,"a":[ ]}}`
	for _, test := range []struct {
		name, path, send, want string
		used                   tokens.Usage
	}{
		{"chat", "/api/chat", odd, strings.Replace(odd, `"m"`, `"real"`, 1), tokens.Usage{Input: 12, Output: 7}},
		{
			"whole", "/api/chat", `{"model":"m","stream":false,"keep_alive":-1,"messages":[{"role":"user","content":"x"}]}`,
			`{"model":"real","stream":false,"messages":[{"role":"user","content":"x"}]}`, tokens.Usage{Input: 12, Output: 7},
		},
		{
			"what only Ollama generates", "/api/generate", `{"model":"m","prompt":"x","raw":true,"suffix":"s","context":[1, 2],"options":{"num_gpu":1,"seed":1}}`,
			`{"model":"real","prompt":"x","raw":true,"suffix":"s","context":[1, 2],"options":{"seed":1}}`, tokens.Usage{Input: 12, Output: 7},
		},
		{"embed", "/api/embed", `{"model":"m","input":["a"]}`, `{"model":"real","input":["a"]}`, tokens.Usage{Input: 7}},
		{"embeddings", "/api/embeddings", `{"model":"m","prompt":"a"}`, `{"model":"real","prompt":"a"}`, tokens.Usage{Input: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "ollama", func(c *upstream.Config) { c.AllowOptions = []string{"num_ctx"} })
			s.serve("m u/real")
			got := s.post(test.path, test.send)
			request := fake.Requests()[0]
			if diff := cmp.Diff(test.want, string(request.Body)); diff != "" || request.Path != test.path {
				t.Errorf("to %s: %s", request.Path, diff)
			}
			res, err := http.Post(fake.URL()+test.path, "application/json", strings.NewReader(test.want)) //nolint:noctx // directly, to compare
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			direct, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(direct), got.body); diff != "" {
				t.Errorf("-direct +through the gateway:\n%s", diff)
			}
			if direct, through := res.Header.Get("Content-Type"), got.header.Get("Content-Type"); direct != through {
				t.Errorf("type %s, directly %s", through, direct)
			}
			if diff := cmp.Diff(test.used, s.record().Usage); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A failure in the middle of an answer that passes is a line with an error, and nothing after it.
func TestOllamaPassesErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		end    string
	}{
		{"a line", fakellm.Text("a", "b").ErrorEventAfter(1), "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n"},
		{"no end", fakellm.Text("a", "b").CutAfter(1), "the answer is not complete.\"}\n"},
		{"half a line", fakellm.Text("a", "b").DropAfter(1), "the answer is not complete.\"}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "ollama", nil)
			fake.Always(test.answer)
			s.serve("m u/x")
			got := s.post("/api/chat", `{"model":"m","messages":[{"role":"user","content":"x"}]}`)
			lines := strings.SplitAfter(got.body, "\n")
			if len(lines) != 3 || !strings.Contains(lines[0], `"content":"a"`) || !strings.HasSuffix(lines[1], test.end) || !strings.HasPrefix(lines[1], `{"error":"`) {
				t.Errorf("%q", lines)
			}
			if rec := s.record(); rec.Verdict != router.Failed {
				t.Error(rec.Verdict)
			}
		})
	}
	s, fake := one(t, "ollama", nil)
	fake.Always(fakellm.NoTools())
	s.serve("m u/x")
	got := s.post("/api/chat", `{"model":"m","messages":[{"role":"user","content":"x"}]}`)
	if got.status != http.StatusBadRequest || got.body != `{"error":"registry.ollama.ai/library/x does not support tools"}` {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// A request that only Ollama servers can take goes to one, although another target comes first.
func TestOnlyOllamaTakesRaw(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"openai", "anthropic"} {
		s := &setup{t: t}
		k, err := upstream.KindNamed(kind)
		if err != nil {
			t.Fatal(err)
		}
		s.up("api", k, nil, fakellm.Start(t, kind).URL())
		s.up("gpu", upstream.Ollama, nil, fakellm.Start(t, "ollama").URL())
		s.serve("m api/x | gpu/y")
		got := s.post("/api/generate", `{"model":"m","prompt":"x","raw":true}`)
		if target := s.record().Target; got.status != http.StatusOK || target != "gpu/y" {
			t.Errorf("%s: status %d from %s: %s", kind, got.status, target, got.body)
		}
	}
}
