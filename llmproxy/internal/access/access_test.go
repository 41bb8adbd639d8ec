package access

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A free demand needs no limit to ask for anything.
type free struct{}

func (free) Rule() string           { return "" }
func (free) Tokens() (int64, int64) { return 0, 0 }

// keyed authenticates a request with a key and reserves for it.
func keyed(tb testing.TB) func() {
	entry := &keys.Entry{Name: "alice", Secret: keys.Digest("secret-alice"), Models: []string{"m"}, Limits: keys.Limits{Rate: []string{"1G/m"}, Concurrent: 8}}
	set, err := keys.Compile([]*keys.Entry{entry}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return through(tb, &Access{Keys: func() (*keys.Set, bool) { return set, true }, Limiter: ratelimit.NewMemory()})
}

// anonymous is what a request without a key pays for rate_limit.
func anonymous(tb testing.TB) func() {
	rule := ratelimit.Rule{Unit: ratelimit.Requests, Limit: 1 << 40, Window: time.Minute}
	address := netip.MustParseAddr("192.0.2.1")
	return through(tb, &Access{Anonymous: []ratelimit.Rule{rule}, Address: func(*http.Request) netip.Addr { return address }, Limiter: ratelimit.NewMemory()})
}

func through(tb testing.TB, a *Access) func() {
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", nil)
	r.Header.Set("Authorization", "Bearer secret-alice")
	h, rec := http.Header{}, new(exchange.Record)
	return func() {
		key, err := a.Authenticate(r, h)
		if err != nil {
			tb.Fatal(err)
		}
		res, err := a.Admit(r, h, key)
		if err != nil {
			tb.Fatal(err)
		}
		if res, err = a.Reserve(res, r, h, key, "m", free{}); err != nil {
			tb.Fatal(err)
		}
		a.Settle(res, rec)
	}
}

// Any known key counts, wherever it is among placeholders and other credentials.
func TestAnyKnownKeyCounts(t *testing.T) {
	t.Parallel()
	entries := []*keys.Entry{
		{Name: "alice", Secret: keys.Digest("real")}, {Name: "bob", Secret: keys.Digest("bob,s key")}, {Name: "old", Secret: keys.Digest("old"), Expires: "2020-01-01"},
	}
	set, err := keys.Compile(entries, []*keys.Entry{{Name: "carol"}})
	if err != nil {
		t.Fatal(err)
	}
	a := &Access{Keys: func() (*keys.Set, bool) { return set, true }, User: func(r *http.Request) string { return r.Header.Get("Test-User") }}
	for _, test := range []struct {
		name   string
		header http.Header
		query  string
		key    string // "" for status 401
		says   string // in its message
	}{
		{"a placeholder before an api-key", http.Header{"Authorization": {"Bearer placeholder"}, "Api-Key": {"real"}}, "", "alice", ""},
		{"a placeholder before an x-api-key", http.Header{"Authorization": {"Bearer placeholder"}, "X-Api-Key": {"real"}}, "", "alice", ""},
		{"a placeholder after the key", http.Header{"Authorization": {"Bearer real"}, "X-Api-Key": {"placeholder"}}, "", "alice", ""},
		{"all three, the last is known", http.Header{"Authorization": {"Bearer a"}, "X-Api-Key": {"b"}, "Api-Key": {"real"}}, "", "alice", ""},
		{"the second line", http.Header{"Authorization": {"Bearer placeholder", "Bearer real"}}, "", "alice", ""},
		{"the second x-api-key", http.Header{"X-Api-Key": {"placeholder", "real"}}, "", "alice", ""},
		{"lines that a proxy joined", http.Header{"Authorization": {"Bearer placeholder, Bearer real"}}, "", "alice", ""},
		{"joined, of two schemes", http.Header{"Authorization": {"Basic dTpw, Bearer real"}}, "", "alice", ""},
		{"joined api-keys", http.Header{"Api-Key": {"placeholder,real"}}, "", "alice", ""},
		{"a comma and a space in a key", http.Header{"X-Api-Key": {"bob,s key"}}, "", "bob", ""},
		{"the same as a bearer token", http.Header{"Authorization": {"Bearer bob,s key"}}, "", "bob", ""},
		{"no scheme", http.Header{"Authorization": {"real"}}, "", "alice", ""},
		{"basic, and a key", http.Header{"Authorization": {"Basic dTpw"}, "X-Api-Key": {"real"}}, "", "alice", ""},
		{"an empty bearer, and a key", http.Header{"Authorization": {"Bearer"}, "X-Api-Key": {"real"}}, "", "alice", ""},
		{"an expired key, and a valid one", http.Header{"Authorization": {"Bearer old"}, "X-Api-Key": {"real"}}, "", "alice", ""},
		{"two valid keys: the first counts", http.Header{"Authorization": {"Bearer real"}, "X-Api-Key": {"bob,s key"}}, "", "alice", ""},
		{"an unknown key of an authenticated user", http.Header{"Authorization": {"Bearer placeholder"}, "Test-User": {"carol"}}, "", "carol", ""},

		{"nothing", nil, "", "", "needs an API key"},
		{"basic alone", http.Header{"Authorization": {"Basic real"}}, "", "", "needs an API key"},
		{"unknown in one header", http.Header{"Authorization": {"Bearer placeholder"}}, "", "", "in the header Authorization is not valid"},
		{"unknown in two", http.Header{"Authorization": {"Bearer placeholder"}, "Api-Key": {"other"}}, "", "", "in the header Authorization or Api-Key is not valid"},
		{"expired", http.Header{"Authorization": {"Bearer placeholder"}, "Api-Key": {"old"}}, "", "", "has expired"},
		{"in the query string alone", nil, "?key=real", "", "in the query string"},
		{"in another header", http.Header{"X-Secret": {"real"}}, "", "", "needs an API key"},
		{"the ninth", http.Header{"X-Api-Key": {"1", "2", "3", "4", "5", "6", "7", "8", "real"}}, "", "", "not valid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions"+test.query, nil)
			r.Header = test.header
			k, err := a.Authenticate(r, http.Header{})
			switch {
			case test.key != "" && (err != nil || k.Name != test.key):
				t.Errorf("the key is %v, %v; want %s", k, err, test.key)
			case test.key == "" && (err == nil || err.Status != http.StatusUnauthorized || !strings.Contains(err.Message, test.says)):
				t.Errorf("the error is %v, want one that says %q", err, test.says)
			}
		})
	}
}

