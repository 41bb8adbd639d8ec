package reqbody

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A body that brings less than minProgress bytes in stallTimeout has stalled.
const (
	stallTimeout = 30 * time.Second
	minProgress  = 1 << 10
)

// A Client is the client that sends a body.
type Client interface {
	// Unwrap returns the response writer, for http.MaxBytesReader.
	Unwrap() http.ResponseWriter
	// StopReading makes a blocked read of the body fail, and every later one.
	StopReading()
}

// Uploads watches the bodies that are arriving, and ends those that stall: otherwise, a client that sends no more would hold a
// connection, memory and its place among the concurrent requests forever. One timer is enough for all bodies, because each is checked
// at the same interval. The zero Uploads is ready. It is safe for concurrent use.
type Uploads struct {
	mu          sync.Mutex
	first, last *upload // in the order in which they are due
	scheduled   bool    // a timer is running
}

// An upload is a body that is arriving.
type upload struct {
	body     io.ReadCloser
	from     Client
	received atomic.Int64 // bytes
	stalled  atomic.Bool

	watched        bool // this and the following are guarded by Uploads.mu
	previous, next *upload
	due            time.Time // of the next check
	seen           int64     // received at the last check
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	u.received.Add(int64(n))
	return n, err
}

// Close implements io.Closer. The server closes the body after the handler has returned. Until then, the rest of a body that was refused
// can be read and discarded.
func (u *upload) Close() error { return nil }

// watch starts to watch a body. It must be ended.
func (w *Uploads) watch(u *upload, now time.Time) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u.watched, u.due = true, now.Add(stallTimeout)
	w.push(u)
	w.schedule(now)
}

// end stops watching a body.
func (w *Uploads) end(u *upload) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if u.watched {
		u.watched = false
		w.remove(u)
	}
}

// schedule starts the timer for the first body, if none is running. The caller holds mu.
func (w *Uploads) schedule(now time.Time) {
	if w.first == nil || w.scheduled {
		return
	}
	w.scheduled = true
	time.AfterFunc(w.first.due.Sub(now), w.check)
}

// check ends the bodies that have stalled, of those that are due.
func (w *Uploads) check() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scheduled = false
	for u := w.first; u != nil && !u.due.After(now); u = w.first {
		w.remove(u)
		received := u.received.Load()
		if received-u.seen < minProgress {
			u.watched = false
			u.stalled.Store(true)
			u.from.StopReading() // does not block
			continue
		}
		u.seen, u.due = received, now.Add(stallTimeout)
		w.push(u)
	}
	w.schedule(now)
}

// push adds a body at the end. The caller holds mu.
func (w *Uploads) push(u *upload) {
	u.previous, u.next = w.last, nil
	if w.last == nil {
		w.first = u
	} else {
		w.last.next = u
	}
	w.last = u
}

// remove removes a body. The caller holds mu.
func (w *Uploads) remove(u *upload) {
	if u.previous == nil {
		w.first = u.next
	} else {
		u.previous.next = u.next
	}
	if u.next == nil {
		w.last = u.previous
	} else {
		u.next.previous = u.previous
	}
	u.previous, u.next = nil, nil
}
