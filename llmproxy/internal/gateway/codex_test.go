package gateway

import (
	"bufio"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
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
