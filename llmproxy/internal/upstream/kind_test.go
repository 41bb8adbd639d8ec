package upstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, want, err string }{
		{"localhost:11434", "http://localhost:11434/v1", ""},
		{"http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", ""},
		{"http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1", ""},
		{"http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", ""},
		{"https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1", ""},
		{"https://example.com/a%2Fb", "https://example.com/a/b", ""},
		{"[::1]:8080", "http://[::1]:8080/v1", ""},
		{"gpu", "http://gpu/v1", ""},
		{"", "", "has no host"},
		{"http://", "", "has no host"},
		{"http://:8080", "", "has no host"},
		{"ftp://example.com", "", `unknown scheme "ftp"; use http or https`},
		{"http://gpu:0", "", "invalid port 0; use 1 to 65535"},
		{"http://gpu:65536", "", "invalid port 65536; use 1 to 65535"},
		{"http://gpu:", "http://gpu:/v1", ""},
		{"unix//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix+h2c//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix:///run/llm.sock", "", `unknown scheme "unix"; use http or https`},
		{"https://user:secret@example.com", "", "contains a password; use api_key or header_up"},
		{"https://example.com?key=secret", "", "a base URL has no query and no fragment"},
		{"https://example.com#x", "", "a base URL has no query and no fragment"},
		{"http://a b", "", "invalid character"},
	} {
		t.Run(tt.address, func(t *testing.T) {
			t.Parallel()
			u, err := OpenAI.ParseAddress(tt.address)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v; want an error with %q", u, err, tt.err)
				}
				if strings.Contains(tt.address, "user:secret") && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error contains the password: %v", err)
				}
				return
			}
			if err != nil || u.String() != tt.want {
				t.Errorf("got %v, %v; want %s", u, err, tt.want)
			}
		})
	}
}

func TestKindNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ollama", "vllm", "llamacpp", "openai", "echo", "auto"} {
		if k, err := KindNamed(name); err != nil || k.Name != name {
			t.Errorf("%s: got %+v, %v", name, k, err)
		}
	}
	if _, err := KindNamed("olama"); err == nil || !strings.Contains(err.Error(), `unknown kind of upstream "olama": use one of ollama, vllm`) {
		t.Errorf("got %v", err)
	}
}

// The kind of a server is detected by paths that only this kind has.
func TestDetectKind(t *testing.T) {
	t.Parallel()
	ok := func(body string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return answer(200, body), nil }
	}
	for _, tt := range []struct {
		name  string
		paths map[string]func() (*http.Response, error)
		want  *Kind
	}{
		{"ollama", map[string]func() (*http.Response, error){"/api/version": ok(`{"version":"0.11.4"}`)}, Ollama},
		{"vllm", map[string]func() (*http.Response, error){"/version": ok(`{"version":"0.12"}`)}, VLLM},
		{"llama.cpp", map[string]func() (*http.Response, error){"/props": ok(`{"default_generation_settings":{},"total_slots":1}`)}, LlamaCpp},
		{"llama.cpp while loading", map[string]func() (*http.Response, error){
			"/props": func() (*http.Response, error) {
				return answer(503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`), nil
			}}, LlamaCpp},
		{"none of these paths", nil, OpenAI},
		{"an HTML page at every path", map[string]func() (*http.Response, error){
			"/api/version": ok("<html>"), "/version": ok("<html>"), "/props": ok("<html>")}, OpenAI},
		{"another object at the path", map[string]func() (*http.Response, error){"/api/version": ok(`{"v":1}`)}, OpenAI},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Method != http.MethodGet || req.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("probed with %s, %v", req.Method, req.Header)
				}
				if f := tt.paths[req.URL.Path]; f != nil {
					return f()
				}
				return answer(404, "404 page not found"), nil
			})}, "gpu")
			p := &probe{ctx: t.Context(), u: u, base: u.Bases[0]}
			if k, err := p.detectKind(); k != tt.want || err != nil {
				t.Errorf("detected %v, %v; want %s", k, err, tt.want.Name)
			}
		})
	}
}

// An unreachable server leaves the kind unknown.
func TestDetectKindUnreachable(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })}, "gpu")
	if found := u.Discover(t.Context()); !errors.Is(found.Err, refused) || u.kind.Load() != nil {
		t.Errorf("got %v, kind %v", found.Err, u.kind.Load())
	}
}

// An address with its own path is the base of an API, and other paths are not probed.
func TestDetectKindAtBase(t *testing.T) {
	t.Parallel()
	var paths []string
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		paths = append(paths, req.URL.Path)
		return answer(200, `{"data":[]}`), nil
	})}, "https://api.example.com/openai/v1")
	if u.Discover(t.Context()); u.kind.Load() != OpenAI || strings.Join(paths, " ") != "/openai/v1/models" {
		t.Errorf("kind %v, requests for %q", u.kind.Load(), paths)
	}
}
