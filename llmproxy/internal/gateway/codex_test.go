package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// recorded is the directory of the requests that Codex 0.171.0 sent: its long texts are shortened, its IDs and paths replaced.
const recorded = "../dialect/testdata/codex"

// codexHeaders returns recorded headers.
func codexHeaders(t *testing.T, name string) http.Header {
	t.Helper()
	f, err := os.Open(filepath.Join(recorded, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := http.Header{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		h.Add(textproto.CanonicalMIMEHeaderKey(name), value)
	}
	if len(h) == 0 {
		t.Fatal("no headers")
	}
	return h
}

// codexRequests returns the recorded bodies by their names.
func codexRequests(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(recorded, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests, %v", err)
	}
	requests := map[string]string{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		requests[strings.TrimSuffix(filepath.Base(file), ".json")] = strings.TrimSpace(string(body))
	}
	return requests
}

// sendCodex sends a request as Codex does, compressed or not.
func (s *setup) sendCodex(body string, header http.Header, compressed bool) reply {
	s.t.Helper()
	encoded := []byte(body)
	if compressed {
		encoded = []byte(zstandard(s.t, body))
	}
	req, err := http.NewRequest(http.MethodPost, s.server.URL+"/v1/responses", strings.NewReader(string(encoded)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header.Clone()
	if compressed {
		req.Header.Set("Content-Encoding", "zstd")
	}
	return s.do(req)
}

// What Codex sends reaches an upstream with the Responses API byte for byte, except for the model's name.
func TestCodexPasses(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "openai", fakellm.Models("x"))
	fake.Always(fakellm.Text("Hel", "lo"))
	s := &setup{t: t}
	s.up("u", upstream.OpenAI, nil, fake.URL())
	s.serve("coder u/x", "gpt-* u/x")
	for name, body := range codexRequests(t) {
		for _, compressed := range []bool{false, true} {
			got := s.sendCodex(body, codexHeaders(t, "headers.txt"), compressed)
			if got.status != http.StatusOK || !strings.Contains(got.body, "response.completed") {
				t.Fatalf("%s: status %d: %s", name, got.status, got.body)
			}
			want := strings.NewReplacer(`{"model":"coder"`, `{"model":"x"`, `{"model":"gpt-5.5"`, `{"model":"x"`, `{"model":"gpt-6.2-sol"`, `{"model":"x"`).Replace(body)
			sent := last(fake)
			if diff := cmp.Diff(want, string(sent.Body)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if sent.Header.Get("Authorization") != "" || sent.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s: sent %v", name, sent.Header)
			}
		}
	}
}

// Codex opens a WebSocket first. Only status 426 makes it go on over HTTP at once.
func TestCodexOpensNoWebSocket(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	s.up("u", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.serve("coder u/x")
	for _, method := range []string{http.MethodGet, http.MethodOptions} {
		req, err := http.NewRequest(method, s.server.URL+"/v1/responses", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = codexHeaders(t, "headers-websocket.txt")
		req.Header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		if got := s.do(req); got.status != http.StatusUpgradeRequired {
			t.Errorf("%s: status %d: %s", method, got.status, got.body)
		}
	}
}

// Codex gets the models that its key may use in its own format. It refuses the whole list if an entry lacks one of these members.
func TestCodexListsModels(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "vllm", fakellm.Models("qwen"), fakellm.Adapters("qwen", "sql", "secret", "qwen-embed"))
	s := &setup{t: t}
	s.up("box", upstream.VLLM, func(c *upstream.Config) {
		c.ModelOverrides = map[string]upstream.Override{"qwen": {Can: router.Images | router.Tools}, "sql": {Cannot: router.Tools}}
	}, fake.URL())
	s.config.Discover = true
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"qwen", "sql", "qwen-embed"}})
	s.serve()
	got := s.ask("/v1/models?client_version=0.171.0", "Authorization", "Bearer secret-alice")
	var list struct{ Models []map[string]any }
	if err := json.Unmarshal([]byte(got.body), &list); err != nil || got.status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", got.status, err, got.body)
	}
	var models []string
	for _, m := range list.Models {
		for _, name := range []string{
			"slug", "display_name", "supported_reasoning_levels", "shell_type", "visibility", "supported_in_api", "priority", "base_instructions", "support_verbosity",
			"truncation_policy", "experimental_supported_tools", "supports_reasoning_summaries", "supports_parallel_tool_calls",
		} {
			if m[name] == nil {
				t.Errorf("%s has no %s", m["slug"], name)
			}
		}
		models = append(models, fmt.Sprint(m["slug"], " ", m["visibility"], " ", m["context_window"], " ", m["input_modalities"], " ", m["truncation_policy"], " ", m["priority"]))
	}
	want := []string{"qwen list 4096 [text image] map[limit:1000 mode:tokens] 1", "sql hide 4096 [text] map[limit:1000 mode:tokens] 2"}
	if diff := cmp.Diff(want, models); diff != "" {
		t.Error(diff)
	}
	tag := got.header.Get("Etag")
	if again := s.ask("/v1/models?client_version=0.171.0", "Authorization", "Bearer secret-alice").header.Get("Etag"); tag == "" || again != tag {
		t.Errorf("ETag %q, then %q", tag, again)
	}
	if other := s.ask("/v1/models?client_version=0.171.0"); other.status != http.StatusUnauthorized {
		t.Errorf("without a key: status %d", other.status)
	}
	if other := s.ask("/v1/models", "Authorization", "Bearer secret-alice"); !strings.HasPrefix(other.body, `{"data":[{"id":"qwen"`) || other.header.Get("Etag") != "" {
		t.Errorf("OpenAI's list: %s", other.body)
	}
}

