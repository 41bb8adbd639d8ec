package upstream

import (
	"context"
	"hash/crc32"
	"net/http"
	"sync"
	"time"

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

// ReportsWork reports whether servers of the upstream's kind can be asked about their work.
func (u *Upstream) ReportsWork() bool { return u.ActualKind().work != nil }

// Work asks a replica about its work. If there is a reading that is less than WorkInterval old, it returns that. It returns false if
// the server does not answer, has no counters, or has them switched off.
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
		reading.work, reading.ok = ask(&probe{ctx: ctx, u: u, base: u.base(r)})
		reading.work.At = now
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
}

func (m meters) read(p *probe) (Work, bool) {
	status, body, _ := p.get("/metrics")
	if status != http.StatusOK {
		return Work{}, false
	}
	count, ok := sumMetrics(body, m.progress)
	queued, _ := sumMetrics(body, m.queued)
	_, steady := sumMetrics(body, m.steady)
	return Work{Count: count, Queued: queued, Conclusive: steady}, ok
}

// fingerprint returns a number that changes with the text.
func fingerprint(text []byte) float64 { return float64(crc32.ChecksumIEEE(text)) }
