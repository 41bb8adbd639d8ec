package fakellm

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	maxKept     = 10_000          // requests; later ones are not kept
	waitTimeout = 2 * time.Minute // generous: the machine may be busy
)

// probePaths are the paths at which a POST does not ask to generate.
var probePaths = []string{"/api/show", "/tokenize", "/v1/chat/completions/input_tokens"}

// A Request is one that the server received.
type Request struct {
	Method, Host, Path, Query string
	Header                    http.Header
	Body                      []byte
	state                     *requestState
}

type requestState struct {
	probe, generates bool
	done             chan struct{}
	canceled         atomic.Bool
}

// Done returns a channel that is closed when the answer has ended, for whatever reason.
func (r Request) Done() <-chan struct{} { return r.state.done }

// Canceled reports whether the client left before it had the whole answer. It is only valid after Done.
func (r Request) Canceled() bool { return r.state.canceled.Load() }

// WaitDone waits for Done and fails the test if that takes too long.
func (r Request) WaitDone(tb testing.TB) {
	tb.Helper()
	waitFor(tb, r.state.done, func() string { return "the answer to " + r.Method + " " + r.Path + " has not ended" })
}

// traffic keeps the requests that a server received and counts those being answered.
type traffic struct {
	mu              sync.Mutex
	kept            []Request     // in order of arrival
	inFlight, maxIn int           // requests that generate
	changed         chan struct{} // closed at the next change; nil while nothing waits for that
}

// begin registers a request. It is in flight before a test can find it.
func (t *traffic) begin(x *exchange, keep bool) Request {
	r := x.r
	req := Request{
		Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: x.body,
		state: &requestState{
			probe:     r.Method != http.MethodPost || x.idle || slices.Contains(probePaths, x.path),
			generates: x.generates(),
			done:      make(chan struct{}),
		},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if req.state.generates {
		t.inFlight++
		t.maxIn = max(t.maxIn, t.inFlight)
	}
	if keep && len(t.kept) < maxKept {
		t.kept = append(t.kept, req)
	}
	t.notify()
	return req
}

// end counts a request as no longer in flight, and then closes Done.
func (t *traffic) end(req Request) {
	t.mu.Lock()
	if req.state.generates {
		t.inFlight--
	}
	t.notify()
	t.mu.Unlock()
	close(req.state.done)
}

// notify wakes all that wait for a change. The caller holds t.mu.
func (t *traffic) notify() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// read calls f under the lock and returns a channel that is closed at the next change.
func (t *traffic) read(f func()) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

func (t *traffic) list(probes bool) (found []Request, changed <-chan struct{}) {
	changed = t.read(func() {
		for _, req := range t.kept {
			if req.state.probe == probes {
				found = append(found, req)
			}
		}
	})
	return found, changed
}

// Requests returns the POST requests in order of arrival, to known paths or not, except for Probes.
func (s *Server) Requests() []Request {
	found, _ := s.traffic.list(false)
	return found
}

// Probes returns the requests that only ask about the server, in order of arrival: GET, HEAD, POST to /api/show and /tokenize,
// and requests to Ollama that only load a model.
func (s *Server) Probes() []Request {
	found, _ := s.traffic.list(true)
	return found
}

// Wait waits until there are n Requests and returns them. They have arrived completely; their answers may not have ended.
func (s *Server) Wait(tb testing.TB, n int) []Request {
	tb.Helper()
	for {
		found, changed := s.traffic.list(false)
		if len(found) >= n {
			return found
		}
		waitFor(tb, changed, func() string { return fmt.Sprintf("%d requests arrived, want %d", len(found), n) })
	}
}

// InFlight returns how many requests that generate are being answered, including those that wait for a slot.
func (s *Server) InFlight() (n int) {
	s.traffic.read(func() { n = s.traffic.inFlight })
	return n
}

// MaxInFlight returns the highest InFlight so far.
func (s *Server) MaxInFlight() (n int) {
	s.traffic.read(func() { n = s.traffic.maxIn })
	return n
}

// WaitIdle waits until nothing is in flight.
func (s *Server) WaitIdle(tb testing.TB) {
	tb.Helper()
	for {
		var n int
		changed := s.traffic.read(func() { n = s.traffic.inFlight })
		if n == 0 {
			return
		}
		waitFor(tb, changed, func() string { return fmt.Sprintf("%d requests are still in flight", n) })
	}
}

// waitFor fails the test if the channel is not closed in time.
func waitFor(tb testing.TB, ch <-chan struct{}, what func() string) {
	tb.Helper()
	timer := time.NewTimer(waitTimeout)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
		tb.Fatalf("after %v: %s", waitTimeout, what())
	}
}