// The headers of Codex reach a server that has the Responses API, and its own come back. Credentials, cookies and everything else stay, and a
// request that goes by chat has none of them.
func TestCodexHeaders(t *testing.T) {
	t.Parallel()
	openAI, box := fakellm.Start(t, "openai", fakellm.Models("x")), fakellm.Start(t, "llamacpp")
	openAI.Always(fakellm.Text("Hello").With("X-Codex-Turn-State", "state", "Openai-Model", "gpt-x", "X-Models-Etag", "theirs", "Set-Cookie", "a=b", "Openai-Organization", "org"))
	box.Always(fakellm.Text("Hello").With("X-Codex-Turn-State", "state"))
	s := &setup{t: t}
	s.up("openai", upstream.OpenAI, func(c *upstream.Config) { c.APIKey = "sk-up" }, openAI.URL())
	s.up("box", upstream.LlamaCpp, nil, box.URL())
	s.serve("coder openai/x", "local box/x")
	header := codexHeaders(t, "headers-openai.txt")
	header.Set("Cookie", "secret=1")
	header.Set("Openai-Organization", "theirs")
	header.Set("X-Oai-Attestation", "secret")
	body := codexRequests(t)["first"]
	got := s.sendCodex(body, header, false)
	sent := last(openAI).Header
	for name := range header {
		_, is := map[string]bool{
			"Session-Id": true, "Thread-Id": true, "X-Client-Request-Id": true, "Originator": true, "Version": true, "X-Codex-Turn-Metadata": true, "X-Codex-Window-Id": true, "X-Codex-Beta-Features": true,
			"Accept": true, "Content-Type": true,
		}[name]
		if passes := sent.Get(name) == header.Get(name); passes != is {
			t.Errorf("%s passes: %v", name, passes)
		}
	}
	if sent.Get("Authorization") != "Bearer sk-up" || strings.Contains(fmt.Sprint(sent), "secret") {
		t.Errorf("sent %v", sent)
	}
	back := got.header
	if back.Get("X-Codex-Turn-State") != "state" || back.Get("Openai-Model") != "gpt-x" || back["X-Models-Etag"] != nil || back["Set-Cookie"] != nil || back["Openai-Organization"] != nil {
		t.Errorf("got %v", back)
	}
	got = s.sendCodex(strings.Replace(body, `"coder"`, `"local"`, 1), header, false)
	if got.status != http.StatusOK || got.header["X-Codex-Turn-State"] != nil {
		t.Errorf("status %d, %v: %s", got.status, got.header, got.body)
	}
	for name := range last(box).Header {
		if strings.HasPrefix(name, "X-Codex-") || strings.Contains("Session-Id Thread-Id Originator Version X-Client-Request-Id", name) {
			t.Errorf("sent %s: %v", name, last(box).Header[name])
		}
	}
}

// Conversations are compacted by OpenAI and Azure. Elsewhere the error says so, at once.
func TestCodexCompacts(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	openAI, box := fakellm.Start(t, "openai", fakellm.Models("x")), fakellm.Start(t, "vllm")
	const compacted = `{"object":"response.compaction","output":[]}`
	openAI.OnPath("/v1/responses/compact", fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(compacted)))
	s.up("openai", upstream.OpenAI, nil, openAI.URL())
	s.up("box", upstream.VLLM, nil, box.URL())
	s.serve("coder openai/x", "local box/x", "both box/x | openai/x")
	body := func(model string) string { return `{"model":"` + model + `","input":[]}` }
	for _, model := range []string{"coder", "both"} {
		if got := s.post("/v1/responses/compact", body(model)); got.status != http.StatusOK || got.body != compacted {
			t.Errorf("%s: status %d: %s", model, got.status, got.body)
		}
	}
	if got := s.post("/v1/responses/compact", body("local")); got.status != http.StatusBadRequest || !strings.Contains(got.body, "cannot compact conversations") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if n := len(box.Requests()); n != 0 {
		t.Errorf("the box saw %d requests", n)
	}
}

// The session that Codex names stays on its route.
func TestSessionsOfCodexStay(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.up("b", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.config.Affinity = NewAffinity()
	s.models = []router.Model{{Name: "coder", Routes: []router.RouteConfig{{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"b/x"}}, {Targets: []string{"a/x"}}}}}
	s.serve()
	header := codexHeaders(t, "headers.txt")
	body := codexRequests(t)["first"]
	for _, hard := range []string{"1", ""} {
		if header.Set("X-Hard", hard); hard == "" {
			header.Del("X-Hard")
		}
		if got := s.sendCodex(body, header, false).header.Get("X-Llm-Target"); got != "b/x" {
			t.Errorf("it went to %s", got)
		}
	}
}