func TestKeyInQuery(t *testing.T) {
	t.Parallel()
	set, err := keys.Compile([]*keys.Entry{{Name: "alice", Secret: keys.Digest("real+1")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &Access{Keys: func() (*keys.Set, bool) { return set, true }}
	for query, want := range map[string]bool{
		"": false, "?key=real%2B1": true, "?api_key=real%2B1&beta=true": true, "?x=1&whatever=real%2B1": true, "?key=placeholder": false, "?beta=true": false, "?key=": false,
		"?key=%zz": false, "?" + strings.Repeat("x", 5000) + "&key=real%2B1": false,
	} {
		if got := a.KeyInQuery(httptest.NewRequest(http.MethodPost, "/v1/models"+query, nil)); got != want {
			t.Errorf("%.40s: %t", query, got)
		}
	}
	if (*Access)(nil).KeyInQuery(httptest.NewRequest(http.MethodPost, "/v1/models?key=x", nil)) {
		t.Error("a gateway without keys reports a key")
	}
}

func TestAllocations(t *testing.T) {
	for name, do := range map[string]func(){"with a key": keyed(t), "anonymous": anonymous(t)} {
		if n := testing.AllocsPerRun(100, do); n > 2 {
			t.Errorf("%s: %v allocations, 2 are allowed", name, n)
		}
	}
}

func BenchmarkAccess(b *testing.B) {
	for name, do := range map[string]func(){"key": keyed(b), "anonymous": anonymous(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}
