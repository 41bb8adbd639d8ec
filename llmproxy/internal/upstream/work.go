package upstream

import (
	"context"
	"hash/crc32"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// Work is what a local server says about its work, without generating.
type Work struct {
	// At is when the server was asked.
	At time.Time
	// Count changes while the server works on any request.
	Count float64
	// Loading means that the server is loading a model, which is work whatever Count says.
	Loading bool
	// Queued is how many requests wait inside the server. While there are any, its work may all be for others.
	Queued float64
	// Conclusive means that a Count that stays the same proves that the server does not work.
	Conclusive bool
	// Load is what the server says about its load; admission also gets to know when it was asked.
	Load admission.Load
}

// ShowsProgress reports whether the server has worked since an earlier reading.
func (w Work) ShowsProgress(earlier Work) bool { return w.Loading || w.Count != earlier.Count }

// WorkInterval is the least time between two readings. A llama.cpp server that is asked more often does not notice clients that left.
const WorkInterval = 2 * time.Second

// workTimeout bounds a reading. A server in the middle of a large batch answers late.
const workTimeout = time.Second

// workReadings share readings among all who want to know about a replica.
type workReadings struct {
	mu   sync.Mutex
	last map[*replica.Replica]*workReading
}

type workReading struct {
	at   time.Time
	done chan struct{} // closed when the other fields are set
	work Work
	ok   bool
}

// ReportsLoad reports whether servers of the upstream's kind say how many requests they have.
func (u *Upstream) ReportsLoad() bool { return u.ActualKind().reportsLoad }

// ReportsWork reports whether servers of the upstream's kind can be asked about their work.
func (u *Upstream) ReportsWork() bool { return u.ActualKind().work != nil }

// Work asks a replica about its work, and lets the replica learn from what the server says about its load. If there is a reading that is
// less than WorkInterval old, it returns that. It returns false if the server does not answer, has no counters, or has them switched off.
func (u *Upstream) Work(ctx context.Context, r *replica.Replica) (Work, bool) {
	ask := u.ActualKind().work
	if ask == nil {
		return Work{}, false
	}
	readings, now := &u.readings, time.Now()
	readings.mu.Lock()
	reading := readings.last[r]
	fresh := reading != nil && now.Sub(reading.at) < WorkInterval
	if !fresh {
		reading = &workReading{at: now, done: make(chan struct{})}
		if readings.last == nil {
			readings.last = map[*replica.Replica]*workReading{}
		}
		readings.last[r] = reading
	}
	readings.mu.Unlock()
	if !fresh {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout) // others may be waiting for it
		defer cancel()
		defer close(reading.done)
		own := r.InFlight()
		p := &probe{ctx: ctx, u: u, base: u.base(r)}
		reading.work, reading.ok = ask(p)
		reading.work.At = now
		load := reading.work.Load
		load.Known, load.Asked, load.Own = load.Known && reading.ok, now, own
		r.Queue().Observe(load)
		if reading.ok && !r.Queue().StatesSlots() { // it may have been too busy to say so when the gateway started
			u.fetchSlots(p, r)
		}
		return reading.work, reading.ok
	}
	select {
	case <-reading.done:
		return reading.work, reading.ok
	case <-ctx.Done():
		return Work{}, false
	}
}

// meters are the Prometheus metrics of a kind of server that show its work.
type meters struct {
	progress []string // each changes while the server works
	queued   []string // how many requests wait inside the server
	steady   []string // some of progress: while the server works, they change at every step
	running  []string // how many requests it generates for
	details  func(page []byte, l *admission.Load)
}

// read reads the metrics of a server.
func (m meters) read(p *probe) (Work, bool) {
	status, body, _ := p.get("/metrics")
	if status != http.StatusOK {
		return Work{}, false
	}
	count, ok := sumMetrics(body, m.progress)
	queued, _ := sumMetrics(body, m.queued)
	_, steady := sumMetrics(body, m.steady)
	w := Work{Count: count, Queued: queued, Conclusive: steady}
	if running, known := sumMetrics(body, m.running); known {
		w.Load = admission.Load{Known: true, Running: countOf(running), Waiting: countOf(queued)}
		if m.details != nil {
			m.details(body, &w.Load)
		}
	}
	return w, ok
}

// fingerprint returns a number that changes with the text.
func fingerprint(text []byte) float64 { return float64(crc32.ChecksumIEEE(text)) }

// LearnsSlots reports whether a server of the upstream's kind that refuses requests because of load has as many as it can do.
func (u *Upstream) LearnsSlots() bool { return u.ActualKind().learnsSlots }

// lingerExtra is how long an abandoned request may stay at the server beyond the time to read its prompt, and maxLinger bounds both.
const (
	lingerExtra = 10 * time.Second
	maxLinger   = time.Minute
	// noticed is how long a server needs to notice that the client of a stream has left to which it is sending.
	noticed = 100 * time.Millisecond
)

// Lingers returns how long a server may still be at work on an abandoned request with a prompt of so many tokens. Zero means that it lets
// go at once. Sending means that it was sending a stream, so that it notices with the next token.
func (u *Upstream) Lingers(model string, tokens int, sending bool) time.Duration {
	switch {
	case !u.ActualKind().lingers:
		return 0
	case sending:
		return noticed
	}
	return min(u.PrefillTime(model, tokens)+lingerExtra, maxLinger)
}
