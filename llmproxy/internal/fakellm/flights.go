package fakellm

import (
	"fmt"
	"sync"
	"testing"
)

// flights counts the requests at generating endpoints that are being answered.
type flights struct {
	mu     sync.Mutex
	n, max int
	idle   chan struct{} // closed when n comes back to 0; nil while nobody waits
}

func (f *flights) enter() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.max = max(f.max, f.n)
}

func (f *flights) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// InFlight is how many requests that generate are being answered now, those in line for a slot included.
func (s *Server) InFlight() int {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	return s.flights.n
}

// MaxInFlight is the most there ever were at once.
func (s *Server) MaxInFlight() int {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	return s.flights.max
}

// WaitIdle waits until nothing is in flight, and fails the test when that takes too long.
func (s *Server) WaitIdle(tb testing.TB) {
	tb.Helper()
	f := &s.flights
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	waitFor(tb, idle, func() string { return fmt.Sprintf("%d requests are still in flight", s.InFlight()) })
}
