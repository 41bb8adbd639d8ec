package llmproxy

import (
	"context"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// calling is a context that package context does not know, as an attempt's is, and that calls at its end by itself.
type calling struct {
	context.Context
	asked *int
	done  chan struct{}
}

func (c calling) Done() <-chan struct{} { return c.done }

func (c calling) AfterFunc(call func()) (stop func() bool) {
	*c.asked++
	return context.AfterFunc(c.Context, call)
}

// A guest finds what it looks for in its context, which ends with the attempt's. Where that calls at its end by itself, no
// goroutine has to wait for it.
func TestGuestContext(t *testing.T) {
	repl := caddy.NewReplacer()
	asked := 0
	for _, tt := range []struct {
		name string
		wrap func(context.Context) context.Context
		repl *caddy.Replacer // nil: any
		want int
	}{
		{"of a request", func(ctx context.Context) context.Context {
			return context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
		}, repl, 0},
		{"of a probe", func(ctx context.Context) context.Context { return ctx }, nil, 0},
		{"of an attempt", func(ctx context.Context) context.Context { return calling{ctx, &asked, make(chan struct{})} }, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = 0
			ctx, end := context.WithCancel(t.Context())
			defer end()
			var seen context.Context
			transport := guest{roundTrip(func(req *http.Request) (*http.Response, error) {
				seen = req.Context()
				return nil, context.Canceled
			})}
			req, err := http.NewRequestWithContext(tt.wrap(ctx), http.MethodGet, "http://upstream/", nil)
			if err != nil {
				t.Fatal(err)
			}
			transport.RoundTrip(req) //nolint:bodyclose // there is no answer
			if vars, ok := seen.Value(caddyhttp.VarsCtxKey).(map[string]any); !ok || vars == nil {
				t.Error("there are no variables")
			}
			if got, ok := seen.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok || tt.repl != nil && got != tt.repl {
				t.Errorf("the replacer is %p, want %p", got, tt.repl)
			}
			child, stop := context.WithCancel(seen)
			defer stop()
			if end(); asked != tt.want {
				t.Errorf("its context was asked %d times to call, want %d", asked, tt.want)
			}
			<-child.Done()
		})
	}
}
