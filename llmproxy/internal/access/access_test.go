package access

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A free demand needs no limit to ask for anything.
type free struct{}

func (free) Rule() string                 { return "" }
func (free) Tokens() (int64, int64)       { return 0, 0 }
func (free) MaxCost(int64, int64) float64 { return 0 }

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
		res, err := a.Reserve(r, h, key, "m", free{})
		if err != nil {
			tb.Fatal(err)
		}
		a.Settle(res, rec)
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
