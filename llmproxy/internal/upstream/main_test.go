package upstream

import (
	"net/http"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/http1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstreamAt returns an upstream with the given addresses. Without a transport in c, it makes real connections.
func upstreamAt(t testing.TB, c Config, addresses ...string) *Upstream {
	t.Helper()
	for _, a := range addresses {
		base, err := OpenAI.ParseAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		c.Bases = append(c.Bases, base)
	}
	if c.Transport == nil {
		transport := &http1.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		c.Transport = transport
	}
	return New(c)
}

// A roundTrip is a function that serves as a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
