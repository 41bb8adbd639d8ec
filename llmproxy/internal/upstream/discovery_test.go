package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// ids returns the models that were discovered.
func ids(d *Discovery) (all []string) {
	for _, m := range d.Models {
		all = append(all, m.ID)
	}
	return all
}

// Each kind is detected, and its list of models is read, without generating.
func TestDiscoverEachKind(t *testing.T) {
	t.Parallel()
	for _, kind := range []*Kind{Ollama, VLLM, LlamaCpp, OpenAI} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			server := fakellm.Start(t, kind.Name, fakellm.Models("a", "b:7b", "c/d"))
			u := upstreamAt(t, Config{Name: "u", Kind: Auto}, server.URL())
			if u.ActualKind() != OpenAI || u.Discovered() {
				t.Errorf("before discovery: %s, discovered %v", u.ActualKind().Name, u.Discovered())
			}
			found := u.Discover(t.Context())
			want := []string{"a", "b:7b", "c/d"}
			if kind == LlamaCpp {
				want = want[:len(ids(found))] // it may list only its first model
			}
			if diff := cmp.Diff(want, ids(found)); diff != "" || found.Err != nil || !found.Present || len(found.Models) == 0 {
				t.Errorf("%+v (-want +got):\n%s", found, diff)
			}
			if u.ActualKind() != kind {
				t.Errorf("detected %s", u.ActualKind().Name)
			}
			if n := len(server.Requests()); n > 0 || len(server.Probes()) == 0 {
				t.Errorf("%d requests and %d probes, want probes only", n, len(server.Probes()))
			}
		})
	}
}

func TestDiscoverWhileLoading(t *testing.T) {
	t.Parallel()
	server := fakellm.Start(t, "llamacpp")
	server.SetLoading(true)
	u := upstreamAt(t, Config{Name: "u", Kind: Auto}, server.URL())
	if found := u.Discover(t.Context()); found.Err == nil || u.ActualKind() != LlamaCpp {
		t.Errorf("%v, detected %s", found.Err, u.ActualKind().Name)
	}
}

// An optional upstream is present only if a server of its kind answers.
func TestDiscoverOptional(t *testing.T) {
	t.Parallel()
	other := fakellm.Start(t, "vllm")
	u := upstreamAt(t, Config{Name: "u", Kind: Ollama, Optional: true}, other.URL())
	if found := u.Discover(t.Context()); found.Present || found.Err == nil || len(found.Models) > 0 {
		t.Errorf("present although the server is of another kind: %+v", found)
	}
	server := fakellm.Start(t, "ollama", fakellm.Models("a"))
	u = upstreamAt(t, Config{Name: "u", Kind: Ollama, Optional: true}, server.URL())
	if found := u.Discover(t.Context()); !found.Present || found.Err != nil {
		t.Errorf("not present: %+v", found)
	}
}

