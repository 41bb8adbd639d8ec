package http1

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// age makes the idle connections of an address as old as given.
func age(tr *Transport, url string, by time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.idle[strings.TrimPrefix(url, "http://")] {
		c.idleSince = c.idleSince.Add(-by)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	other := serve(t, func(http.ResponseWriter, *http.Request) {})
	tr := transport(t)
	do(t, tr, get(t, s.URL))
	age(tr, s.URL, DefaultIdleTimeout-time.Minute)
	do(t, tr, get(t, s.URL))
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections, want the first one again", n)
	}
	age(tr, s.URL, DefaultIdleTimeout)
	do(t, tr, get(t, s.URL))
	if n := s.opened.Load(); n != 2 || idle(tr) != 1 {
		t.Errorf("%d connections and %d idle, want a second and the aged one closed", n, idle(tr))
	}
	// An address that nobody asks any more is swept with a request to another one.
	age(tr, s.URL, DefaultIdleTimeout)
	tr.mu.Lock()
	tr.swept = tr.swept.Add(-DefaultIdleTimeout)
	tr.mu.Unlock()
	do(t, tr, get(t, other.URL))
	s.waitClosed()
	if n := idle(tr); n != 1 {
		t.Errorf("%d idle connections after the sweep, want 1", n)
	}
}

func TestSweepKeepsYoung(t *testing.T) {
	t.Parallel()
	tr := &Transport{IdleTimeout: time.Minute, idle: map[string][]*conn{}}
	now := time.Now()
	for i := range 6 {
		tr.idle["a"] = append(tr.idle["a"], &conn{address: "a", idleSince: now.Add(time.Duration(i-3) * 20 * time.Second)})
	}
	if aged := tr.sweep(now); len(aged) != 1 || len(tr.idle["a"]) != 5 || !aged[0].idleSince.Equal(now.Add(-time.Minute)) {
		t.Errorf("%d swept, %d kept; want 1 and 5", len(aged), len(tr.idle["a"]))
	}
}

func TestCloseIdleConnections(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	tr := transport(t)
	res, err := tr.RoundTrip(get(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	tr.CloseIdleConnections()
	close(release)
	if _, err := io.ReadAll(res.Body); err != nil { // a stream that is open goes on to its end
		t.Error(err)
	}
	s.waitClosed() // and then nothing is kept of a transport that was given up
	do(t, tr, get(t, s.URL))
	if n := idle(tr); n != 1 {
		t.Errorf("%d idle connections after a new request, want 1", n)
	}
}
