package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// guarded gives the setup keys: each entry's secret is "secret-" and its name.
func (s *setup) guarded(entries ...*keys.Entry) *Access {
	s.t.Helper()
	for _, e := range entries {
		e.Secret = keys.Digest("secret-" + e.Name)
	}
	set, err := keys.Compile(entries, []*keys.Entry{{Name: "carol"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.Access = &Access{
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
	task, _ := Match(req.URL.Path)
	w := httptest.NewRecorder()
	New(s.config).Serve(w, req, task, new(Record))
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

func TestLimitsOfAKey(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
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
	left := s.get(UsagePath, "secret-alice")
	for _, want := range []string{`"key":"alice"`, `{"unit":"requests","rule":"2/d","limit":2,"left":0,`, `"rule":"100000/d","limit":100000,"left":9`} {
		if !strings.Contains(left.body, want) {
			t.Errorf("%s is not in %s", want, left.body)
		}
	}
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
	rec := s.record()
	limits := rec.limitsLeft(t, s)
	if used := 5000 - limits; used <= 0 || used > 10*200 {
		t.Errorf("%d tokens are taken after ten short answers and a failure", used)
	}
}

// limitsLeft asks for what is left of alice's first limit.
func (*Record) limitsLeft(t *testing.T, s *setup) int64 {
	t.Helper()
	set, _ := s.config.Access.Keys()
	k, _ := set.Find("secret-alice")
	peek := &ratelimit.Take{Limits: k.Limits}
	if err := s.config.Access.Limiter.Peek(t.Context(), peek); err != nil {
		t.Fatal(err)
	}
	return peek.Left[0].Left
}

func TestBudget(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Rate: prices.Rate{Input: 0.001, Output: 0.001}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	a := s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$1.2/month"}}})
	var mu sync.Mutex
	var told []int
	a.Crossed = func(_ *ratelimit.Limit, percent int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, percent)
	}
	complaints := 0
	a.Refused = func(budget *ratelimit.Limit, wait time.Duration) {
		if complaints++; budget.ID != "key/alice/budget/month" || wait <= 0 || len(told) == 0 {
			t.Errorf("%s has refused a request for %s, told before: %v", budget.ID, wait, told)
		}
	}
	s.serve("m u/x", "free u/y")
	spent, refused := 0.0, 0
	// More than is left, and than there ever will be: neither is the budget used up.
	for _, request := range []struct{ tokens, status int }{{900, 200}, {1190, 429}, {2000, 429}} {
		body := `{"model":"m","max_tokens":` + strconv.Itoa(request.tokens) + `,"messages":[{"role":"user","content":"Hi"}]}`
		if got := s.post("/v1/chat/completions", body, "api-key", "secret-alice"); got.status != request.status || complaints != 0 {
			t.Errorf("%d tokens: status %d, want %d; %d complaints", request.tokens, got.status, request.status, complaints)
		}
	}
	for range 100 {
		got := s.post("/v1/chat/completions", `{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Hi"}]}`, "api-key", "secret-alice")
		if got.status == 429 {
			refused++
			if !strings.Contains(got.body, `"code":"insufficient_quota"`) || got.header.Get("X-Should-Retry") != "false" || got.header.Get("Retry-After") == "" {
				t.Fatalf("%s, x-should-retry %q", got.body, got.header.Get("X-Should-Retry"))
			}
		}
	}
	if got := s.post("/v1/chat/completions", chat("free", false), "api-key", "secret-alice"); got.status != 200 {
		t.Errorf("a model without a price: status %d", got.status)
	}
	s.server.Close()
	for _, rec := range s.records {
		spent += rec.Cost
	}
	if refused == 0 || spent > 1.2 || spent < 1 {
		t.Errorf("%d were refused, $%.3f of $1.20 were spent", refused, spent)
	}
	if len(told) == 0 || told[0] != 80 || complaints != refused {
		t.Errorf("told %v, complained %d times of %d", told, complaints, refused)
	}
}

// Ten requests at once see each other's reservations: where estimates hold, a budget is not overspent by a cent.
func TestParallelRequestsDoNotOverspend(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Text("a", "b").Usage(8, 40, 0)) // what is reserved for the answer is used up
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Rate: prices.Rate{Input: 0.001, Output: 0.001}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$0.2/month"}}})
	s.serve("m u/x")
	var refused atomic.Int64
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			for range 3 {
				if s.post("/v1/chat/completions", `{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Hi"}]}`, "api-key", "secret-alice").status == 429 {
					refused.Add(1)
				}
			}
		})
	}
	clients.Wait()
	s.server.Close()
	spent := 0.0
	for _, rec := range s.records {
		spent += rec.Cost
	}
	const oneEstimatesError = 0.01 // the prompt is estimated, as five tokens
	if refused.Load() < 20 || spent > 0.2+oneEstimatesError || spent < 0.1 {
		t.Errorf("%d were refused, $%.3f of $0.20 were spent", refused.Load(), spent)
	}
}

