package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// guarded gives the setup keys: each entry's secret is "secret-" and its name.
func (s *setup) guarded(entries ...*keys.Entry) *access.Access {
	s.t.Helper()
	for _, e := range entries {
		e.Secret = keys.Digest("secret-" + e.Name)
	}
	set, err := keys.Compile(entries, []*keys.Entry{{Name: "carol"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.Access = &access.Access{
		Keys:    func() (*keys.Set, bool) { return set, true },
		User:    func(r *http.Request) string { return r.Header.Get("Test-User") },
		Address: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Limiter: ratelimit.NewMemory(),
	}
	return s.config.Access
}

func (s *setup) get(path, secret string) reply {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	return s.do(req)
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice"}, &keys.Entry{Name: "old", Expires: "2020-01-01"})
	s.serve("m u/x")
	for _, test := range []struct {
		name   string
		header []string
		status int
	}{
		{"bearer", []string{"Authorization", "Bearer secret-alice"}, 200},
		{"bearer in small letters", []string{"Authorization", "bearer secret-alice"}, 200},
		{"x-api-key", []string{"x-api-key", "secret-alice"}, 200},
		{"api-key", []string{"api-key", "secret-alice"}, 200},
		{"user of another handler", []string{"Test-User", "carol"}, 200},
		{"none", nil, 401},
		{"wrong", []string{"Authorization", "Bearer secret-alicf"}, 401},
		{"the digest", []string{"Authorization", "Bearer " + keys.Digest("secret-alice")}, 401},
		{"empty", []string{"Authorization", "Bearer "}, 401},
		{"another scheme", []string{"Authorization", "Basic secret-alice"}, 401},
		{"unknown user", []string{"Test-User", "alice"}, 401},
		{"expired", []string{"Authorization", "Bearer secret-old"}, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := s.post("/v1/chat/completions", chat("m", false), test.header...)
			if got.status != test.status {
				t.Fatalf("status %d, want %d: %s", got.status, test.status, got.body)
			}
			if got.status == 401 && !strings.Contains(got.body, `"code":"invalid_api_key"`) {
				t.Errorf("the error is %s", got.body)
			}
		})
	}
	for _, r := range fake.Requests() {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), "secret-") {
				t.Errorf("the client's key went up in %s", name)
			}
		}
	}
	if rec := s.record(); rec.Status != 401 {
		t.Errorf("the last record has status %d", rec.Status)
	}
}

// A stranger must not make the gateway read a body.
func TestStrangersAreNotRead(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice"})
	s.serve("m u/x")
	unread := unreadable{t}
	req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", unread)
	task, _ := TaskOf(req.URL.Path)
	w := httptest.NewRecorder()
	New(s.config).Serve(w, req, task, new(exchange.Record))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d", w.Code)
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("not to be read")
}

func TestModelsOfAKey(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"local", "gpt-4*"}})
	s.serve("local u/x", "gpt-4o u/y", "secret-model u/z")
	got := s.get("/v1/models", "secret-alice")
	if got.status != 200 || !strings.Contains(got.body, `"gpt-4o"`) || strings.Contains(got.body, "secret-model") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.get("/v1/models/secret-model", "secret-alice"); got.status != 404 {
		t.Errorf("a hidden model: status %d", got.status)
	}
	if got := s.get("/v1/models", ""); got.status != 401 {
		t.Errorf("the list without a key: status %d", got.status)
	}
	got = s.post("/v1/chat/completions", chat("secret-model", false), "x-api-key", "secret-alice")
	if got.status != 403 || !strings.Contains(got.body, `"code":"model_not_allowed"`) || len(fake.Requests()) != 0 {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// A key that may use certain models cannot reach others through a second member that services understand.
func TestModelsOfAKeyCannotBeBypassed(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"local"}}, &keys.Entry{Name: "bob"})
	s.serve("local u/x")
	ask := func(key, member string) reply {
		body := strings.Replace(chat("local", false), "{", "{"+member+",", 1)
		return s.post("/v1/chat/completions", body, "x-api-key", "secret-"+key)
	}
	for _, member := range []string{`"models":["gpt-5"]`, `"route":"fallback"`, `"provider":{"only":["x"]}`, `"Provider":{"only":["x"]}`, `"preset":"big"`, `"fallbacks":["gpt-5"]`} {
		if got := ask("alice", member); got.status != 403 || !strings.Contains(got.body, `"code":"model_not_allowed"`) {
			t.Errorf("%s: status %d: %s", member, got.status, got.body)
		}
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	for key, member := range map[string]string{"alice": `"models":[]`, "bob": `"models":["gpt-5"],"provider":{"only":["x"]}`} {
		if got := ask(key, member); got.status != 200 {
			t.Errorf("%s, %s: status %d: %s", key, member, got.status, got.body)
		}
	}
	if body := string(fake.Requests()[len(fake.Requests())-1].Body); len(fake.Requests()) != 2 || !strings.Contains(body, `"models":[`) {
		t.Errorf("the upstream got %s", body)
	}
}

