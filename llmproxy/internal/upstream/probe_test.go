package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// What serves at an address is told by paths that only it has, asked in an order in which no server takes harm.
func TestKindOf(t *testing.T) {
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
		{"llama.cpp while it loads", map[string]func() (*http.Response, error){
			"/props": func() (*http.Response, error) {
				return answer(503, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`), nil
			}}, LlamaCpp},
		{"a gateway", nil, OpenAI},
		{"one that answers everything with a page", map[string]func() (*http.Response, error){
			"/api/version": ok("<html>"), "/version": ok("<html>"), "/props": ok("<html>")}, OpenAI},
		{"another version at the path", map[string]func() (*http.Response, error){"/api/version": ok(`{"v":1}`)}, OpenAI},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Method != http.MethodGet || req.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("asked with %s, %v", req.Method, req.Header)
				}
				if f := tt.paths[req.URL.Path]; f != nil {
					return f()
				}
				return answer(404, "404 page not found"), nil
			})}, "gpu")
			p := &prober{ctx: t.Context(), u: u, base: u.Bases[0]}
			if k, err := p.kind(); k != tt.want || err != nil {
				t.Errorf("taken for %v, %v; want %s", k, err, tt.want.Name)
			}
		})
	}
}

// A server that cannot be reached is not taken for anything.
func TestKindOfNobody(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })}, "gpu")
	if view := u.View(t.Context()); !errors.Is(view.Err, refused) || u.kind.Load() != nil {
		t.Errorf("got %v, kind %v", view.Err, u.kind.Load())
	}
}

// An address with a path of its own is an API's base: nothing else is asked there.
func TestKindOfBase(t *testing.T) {
	t.Parallel()
	var asked []string
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		asked = append(asked, req.URL.Path)
		return answer(200, `{"data":[]}`), nil
	})}, "https://api.example.com/openai/v1")
	if u.View(t.Context()); u.kind.Load() != OpenAI || strings.Join(asked, " ") != "/openai/v1/models" {
		t.Errorf("kind %v, asked for %q", u.kind.Load(), asked)
	}
}

// An answer without end is read up to a bound.
func TestProbeBound(t *testing.T) {
	t.Parallel()
	u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat(" ", 2*maxProbeAnswer)), nil
	})}, "gpu")
	p := &prober{ctx: context.Background(), u: u, base: u.Bases[0]}
	if _, body := p.get("/x"); len(body) != maxProbeAnswer {
		t.Errorf("%d bytes were read", len(body))
	}
}