// A budget of which the rest is reserved by a request under way is not used up: a client may come again soon.
func TestReservedBudget(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	release := make(chan struct{})
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Rate: prices.Rate{Output: 0.001}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	a := s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$1/month"}}})
	a.Refused = func(*ratelimit.Limit, time.Duration) { t.Error("the budget is told of as used up") }
	s.serve("m u/x")
	const body = `{"model":"m","stream":true,"max_tokens":900,"messages":[{"role":"user","content":"Hi"}]}`
	first := make(chan reply, 1)
	go func() { first <- s.post("/v1/chat/completions", body, "api-key", "secret-alice") }()
	fake.Wait(t, 1)
	got := s.post("/v1/chat/completions", body, "api-key", "secret-alice")
	if got.status != 429 || got.header.Get("Retry-After") != "1" || got.header.Get("X-Should-Retry") != "" ||
		!strings.Contains(got.body, `"code":"insufficient_quota"`) || !strings.Contains(got.body, "try again when one has ended") {
		t.Errorf("status %d, %v: %s", got.status, got.header, got.body)
	}
	close(release)
	<-first
	if got := s.post("/v1/chat/completions", body, "api-key", "secret-alice"); got.status != 200 {
		t.Errorf("afterwards: status %d: %s", got.status, got.body)
	}
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
	s.config.Access = &Access{
		Address:   func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Limiter:   ratelimit.NewMemory(),
		Strangers: []ratelimit.Rule{rule},
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
	if got := s.get(UsagePath, ""); !strings.Contains(got.body, `"left":0`) {
		t.Errorf("a stranger sees %s", got.body)
	}
	s.config.Access.Site = rates("site/", "1/d")
	s.config.Access.Strangers = nil
	s.serve("m u/x")
	if first, second := s.post("/v1/chat/completions", chat("m", false)), s.post("/v1/chat/completions", chat("m", false)); first.status != 200 || second.status != 429 {
		t.Errorf("the site's limit: status %d, then %d", first.status, second.status)
	}
}

// Whoever guesses keys gets so many tries as rate_limit says.
func TestGuessingIsLimited(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	a := s.guarded(&keys.Entry{Name: "alice"})
	a.Strangers = []ratelimit.Rule{{Unit: ratelimit.Requests, Limit: 3, Window: time.Hour}}
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

// deaf is a limiter that must not decide without its state.
type deaf struct{}

func (deaf) Take(context.Context, *ratelimit.Take) error { return errors.New("away") }
func (deaf) Peek(context.Context, *ratelimit.Take) error { return errors.New("away") }
func (deaf) Settle(*ratelimit.Take, int64, int64)        {}

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

// identifyAndLimit is what a request with a key pays for having one.
func identifyAndLimit(tb testing.TB) func() {
	entry := &keys.Entry{Name: "alice", Secret: keys.Digest("secret-alice"), Models: []string{"m"}, Limits: keys.Limits{Rate: []string{"1G/m"}, Concurrent: 8}}
	set, err := keys.Compile([]*keys.Entry{entry}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	g := New(Config{Access: &Access{Keys: func() (*keys.Set, bool) { return set, true }, Limiter: ratelimit.NewMemory()}})
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", nil)
	r.Header.Set("Authorization", "Bearer secret-alice")
	task, _ := Match(r.URL.Path)
	w := httptest.NewRecorder()
	c := &call{g: g, w: w, r: r, task: task, rec: &Record{Model: "m"}}
	return func() {
		if c.identify() != nil || c.limit() != nil {
			tb.Fatal("refused")
		}
		c.settle()
	}
}

func TestIdentifyAndLimitAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, identifyAndLimit(t)); n > 2 {
		t.Errorf("%v allocations, 2 are allowed", n)
	}
}

// limitStranger is what a request without a key pays for rate_limit.
func limitStranger(tb testing.TB) func() {
	rule := ratelimit.Rule{Unit: ratelimit.Requests, Limit: 1 << 40, Window: time.Minute}
	address := netip.MustParseAddr("192.0.2.1")
	g := New(Config{Access: &Access{Strangers: []ratelimit.Rule{rule}, Address: func(*http.Request) netip.Addr { return address }, Limiter: ratelimit.NewMemory()}})
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", nil)
	task, _ := Match(r.URL.Path)
	c := &call{g: g, w: httptest.NewRecorder(), r: r, task: task, rec: &Record{Model: "m"}}
	return func() {
		if c.identify() != nil || c.limit() != nil {
			tb.Fatal("refused")
		}
		c.settle()
	}
}

func TestStrangersAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, limitStranger(t)); n > 2 {
		t.Errorf("%v allocations, 2 are allowed", n)
	}
}

func BenchmarkLimitStranger(b *testing.B) {
	do := limitStranger(b)
	b.ReportAllocs()
	for b.Loop() {
		do()
	}
}

func BenchmarkIdentifyAndLimit(b *testing.B) {
	do := identifyAndLimit(b)
	b.ReportAllocs()
	for b.Loop() {
		do()
	}
}
