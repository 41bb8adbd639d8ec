package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

func TestLimitsOfAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // what is left grows with time
		s := &setup{t: t, bubble: new(bubble)}
		fake, address := s.bubble.fake(t, "openai")
		s.up("u", upstream.OpenAI, nil, address)
		s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Rate: []string{"2/d", "100/m"}, Tokens: []string{"100k/d"}}}, &keys.Entry{Name: "bob"})
		s.serve("m u/x")
		ask := func(name string) reply {
			return s.post("/v1/chat/completions", chat("m", true), "api-key", "secret-"+name)
		}
		got := ask("alice")
		for name, want := range map[string]string{
			limitRequests: "2", remainingRequests: "1", resetRequests: "12h0m0s", limitTokens: "100000",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
			}
		}
		ask("alice")
		got = ask("alice")
		if got.status != 429 || !strings.Contains(got.body, `"type":"requests","param":null,"code":"rate_limit_exceeded"`) {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		if after := got.header.Get("Retry-After"); after != "43200" || got.header.Get("X-Should-Retry") != "false" || got.header.Get(remainingRequests) != "0" {
			t.Errorf("Retry-After %q, x-should-retry %q", after, got.header.Get("X-Should-Retry"))
		}
		if got := ask("bob"); got.status != 200 || got.header.Get(limitRequests) != "" {
			t.Errorf("bob: status %d, limit %q", got.status, got.header.Get(limitRequests))
		}
		if n := len(fake.Requests()); n != 3 {
			t.Errorf("%d requests reached the upstream, want 3", n)
		}
		left := s.get(access.QuotaPath, "secret-alice")
		for _, want := range []string{`"key":"alice"`, `{"unit":"requests","rule":"2/d","limit":2,"left":0,`, `"rule":"100000/d","limit":100000,"left":9`} {
			if !strings.Contains(left.body, want) {
				t.Errorf("%s is not in %s", want, left.body)
			}
		}
	})
}

// Tokens are taken by estimate, and what was not used is given back when the answer has told.
func TestTokensAreSettled(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Tokens: []string{"5000/d"}}})
	s.serve("m u/x", "broken u/y")
	for range 10 { // each reserves above 1024
		if got := s.post("/v1/chat/completions", chat("m", true), "api-key", "secret-alice"); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	fake.Always(fakellm.InternalError())
	s.post("/v1/chat/completions", chat("broken", false), "api-key", "secret-alice")
	s.record()
	limits := s.limitsLeft(t)
	if used := 5000 - limits; used <= 0 || used > 10*200 {
		t.Errorf("%d tokens are taken after ten short answers and a failure", used)
	}
}

// limitsLeft asks for what is left of alice's first limit.
func (s *setup) limitsLeft(t *testing.T) int64 {
	t.Helper()
	set, _ := s.config.Access.Keys()
	k, _ := set.Find("secret-alice")
	peek := &ratelimit.Reservation{Limits: k.Limits}
	if err := s.config.Access.Limiter.Peek(t.Context(), peek); err != nil {
		t.Fatal(err)
	}
	return peek.Left[0].Left
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	release := make(chan struct{})
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Concurrent: 1}})
	s.serve("m u/x")
	first := make(chan reply, 1)
	go func() { first <- s.post("/v1/chat/completions", chat("m", true), "api-key", "secret-alice") }()
	fake.Wait(t, 1)
	second := s.post("/v1/chat/completions", chat("m", true), "api-key", "secret-alice")
	if second.status != 429 || second.header.Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q", second.status, second.header.Get("Retry-After"))
	}
	close(release)
	<-first
	if got := s.post("/v1/chat/completions", chat("m", true), "api-key", "secret-alice"); got.status != 200 {
		t.Errorf("afterwards: status %d: %s", got.status, got.body)
	}
}

func TestStrangersModelsAndSite(t *testing.T) {
	t.Parallel()
	rates := func(subject, rate string) []*ratelimit.Limit {
		limits, err := (&keys.Limits{Rate: []string{rate}}).For(subject)
		if err != nil {
			t.Fatal(err)
		}
		return limits
	}
	s, _ := one(t, "openai", nil)
	rule, err := ratelimit.ParseRate(ratelimit.Requests, "3/d")
	if err != nil {
		t.Fatal(err)
	}
	s.config.Access = &access.Access{
		Address:   func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Limiter:   ratelimit.NewMemory(),
		Anonymous: []ratelimit.Rule{rule},
		Models:    map[string][]*ratelimit.Limit{"rare*": rates("model/rare*", "1/d")},
	}
	s.serve("m u/x", "rare* u/y")
	for i, test := range []struct {
		model  string
		status int
	}{{"rare1", 200}, {"rare2", 429}, {"m", 200}, {"m", 200}, {"m", 429}} {
		if got := s.post("/v1/chat/completions", chat(test.model, false)); got.status != test.status {
			t.Errorf("request %d: status %d, want %d: %s", i, got.status, test.status, got.body)
		}
	}
	if got := s.get(access.QuotaPath, ""); !strings.Contains(got.body, `"left":0`) {
		t.Errorf("a stranger sees %s", got.body)
	}
	s.config.Access.Site = rates("site/", "1/d")
	s.config.Access.Anonymous = nil
	s.serve("m u/x")
	if first, second := s.post("/v1/chat/completions", chat("m", false)), s.post("/v1/chat/completions", chat("m", false)); first.status != 200 || second.status != 429 {
		t.Errorf("the site's limit: status %d, then %d", first.status, second.status)
	}
}

// deaf is a limiter that must not decide without its state.
type deaf struct{}

func (deaf) Take(context.Context, *ratelimit.Reservation) error { return errors.New("away") }

func (deaf) Peek(context.Context, *ratelimit.Reservation) error { return errors.New("away") }

func (deaf) Settle(*ratelimit.Reservation, int64, int64) {}

func TestStateIsAway(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Rate: []string{"9/m"}}}).Limiter = deaf{}
	s.serve("m u/x")
	got := s.post("/v1/chat/completions", chat("m", false), "api-key", "secret-alice")
	if got.status != 503 || !strings.Contains(got.body, `"code":"state_unavailable"`) || got.header.Get("Retry-After") == "" || len(fake.Requests()) != 0 {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// The headers that tell what is left, in the spelling of http.Header.
const (
	limitRequests     = "X-Ratelimit-Limit-Requests"
	remainingRequests = "X-Ratelimit-Remaining-Requests"
	resetRequests     = "X-Ratelimit-Reset-Requests"
	limitTokens       = "X-Ratelimit-Limit-Tokens"
)
