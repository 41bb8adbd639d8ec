package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A bubble is the network of a synctest bubble: its connections are no sockets, so that time goes on in it while somebody
// waits at one. What hangs on time is tested there, with the times that production has, and is the same on every machine.
type bubble struct {
	mu      sync.Mutex
	servers map[string]*pipes // by host and port
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return p }

func (p *pipes) Network() string { return "pipe" }

func (p *pipes) String() string { return p.address }

// start runs a handler as a server until the test is over.
func (b *bubble) start(t testing.TB, handler http.Handler) *httptest.Server {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	b.mu.Lock()
	if b.servers == nil {
		b.servers = map[string]*pipes{}
	}
	l.address = fmt.Sprintf("127.0.0.%d:80", 1+len(b.servers))
	b.servers[l.address] = l
	b.mu.Unlock()
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	server.Start()
	server.Client().Transport.(*http.Transport).DialContext = b.dial
	t.Cleanup(server.Close)
	return server
}

// fake runs a fake upstream, and gives its address.
func (b *bubble) fake(t testing.TB, kind string, opts ...fakellm.Option) (*fakellm.Server, string) {
	fake := fakellm.New(kind, opts...)
	return fake, b.start(t, fake).URL
}

func (b *bubble) dial(ctx context.Context, _, address string) (net.Conn, error) {
	b.mu.Lock()
	l := b.servers[address]
	b.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// transport is how a gateway reaches the servers.
func (b *bubble) transport(t testing.TB) http.RoundTripper {
	transport := &http.Transport{DialContext: b.dial, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}
