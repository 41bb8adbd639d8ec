package llmproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The transport finds the values that it needs in its context, which ends with that of the attempt, without a goroutine that
// waits for it.
func TestTransportContext(t *testing.T) {
	repl := caddy.NewReplacer()
	for _, tt := range []struct {
		name string
		wrap func(context.Context) context.Context
		repl *caddy.Replacer // nil: any
	}{
		{"of a request", func(ctx context.Context) context.Context { return context.WithValue(ctx, caddy.ReplacerCtxKey, repl) }, repl},
		{"of a probe", func(ctx context.Context) context.Context { return ctx }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			var seen context.Context
			transport := caddyTransport{RoundTripper: roundTrip(func(req *http.Request) (*http.Response, error) {
				seen = req.Context()
				return nil, context.Canceled
			})}
			req, err := http.NewRequestWithContext(tt.wrap(ctx), http.MethodGet, "http://upstream/", nil)
			if err != nil {
				t.Fatal(err)
			}
			transport.RoundTrip(req) //nolint:bodyclose // there is no answer
			if vars, ok := seen.Value(caddyhttp.VarsCtxKey).(map[string]any); !ok || vars == nil {
				t.Error("missing variables")
			}
			if got, ok := seen.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); !ok || tt.repl != nil && got != tt.repl {
				t.Errorf("the replacer is %p, want %p", got, tt.repl)
			}
			child, stop := context.WithCancel(seen)
			defer stop()
			if end(); child.Err() == nil {
				t.Error("a child of the context does not end at once")
			}
		})
	}
}

// A failed TLS handshake has sent nothing, so another target is tried at once. A connection that broke later may have.
func TestConnectErrors(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake
	untrusted.StartTLS()
	defer untrusted.Close()
	breaking := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer breaking.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tt := range []struct {
		name, url  string
		connecting bool
	}{
		{"unknown certificate authority", untrusted.URL, true},
		{"a server without TLS", "https://" + plain.Listener.Addr().String(), true},
		{"no listener", gone.URL, true},
		{"connection broken later", breaking.URL, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			stock := new(reverseproxy.HTTPTransport)
			if err := stock.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			defer stock.Cleanup()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tt.url+"/v1/chat/completions", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = newCaddyTransport(stock).RoundTrip(req) //nolint:bodyclose // there is no answer
			var connectErr *upstream.ConnectError
			if err == nil || errors.As(err, &connectErr) != tt.connecting {
				t.Errorf("got %v, want a ConnectError: %v", err, tt.connecting)
			}
		})
	}
}

// header_up Host applies to probes, too.
func TestHostOfProbes(t *testing.T) {
	hosts := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		io.WriteString(w, `{"data":[{"id":"m"}]}`)
	}))
	defer server.Close()
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tdiscover\n\t\tupstream u openai "+server.URL+" {\n\t\t\theader_up Host llm.internal\n\t\t}\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(url + "/v1/models/m")
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, res); res.StatusCode != http.StatusOK {
		t.Errorf("status %d, %s", res.StatusCode, got)
	}
	if got := <-hosts; got != "llm.internal" {
		t.Errorf("the probe asked for %q", got)
	}
}

// A server may close an idle connection at the moment in which it is used again. Clients must not notice.
func TestStaleConnectionsOfCaddysTransport(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	for _, tt := range []struct {
		name    string
		request func(net.Conn, int) // the n-th request of a connection
		conns   int                 // that are made for two requests
		fails   bool
	}{
		{"closed when the second request comes", func(c net.Conn, n int) {
			if n == 1 {
				io.WriteString(c, answer)
				return
			}
			c.Close()
		}, 2, false},
		{"closed in mid-answer", func(c net.Conn, n int) {
			if n == 1 {
				io.WriteString(c, answer)
				return
			}
			io.WriteString(c, "HTTP/1.1 200")
			c.Close()
		}, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var conns atomic.Int32
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					conns.Add(1)
					go func() {
						r := bufio.NewReader(c)
						for n := 1; ; n++ {
							req, err := http.ReadRequest(r)
							if err != nil {
								c.Close()
								return
							}
							io.Copy(io.Discard, req.Body)
							tt.request(c, n)
						}
					}()
				}
			}()
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			stock := new(reverseproxy.HTTPTransport)
			if err := stock.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			defer stock.Cleanup()
			for n := 1; n <= 2; n++ {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+"/", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				res, err := newCaddyTransport(stock).RoundTrip(req)
				if fails := n == 2 && tt.fails; (err != nil) != fails {
					t.Fatalf("request %d: %v", n, err)
				}
				if err == nil {
					text(t, res)
				}
			}
			if got := int(conns.Load()); got != tt.conns {
				t.Errorf("%d connections were made, want %d", got, tt.conns)
			}
		})
	}
}