// A key whose requests stay local is not shown what it would only be refused.
func TestModelsOfALocalKey(t *testing.T) {
	t.Parallel()
	s, far := one(t, "openai", nil)
	local := fakellm.Start(t, "vllm")
	s.up("box", upstream.VLLM, nil, local.URL())
	far.OnPath("/v1/models", fakellm.Raw(http.StatusOK, nil, []byte(`{"object":"list","data":[{"id":"far-away"}]}`)))
	local.OnPath("/v1/models", fakellm.Raw(http.StatusOK, nil, []byte(`{"object":"list","data":[{"id":"at-home"}]}`)))
	s.guarded(&keys.Entry{Name: "alice", LocalOnly: true}, &keys.Entry{Name: "bob"})
	s.config.Discover = true
	s.serve("remote u/x", "mixed u/x | box/y", "home box/y")
	for key, want := range map[string]string{"alice": "mixed home at-home", "bob": "remote mixed home far-away at-home"} {
		got := s.get("/v1/models", "secret-"+key)
		var names []string
		for _, m := range regexp.MustCompile(`"id":"([^"]+)"`).FindAllStringSubmatch(got.body, -1) {
			names = append(names, m[1])
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s is shown %v, want %s", key, names, want)
		}
	}
	if got := s.get("/v1/models/remote", "secret-alice"); got.status != 404 {
		t.Errorf("a model that is not local: status %d", got.status)
	}
}

// A budget whose rest is reserved by a request in progress is not used up: a client may try again soon.
func TestReservedBudget(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	release := make(chan struct{})
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Schedule: prices.Schedule{Rate: prices.Rate{Output: 0.001}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	a := s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$1/month"}}})
	a.BudgetRefused = func(*ratelimit.Limit, time.Duration) { t.Error("the budget is told of as used up") }
	s.serve("m u/x")
	const body = `{"model":"m","stream":true,"max_tokens":900,"messages":[{"role":"user","content":"Hi"}]}`
	first := make(chan reply, 1)
	go func() { first <- s.post("/v1/chat/completions", body, "api-key", "secret-alice") }()
	fake.Wait(t, 1)
	got := s.post("/v1/chat/completions", body, "api-key", "secret-alice")
	if got.status != 429 || got.header.Get("Retry-After") != "1" || got.header.Get("X-Should-Retry") != "" ||
		!strings.Contains(got.body, `"type":"requests","param":null,"code":"rate_limit_exceeded"`) || !strings.Contains(got.body, "Try again when one has ended") {
		t.Errorf("status %d, %v: %s", got.status, got.header, got.body)
	}
	close(release)
	<-first
	if got := s.post("/v1/chat/completions", body, "api-key", "secret-alice"); got.status != 200 {
		t.Errorf("afterwards: status %d: %s", got.status, got.body)
	}
}

// A client that guesses keys gets as many tries as rate_limit says.
func TestGuessingIsLimited(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	a := s.guarded(&keys.Entry{Name: "alice"})
	a.Anonymous = []ratelimit.Rule{{Unit: ratelimit.Requests, Limit: 3, Window: time.Hour}}
	s.serve("m u/x")
	for i, want := range []int{401, 401, 401, 429, 429} {
		if got := s.get("/v1/models", "guess"); got.status != want {
			t.Errorf("guess %d: status %d, want %d", i, got.status, want)
		}
	}
	if got := s.get("/v1/models", "secret-alice"); got.status != 200 {
		t.Errorf("alice, from the same address: status %d", got.status)
	}
}