// The models of all replicas form one list. If a replica is down, only models that no other replica has are missing.
func TestDiscoverReplicas(t *testing.T) {
	t.Parallel()
	first := fakellm.Start(t, "vllm", fakellm.Models("a", "b"))
	second := fakellm.Start(t, "vllm", fakellm.Models("b", "c"))
	u := upstreamAt(t, Config{Name: "u", Kind: VLLM}, first.URL(), second.URL())
	if diff := cmp.Diff([]string{"a", "b", "c"}, ids(u.Discover(t.Context()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	first.Down()
	u = upstreamAt(t, Config{Name: "u", Kind: VLLM}, first.URL(), second.URL())
	found := u.Discover(t.Context())
	if diff := cmp.Diff([]string{"b", "c"}, ids(found)); diff != "" || found.Err != nil {
		t.Errorf("%v (-want +got):\n%s", found.Err, diff)
	}
}

func TestModelLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   []string
		err    string
	}{
		{"usual", 200, `{"data":[{"id":"a","created":1}]}`, []string{"a"}, ""},
		{"date with a fraction", 200, `{"data":[{"id":"a","created":1.5},{"id":"b"}]}`, []string{"a", "b"}, ""},
		{"without ids", 200, `{"data":[{},{"id":""}]}`, nil, ""},
		{"repeated", 200, `{"data":[{"id":"a"},{"id":"a"}]}`, []string{"a"}, ""},
		{"null", 200, `{"data":null}`, nil, ""},
		{"HTML page", 200, `<html>`, nil, "not a list of models"},
		{"error under 200", 200, `{"error":{"message":"secret"}}`, nil, "not a list of models"},
		{"not found", 404, `{}`, nil, "status 404"},
		{"unauthorized", 401, `{}`, nil, "status 401"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, APIKey: "secret", Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/v1/models" || req.Header.Get("Authorization") != "Bearer secret" {
					t.Errorf("request for %s with %v", req.URL, req.Header)
				}
				return answer(tt.status, tt.body), nil
			})}, "gpu")
			found := u.Discover(t.Context())
			if diff := cmp.Diff(tt.want, ids(found)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (found.Err == nil) != (tt.err == "") || found.Err != nil && (!strings.Contains(found.Err.Error(), tt.err) || strings.Contains(found.Err.Error(), "secret")) {
				t.Errorf("got %v, want %q", found.Err, tt.err)
			}
		})
	}
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// Concurrent callers share one discovery, whose result is used for the time that discovery.go sets.
func TestDiscoverLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		var down atomic.Bool
		u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			requests.Add(1)
			<-time.After(100 * time.Millisecond)
			if down.Load() {
				return nil, errors.New("connection refused")
			}
			return answer(200, `{"data":[{"id":"a"}]}`), nil
		})}, "gpu")
		discover := func(name string, want int64) *Discovery {
			t.Helper()
			found := u.Discover(t.Context())
			synctest.Wait()
			if n := requests.Load(); n != want {
				t.Errorf("%s: %d requests, want %d", name, n, want)
			}
			return found
		}
		var together sync.WaitGroup
		for range 20 {
			together.Go(func() {
				if found := u.Discover(t.Context()); len(found.Models) != 1 {
					t.Errorf("a concurrent call got %+v", found)
				}
			})
		}
		together.Wait()
		first := discover("twenty at once", 1)
		<-time.After(discoveryFresh - time.Second)
		discover("fresh", 1)
		<-time.After(2 * time.Second)
		if found := discover("old", 2); found != first {
			t.Error("Discover did not return the old result")
		}
		<-time.After(time.Second)

		down.Store(true)
		<-time.After(discoveryFresh)
		discover("old again", 3)
		<-time.After(time.Second)
		if found := discover("failed", 3); found.Err == nil || len(found.Models) != 1 {
			t.Errorf("the models of an unreachable server were lost: %+v", found)
		}
		down.Store(false)
		<-time.After(discoveryRetry)
		discover("soon after a failure", 4)
		<-time.After(200 * time.Millisecond)
		if found := discover("back", 4); found.Err != nil {
			t.Errorf("got %v", found.Err)
		}

		u.Rediscover(t.Context())
		if n := requests.Load(); n != 4 {
			t.Error("Rediscover sent a request within a second of the last discovery")
		}
		<-time.After(rediscoveryAtLeast)
		if found := u.Rediscover(t.Context()); requests.Load() != 5 || found.Err != nil {
			t.Errorf("Rediscover = %+v after %d requests, want 5", found, requests.Load())
		}
	})
}

// A client that leaves stops waiting, but does not cancel the discovery, for which other clients may wait.
func TestDiscoverClientLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			select {
			case <-time.After(time.Second):
				return answer(200, `{"data":[{"id":"a"}]}`), nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		})}, "gpu")
		ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		if found := u.Discover(ctx); !errors.Is(found.Err, context.DeadlineExceeded) || found.Models != nil {
			t.Errorf("got %+v", found)
		}
		if found := u.Discover(t.Context()); found.Err != nil || len(found.Models) != 1 {
			t.Errorf("the discovery was canceled: %+v", found)
		}
	})
}

func TestDiscoverTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})}, "gpu")
		start := time.Now()
		if found := u.Discover(t.Context()); !errors.Is(found.Err, context.DeadlineExceeded) || time.Since(start) != discoveryTimeout {
			t.Errorf("got %+v after %v, want %v", found, time.Since(start), discoveryTimeout)
		}
	})
}
