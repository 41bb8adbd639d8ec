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

func ids(v *Discovery) (all []string) {
	for _, m := range v.Models {
		all = append(all, m.ID)
	}
	return all
}

// The lists of real servers' shapes are read, and what serves at an address is found by asking.
func TestViewOfEachKind(t *testing.T) {
	t.Parallel()
	for _, kind := range []*Kind{Ollama, VLLM, LlamaCpp, OpenAI} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			server := fakellm.Start(t, kind.Name, fakellm.Models("a", "b:7b", "c/d"))
			u := upstreamAt(t, Config{Name: "u", Kind: Auto}, server.URL())
			if u.ActualKind() != OpenAI || u.Discovered() {
				t.Errorf("before it was asked: %s, seen %v", u.ActualKind().Name, u.Discovered())
			}
			found := u.Discover(t.Context())
			want := []string{"a", "b:7b", "c/d"}
			if kind == LlamaCpp {
				want = want[:len(ids(found))] // it may list its first model only
			}
			if diff := cmp.Diff(want, ids(found)); diff != "" || found.Err != nil || !found.Present || len(found.Models) == 0 {
				t.Errorf("%+v (-want +got):\n%s", found, diff)
			}
			if u.ActualKind() != kind {
				t.Errorf("taken for %s", u.ActualKind().Name)
			}
			if n := len(server.Requests()); n > 0 || len(server.Probes()) == 0 {
				t.Errorf("it was made to generate %d times, and asked %d questions", n, len(server.Probes()))
			}
		})
	}
}

func TestViewWhileLoading(t *testing.T) {
	t.Parallel()
	server := fakellm.Start(t, "llamacpp")
	server.SetLoading(true)
	u := upstreamAt(t, Config{Name: "u", Kind: Auto}, server.URL())
	if found := u.Discover(t.Context()); found.Err == nil || u.ActualKind() != LlamaCpp {
		t.Errorf("%v, taken for %s", found.Err, u.ActualKind().Name)
	}
}

// An optional upstream is absent until a server of its kind was there, and stays present when that goes away.
func TestOptional(t *testing.T) {
	t.Parallel()
	stranger := fakellm.Start(t, "vllm")
	u := upstreamAt(t, Config{Name: "u", Kind: Ollama, Optional: true}, stranger.URL())
	if found := u.Discover(t.Context()); found.Present || found.Err == nil || len(found.Models) > 0 {
		t.Errorf("a stranger was taken for it: %+v", found)
	}
	server := fakellm.Start(t, "ollama", fakellm.Models("a"))
	u = upstreamAt(t, Config{Name: "u", Kind: Ollama, Optional: true}, server.URL())
	if found := u.Discover(t.Context()); !found.Present || found.Err != nil {
		t.Errorf("it was not found: %+v", found)
	}
}

// Several replicas are one list; one that is down takes nothing away but its own.
func TestViewOfReplicas(t *testing.T) {
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

func TestOddLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   []string
		err    string
	}{
		{"usual", 200, `{"data":[{"id":"a","created":1}]}`, []string{"a"}, ""},
		{"a fraction for a date", 200, `{"data":[{"id":"a","created":1.5},{"id":"b"}]}`, []string{"a", "b"}, ""},
		{"without ids", 200, `{"data":[{},{"id":""}]}`, nil, ""},
		{"twice", 200, `{"data":[{"id":"a"},{"id":"a"}]}`, []string{"a"}, ""},
		{"none", 200, `{"data":null}`, nil, ""},
		{"a page", 200, `<html>`, nil, "invalid character"},
		{"no such path", 404, `{}`, nil, "status 404"},
		{"no key", 401, `{}`, nil, "status 401"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, APIKey: "secret", Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/v1/models" || req.Header.Get("Authorization") != "Bearer secret" {
					t.Errorf("asked for %s with %v", req.URL, req.Header)
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

// A slow server is asked by one look, whoever waits for it. The lists' ages are those that lookout.go names.
func TestViewAges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var down atomic.Bool
		u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			<-time.After(100 * time.Millisecond)
			if down.Load() {
				return nil, errors.New("connection refused")
			}
			return answer(200, `{"data":[{"id":"a"}]}`), nil
		})}, "gpu")
		look := func(name string, want int64) *Discovery {
			t.Helper()
			found := u.Discover(t.Context())
			synctest.Wait()
			if n := asked.Load(); n != want {
				t.Errorf("%s: asked %d times, want %d", name, n, want)
			}
			return found
		}
		var together sync.WaitGroup
		for range 20 {
			together.Go(func() {
				if found := u.Discover(t.Context()); len(found.Models) != 1 {
					t.Errorf("one of many got %+v", found)
				}
			})
		}
		together.Wait()
		first := look("twenty at once", 1)
		<-time.After(discoveryFresh - time.Second)
		look("fresh", 1)
		<-time.After(2 * time.Second)
		if found := look("old", 2); found != first {
			t.Error("whoever asked when the list was old waited for the new one")
		}
		<-time.After(time.Second)

		down.Store(true)
		<-time.After(discoveryFresh)
		look("old again", 3)
		<-time.After(time.Second)
		if found := look("failed", 3); found.Err == nil || len(found.Models) != 1 {
			t.Errorf("a server that does not answer lost its list: %+v", found)
		}
		down.Store(false)
		<-time.After(discoveryRetry)
		look("again soon after a failure", 4)
		<-time.After(200 * time.Millisecond)
		if found := look("back", 4); found.Err != nil {
			t.Errorf("got %v", found.Err)
		}

		u.Rediscover(t.Context())
		if n := asked.Load(); n != 4 {
			t.Error("a list that was just read was read again")
		}
		<-time.After(rediscoveryAtLeast)
		if found := u.Rediscover(t.Context()); asked.Load() != 5 || found.Err != nil {
			t.Errorf("Refresh asked %d times, got %+v", asked.Load(), found)
		}
	})
}

// A client that leaves does not wait, and does not stop the look that others wait for.
func TestViewClientLeaves(t *testing.T) {
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
			t.Errorf("the look was stopped: %+v", found)
		}
	})
}

// A server that hangs is given up after a while.
func TestViewHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})}, "gpu")
		begun := time.Now()
		if found := u.Discover(t.Context()); !errors.Is(found.Err, context.DeadlineExceeded) || time.Since(begun) != discoveryTimeout {
			t.Errorf("after %v: %+v", time.Since(begun), found)
		}
	})
}
