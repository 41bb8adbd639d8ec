package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transport returns a Transport whose idle connections are closed with the test.
func transport(t testing.TB) *Transport {
	t.Helper()
	tr := &Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// A server is a net/http server that counts its connections.
type server struct {
	*httptest.Server
	opened atomic.Int64

	mu      sync.Mutex
	open    int
	changed *sync.Cond
}

func serve(t testing.TB, handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{Server: httptest.NewUnstartedServer(handler)}
	s.changed = sync.NewCond(&s.mu)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.opened.Add(1)
			s.open++
		case http.StateClosed, http.StateHijacked:
			s.open--
		}
		s.changed.Broadcast()
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// waitClosed waits until the server has seen all connections close.
func (s *server) waitClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open > 0 {
		s.changed.Wait()
	}
}

// script serves each connection with the next function and then closes it. The last function serves all further ones.
func script(t testing.TB, turns ...func(c net.Conn, r *bufio.Reader)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			turn := turns[min(i, len(turns)-1)]
			running.Go(func() {
				defer c.Close()
				turn(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads one request with its body.
func readRequest(r *bufio.Reader) (*http.Request, string, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(req.Body)
	return req, string(body), err
}

// answers returns a turn for script: it reads requests and answers each with the next text.
func answers(texts ...string) func(c net.Conn, r *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for _, text := range texts {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			io.WriteString(c, text)
		}
	}
}

// untilGone reads until the client closes the connection.
func untilGone(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// A source is a request body that counts how often it was closed.
type source struct {
	io.Reader
	closed atomic.Int64
}

func (s *source) Close() error {
	s.closed.Add(1)
	return nil
}

func post(t testing.TB, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func get(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// do sends a request and reads the answer to its end.
func do(t testing.TB, tr http.RoundTripper, req *http.Request) (status int, body string) {
	t.Helper()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func idle(tr *Transport) (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, list := range tr.idle {
		n += len(list)
	}
	return n
}

// causing returns a context, and a function that ends it with errLeft as the cause.
func causing(t testing.TB) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	return ctx, func() { cancel(errLeft) }
}

var errLeft = errors.New("the client left")
