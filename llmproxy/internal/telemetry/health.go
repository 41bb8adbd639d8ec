package telemetry

import (
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
)

// A replica that is restarted has two lines in the log, but one that goes up and down must not fill it.
const (
	healthLines  = 4               // that a replica may have within healthWindow
	healthWindow = 2 * time.Minute // then one line reports all changes since
)

// healthLog limits the lines about the health of each replica.
type healthLog struct {
	write func(latest delivery.Change, changes int)

	mu       sync.Mutex
	closed   bool
	replicas map[string]*replicaLines // by address
}

// replicaLines are the latest lines about a replica.
type replicaLines struct {
	lines   []time.Time
	latest  delivery.Change
	pending int         // changes that no line has reported yet
	timer   *time.Timer // that will report them; nil without changes
}

func newHealthLog(write func(latest delivery.Change, changes int)) *healthLog {
	return &healthLog{write: write, replicas: map[string]*replicaLines{}}
}

// note writes a line about a change, now or together with those that follow.
func (h *healthLog) note(c delivery.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.replicas[c.Address]
	if r == nil {
		r = new(replicaLines)
		h.replicas[c.Address] = r
	}
	r.latest = c
	r.pending++
	if r.timer != nil || h.closed {
		return
	}
	now := time.Now()
	if len(r.lines) < healthLines || now.Sub(r.lines[0]) >= healthWindow {
		h.report(r, now)
		return
	}
	r.timer = time.AfterFunc(r.lines[0].Add(healthWindow).Sub(now), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.timer = nil
		if !h.closed {
			h.report(r, time.Now())
		}
	})
}

// report writes a line about the pending changes. The caller must hold the lock.
func (h *healthLog) report(r *replicaLines, now time.Time) {
	if len(r.lines) == healthLines {
		r.lines = r.lines[1:]
	}
	r.lines = append(r.lines, now)
	h.write(r.latest, r.pending)
	r.pending = 0
}

// close ends all writing.
func (h *healthLog) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, r := range h.replicas {
		if r.timer != nil {
			r.timer.Stop()
		}
	}
}
