package fakellm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// listener is the server's end of the network: nothing, for a Server that is only used as a handler.
type listener struct {
	mu     sync.Mutex
	addr   string // with the port that was given, so that Up finds it again
	http   *http.Server
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when http.Serve is over
}

var errClosed = errors.New("the server is closed")

// Start makes a Server that listens at a loopback address of its own until the test is over.
func Start(tb testing.TB, kind string, opts ...Option) *Server {
	tb.Helper()
	s := New(kind, opts...)
	if s.listener.open(ownAddress(), s) != nil { // only Linux has them without further ado
		if err := s.listener.open("127.0.0.1:0", s); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(s.listener.close)
	return s
}

// ownAddress is one of 127.0.0.0/8 that nobody else uses: while a server is Down, the system may give its port to others, but
// not at this address, so that it is refused, and can come Up again.
func ownAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// URL is the address, without a path: "http://127.0.0.1:1234".
func (s *Server) URL() string { return "http://" + s.Addr() }

// Addr is host and port.
func (s *Server) Addr() string {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return s.listener.addr
}

// Down ends all connections and refuses new ones, as a server that is off.
func (s *Server) Down() { s.listener.close() }

// Up listens again at the same address.
func (s *Server) Up(tb testing.TB) {
	tb.Helper()
	if err := s.listener.open(s.Addr(), s); err != nil {
		tb.Fatal(err)
	}
}

func (l *listener) open(addr string, h http.Handler) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.http != nil {
		return nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l.addr, l.cancel, l.done = ln.Addr().String(), cancel, make(chan struct{})
	l.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(ln) // always an error: that it was closed
	}(l.http, l.done)
	return nil
}

func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.http == nil {
		return
	}
	l.cancel(errClosed) // first, so that answers end knowing that it was not the client who left
	_ = l.http.Close()
	<-l.done
	l.http = nil
}

// closed tells whether a context ended because the server was closed.
func (l *listener) closed(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errClosed)
}
