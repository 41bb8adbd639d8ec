package fakellm

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	maxBody  = 64 << 20
	maxKept  = 10_000          // requests; of more, the first are kept
	patience = 2 * time.Minute // a machine may have other things to do
)

// A Request is what the server was sent.
type Request struct {
	Method, Host, Path, Query string
	Header                    http.Header
	Body                      []byte
	state                     *state
}

type state struct {
	probe    bool
	done     chan struct{}
	canceled atomic.Bool
}

// Done is closed when the answer is over, whichever way.
func (r Request) Done() <-chan struct{} { return r.state.done }

// Canceled tells whether the client left before it was sent everything. It is decided when Done is closed.
func (r Request) Canceled() bool { return r.state.canceled.Load() }

// WaitDone waits for Done, and fails the test when that takes too long.
func (r Request) WaitDone(tb testing.TB) {
	tb.Helper()
	waitFor(tb, r.state.done, func() string { return "the answer to " + r.Method + " " + r.Path + " is not over" })
}

func newRequest(r *http.Request, path string, body []byte) Request {
	probe := r.Method != http.MethodPost || path == "/api/show" || path == "/tokenize" || path == "/api/generate"
	return Request{
		Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body,
		state: &state{probe: probe, done: make(chan struct{})},
	}
}

// readBody reads all that the client sends; after an error, what came before it.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return body, fmt.Errorf("reading the request: %w", err)
	}
	return body, nil
}

// record keeps what was seen, in the order of arrival.
type record struct {
	mu      sync.Mutex
	all     []Request
	changed chan struct{} // closed at the next arrival; nil while nobody waits
}

func (r *record) add(req Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < maxKept {
		r.all = append(r.all, req)
	}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// list gives the requests that are probes, or those that are not, and what is closed when another one comes.
func (r *record) list(probes bool) ([]Request, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Request
	for _, req := range r.all {
		if req.state.probe == probes {
			found = append(found, req)
		}
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return found, r.changed
}

// Requests are those that want something done, in order: every POST, known path or not, but those that only ask (Probes).
func (s *Server) Requests() []Request {
	found, _ := s.record.list(false)
	return found
}

// Probes are all other requests, in order: GET, HEAD, /api/show, /tokenize, and /api/generate, which loads a model.
func (s *Server) Probes() []Request {
	found, _ := s.record.list(true)
	return found
}

// Wait waits until there were n Requests, and gives them. They have arrived whole; their answers may not be over.
func (s *Server) Wait(tb testing.TB, n int) []Request {
	tb.Helper()
	for {
		found, more := s.record.list(false)
		if len(found) >= n {
			return found
		}
		waitFor(tb, more, func() string { return fmt.Sprintf("%d requests came, waiting for %d", len(found), n) })
	}
}

// waitFor fails the test if the channel is not closed in time.
func waitFor(tb testing.TB, ch <-chan struct{}, what func() string) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
		tb.Fatalf("after %v: %s", patience, what())
	}
}
