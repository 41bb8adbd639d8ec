package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// limitsOf parses the rules of a subject.
func limitsOf(t *testing.T, subject string, l keys.Limits) []*ratelimit.Limit {
	t.Helper()
	limits, err := l.For(subject)
	if err != nil {
		t.Fatal(err)
	}
	return limits
}

// A request that a limit refuses whatever its body says is refused before the body is read. Limits of tokens, money and models need it.
func TestRefusedBeforeTheBody(t *testing.T) {
	alice := "Authorization: Bearer secret-alice\r\n"
	for _, test := range []struct {
		name   string
		header string
		limit  func(*testing.T, *setup)
		early  bool
	}{
		{"rate of a key", alice, func(_ *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Rate: []string{"1/h"}}})
		}, true},
		{"rate of a key beside tokens", alice, func(_ *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Rate: []string{"100/m", "1/h"}, Tokens: []string{"1M/h"}, Budget: []string{"$5/day"}}})
		}, true},
		{"concurrency of a key", alice, func(_ *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Concurrent: 1}})
		}, true},
		{"rate of an address", "", func(_ *testing.T, s *setup) {
			s.guarded()
			s.config.Access.Keys = nil
			s.config.Access.Anonymous = []ratelimit.Rule{mustRate(s.t, "1/h")}
		}, true},
		{"rate of the site", alice, func(t *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice"}).Site = limitsOf(t, "site/site", keys.Limits{Rate: []string{"1/h"}})
		}, true},
		{"concurrency of the site", "", func(t *testing.T, s *setup) {
			s.guarded()
			s.config.Access.Keys, s.config.Access.Site = nil, limitsOf(t, "site/site", keys.Limits{Concurrent: 1})
		}, true},
		{"tokens of a key", alice, func(_ *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Tokens: []string{"1/h"}}})
		}, false},
		{"rate of a model", alice, func(t *testing.T, s *setup) {
			s.guarded(&keys.Entry{Name: "alice"}).Models = map[string][]*ratelimit.Limit{"m": limitsOf(t, "model/m", keys.Limits{Rate: []string{"1/h"}})}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &setup{t: t, bubble: new(bubble)}
				s.up("echo", upstream.Echo, nil)
				usage := new(memory.Usage)
				s.config.Memory = memory.NewAccount(usage, 1<<20)
				test.limit(t, s)
				s.serve("m echo")
				s.send(test.header+"Content-Length: 200", "{") // holds the only place, or the only request
				synctest.Wait()
				c := s.send(test.header+"Content-Length: 200", "")
				if !test.early {
					synctest.Wait()
					if usage.Bytes() != 2*16<<10 && usage.Bytes() != 2<<10 {
						t.Errorf("the bodies take %d bytes: they are not being read", usage.Bytes())
					}
					return
				}
				// net/http reads the rest of a small body before it sends the answer.
				go fmt.Fprint(c, strings.Repeat(" ", 200))
				res, body := readReply(t, c)
				if res.StatusCode != http.StatusTooManyRequests || !strings.Contains(body, "rate_limit_exceeded") || res.Header.Get("Retry-After") == "" {
					t.Errorf("status %d: %s", res.StatusCode, body)
				}
				if usage.Bytes() > 16<<10 {
					t.Errorf("%d bytes are reserved: the body was read", usage.Bytes())
				}
			})
		})
	}
}

func mustRate(t testing.TB, rate string) ratelimit.Rule {
	t.Helper()
	rule, err := ratelimit.ParseRate(ratelimit.Requests, rate)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

// The reservation that a request made before its body was read is refunded if the body is invalid, or another limit refuses the request.
func TestInvalidRequestsAreNotCounted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path, body string
		header           []string
		status           int
		counts           bool
	}{
		{"not JSON", "/v1/chat/completions", "{", nil, 400, false},
		{"no model", "/v1/chat/completions", "{}", nil, 400, false},
		{"two models", "/v1/chat/completions", `{"model":"m","model":"m"}`, nil, 400, false},
		{"too large", "/v1/chat/completions", strings.Repeat(" ", 70_000), nil, 413, false},
		{"not gzip", "/v1/chat/completions", "{}", []string{"Content-Encoding", "gzip"}, 400, false},
		{"unknown coding", "/v1/chat/completions", "{}", []string{"Content-Encoding", "br"}, 415, false},
		{"unknown type", "/v1/chat/completions", "{}", []string{"Content-Type", "image/png"}, 415, false},
		{"a model that the key may not use", "/v1/chat/completions", chat("secret", false), nil, 403, false},
		{"more tokens than the limit", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 9000) + `"}]}`, nil, 429, false},
		{"a path that is not served", "/v1/files", "{}", nil, 404, false},
		{"unknown model", "/v1/chat/completions", chat("nope", false), nil, 404, true},
		{"valid", "/v1/chat/completions", chat("m", false), nil, 200, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			s.up("echo", upstream.Echo, nil)
			s.config.MaxBody = 1 << 16
			s.guarded(&keys.Entry{Name: "alice", Models: []string{"m", "nope"}, Limits: keys.Limits{Rate: []string{"3/d"}, Concurrent: 1, Tokens: []string{"8000/d"}}})
			s.serve("m echo", "secret echo")
			remaining := "3"
			if test.counts {
				remaining = "2"
			}
			for range 4 {
				got := s.post(test.path, test.body, append(test.header, "api-key", "secret-alice")...)
				if got.status != test.status || got.header.Get(remainingRequests) != remaining {
					t.Errorf("status %d, %s requests remain, want %d and %s: %s", got.status, got.header.Get(remainingRequests), test.status, remaining, got.body)
				}
				if test.counts {
					return
				}
			}
			for want := 2; want >= 0; want-- {
				got := s.post("/v1/chat/completions", chat("m", false), "api-key", "secret-alice")
				if got.status != 200 || got.header.Get(remainingRequests) != fmt.Sprint(want) {
					t.Errorf("afterwards: status %d, %s requests remain, want %d: %s", got.status, got.header.Get(remainingRequests), want, got.body)
				}
			}
			if left := s.get(access.QuotaPath, "secret-alice"); !strings.Contains(left.body, `"unit":"concurrent","rule":"1","limit":1,"left":1`) {
				t.Errorf("a place is still taken: %s", left.body)
			}
		})
	}
}
