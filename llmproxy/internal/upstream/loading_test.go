package upstream

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// warmed keeps models warm for two and a half minutes and returns what the server was asked by POST.
func warmed(t *testing.T, kind *Kind, models []string, before func(*Upstream), respond func(path, body string) (status int, answer string)) (posts []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		u := upstreamAt(t, Config{Name: "u", Kind: kind, Warm: models, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			if req.Method == http.MethodPost {
				mu.Lock()
				posts = append(posts, req.URL.Path+" "+string(body))
				mu.Unlock()
			}
			status, text := respond(req.URL.Path, string(body))
			return answer(status, text), nil
		})}, "gpu")
		if before != nil {
			before(u)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		u.KeepWarm(ctx)
	})
	return posts
}

func TestKeepWarm(t *testing.T) {
	t.Parallel()
	const load, embed = `/api/generate {"keep_alive":"10m","model":"a","stream":false}`, `/api/embed {"input":"","keep_alive":"10m","model":"a"}`
	ollama := func(path, body string) (int, string) { return 200, `{"models":[]}` }
	t.Run("every minute", func(t *testing.T) {
		t.Parallel()
		if diff := cmp.Diff([]string{load, load, load}, warmed(t, Ollama, []string{"a"}, nil, ollama)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("with the options of requests", func(t *testing.T) {
		t.Parallel()
		got := warmed(t, Ollama, []string{"a"}, func(u *Upstream) {
			u.Params = []Param{{Name: "keep_alive", Value: []byte("-1")}, {Name: "num_ctx", Value: []byte("8192")}}
		}, ollama)
		if want := `/api/generate {"keep_alive":-1,"model":"a","options":{"num_ctx":8192},"stream":false}`; len(got) != 3 || got[0] != want {
			t.Errorf("%q, want %s", got, want)
		}
	})
	t.Run("a model for embeddings", func(t *testing.T) {
		t.Parallel()
		got := warmed(t, Ollama, []string{"a"}, nil, func(path, body string) (int, string) {
			if path == "/api/generate" {
				return 400, `{"error":"\"a\" does not support generate"}`
			}
			return 200, `{"models":[]}`
		})
		if diff := cmp.Diff([]string{load, embed, load, embed, load, embed}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not while another model is in use", func(t *testing.T) {
		t.Parallel()
		got := warmed(t, Ollama, []string{"a"}, func(u *Upstream) { u.Use(u.Replicas[0], "b", false) }, ollama)
		if diff := cmp.Diff([]string{load, load}, got); diff != "" { // after one and two minutes
			t.Error(diff)
		}
	})
	t.Run("not while the server is down", func(t *testing.T) {
		t.Parallel()
		got := warmed(t, Ollama, []string{"a"}, func(u *Upstream) { u.Replicas[0].Report("a", router.Outcome{Verdict: router.Unreachable}, true) }, ollama)
		if len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
	t.Run("llama.cpp in router mode, once", func(t *testing.T) {
		t.Parallel()
		status := "unloaded"
		got := warmed(t, LlamaCpp, []string{"a"}, nil, func(path, body string) (int, string) {
			if path == "/models/load" {
				status = "loaded"
				return 200, `{"success":true}`
			}
			return 200, `{"data":[{"id":"a","status":{"value":"` + status + `"}}]}`
		})
		if diff := cmp.Diff([]string{`/models/load {"model":"a"}`}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("llama.cpp with one model, never", func(t *testing.T) {
		t.Parallel()
		if got := warmed(t, LlamaCpp, []string{"a"}, nil, func(path, body string) (int, string) { return 200, `{"data":[{"id":"x.gguf"}]}` }); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
	for _, k := range Kinds {
		if want := strings.Contains("ollama llamacpp", k.Name); k.CanWarm() != want {
			t.Errorf("%s: CanWarm = %v", k.Name, !want)
		}
	}
}

// A llama.cpp in router mode that has no space for a model is asked again until it has, and then until the model is loaded. A load that
// fails ends the wait. With one model, there is nothing to load.
func TestLoadAtLlamaCpp(t *testing.T) {
	t.Parallel()
	status := func(value string) string {
		return `{"data":[{"id":"m","aliases":["other"],"status":{"value":"` + value + `"}}]}`
	}
	failed := `{"data":[{"id":"m","status":{"value":"unloaded","failed":true,"exit_code":1}}]}`
	for _, test := range []struct {
		name, model string
		lists       []string // the answers of /models; the last one stays
		refusals    int      // of /models/load
		posts       int
		took        time.Duration
	}{
		{"one model", "m", []string{`{"data":[{"id":"m","meta":{}}]}`}, 0, 0, 0},
		{"loaded", "m", []string{status("loaded")}, 0, 0, 0},
		{"by another name", "other", []string{status("unloaded"), status("loaded")}, 0, 1, llamaCppAskAgain},
		{"unknown", "x", []string{status("unloaded")}, 0, 0, 0},
		{"not loaded", "m", []string{status("unloaded"), status("loading"), status("loading"), status("loaded")}, 0, 1, 3 * llamaCppAskAgain},
		{"no space", "m", []string{status("unloaded"), status("unloaded"), status("unloaded"), status("loaded")}, 2, 3, 3 * llamaCppAskAgain},
		{"it fails", "m", []string{status("unloaded"), status("loading"), failed}, 0, 1, 2 * llamaCppAskAgain},
		{"it failed before", "m", []string{failed, status("loaded")}, 0, 1, llamaCppAskAgain},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				lists, posts, refusals := test.lists, 0, test.refusals
				u := upstreamAt(t, Config{Name: "u", Kind: LlamaCpp, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodPost {
						if posts++; refusals > 0 {
							refusals--
							return answer(500, `{"error":{"code":500,"message":"model limit reached, try again later","type":"server_error"}}`), nil
						}
						return answer(200, `{"success":true}`), nil
					}
					list := lists[0]
					if len(lists) > 1 {
						lists = lists[1:]
					}
					return answer(200, list), nil
				})}, "gpu")
				began := time.Now()
				p := &probe{ctx: t.Context(), u: u, base: u.Bases[0]}
				if ok := llamaCppLoad(p, test.model, false); !ok || posts != test.posts || time.Since(began) != test.took {
					t.Errorf("%t after %s and %d requests, want %d after %s", ok, time.Since(began), posts, test.posts, test.took)
				}
			})
		})
	}
}
