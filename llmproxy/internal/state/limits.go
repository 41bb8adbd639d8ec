package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/redislimit"
)

const (
	limitsBucket = "limits"
	// saveEvery is how often changes are passed to the ledger, which writes them half a second later. A crash loses less than a
	// second of usage, including the time that the disk takes.
	saveEvery = 100 * time.Millisecond
	// restoreWait bounds how long a request waits for the usage from before the start, if the disk is slow.
	restoreWait = time.Second
	// maxUnusedDays is how long the usage of a limit is kept after the last change. No window is longer.
	maxUnusedDays = 400
)

// LocalLimiter returns a limiter on this machine. The usage of its limits outlives the process in the ledger.
func LocalLimiter(c *Closer) (access.Limiter, error) {
	file := Ledger(c)
	return Acquire(c.AddLasting, Limits, ThisMachine, func() (*localLimits, error) {
		l := newLocalLimits(file)
		go l.run()
		return l, nil
	})
}

// localLimits keeps the usage of limits in memory, and saves it to the ledger.
type localLimits struct {
	*ratelimit.Memory
	ledger   *ledger.Ledger
	needed   chan struct{} // holds a value if a request arrives before StartDelay is over
	restored chan struct{} // closed when the saved usage was restored, or could not be read
	stop     chan struct{}
	stopped  chan struct{}
}

func newLocalLimits(l *ledger.Ledger) *localLimits {
	return &localLimits{
		Memory: ratelimit.NewMemory(), ledger: l,
		needed: make(chan struct{}, 1), restored: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// Take implements access.Limiter.
func (l *localLimits) Take(ctx context.Context, t *ratelimit.Reservation) error {
	l.awaitRestore(ctx)
	return l.Memory.Take(ctx, t)
}

// Peek implements access.Limiter.
func (l *localLimits) Peek(ctx context.Context, t *ratelimit.Reservation) error {
	l.awaitRestore(ctx)
	return l.Memory.Peek(ctx, t)
}

// awaitRestore waits until the saved usage is restored, because right after a start every limit looks unused.
func (l *localLimits) awaitRestore(ctx context.Context) {
	select {
	case <-l.restored:
		return
	default:
	}
	select {
	case l.needed <- struct{}{}:
	default:
	}
	timeout := time.NewTimer(restoreWait)
	defer timeout.Stop()
	select {
	case <-l.restored:
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// run restores the saved usage, after StartDelay or when the first request needs it, and saves changes until Close.
func (l *localLimits) run() {
	defer close(l.stopped)
	tried, ok := false, false
	tick := time.NewTimer(StartDelay)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.needed:
		case <-l.stop:
			if ok {
				l.save()
			}
			return
		}
		if ok {
			l.save()
		} else {
			ok = l.restore()
		}
		if !tried {
			tried = true
			close(l.restored)
		}
		tick.Reset(saveEvery)
	}
}

// restore reports whether it could read the ledger, which logs its own errors.
func (l *localLimits) restore() bool {
	saved := map[string][]byte{}
	err := l.ledger.Load(limitsBucket, func(id string, value []byte) error {
		saved[id] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return false
	}
	l.Changes() // the first call starts the recording of changes
	for id, value := range saved {
		usage, ok := decodeUsage(value, today())
		if !ok || l.Restore(id, usage) != nil {
			l.ledger.Delete(limitsBucket, id)
		}
	}
	return true
}

func (l *localLimits) save() {
	for id, usage := range l.Changes() {
		l.ledger.Save(limitsBucket, id, encodeUsage(usage, today()))
	}
}

// Close saves the last changes and ends the goroutine.
func (l *localLimits) Close() error {
	close(l.stop)
	<-l.stopped
	return nil
}

// today returns the number of days since 1970.
func today() uint32 { return uint32(time.Now().Unix() / 86400) }

// encodeUsage prefixes the usage of a limit with the day, so that the usage of deleted keys is deleted eventually.
func encodeUsage(usage []byte, day uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, day), usage...)
}

// decodeUsage removes the day. It reports false if the value is invalid or too old to matter.
func decodeUsage(value []byte, now uint32) ([]byte, bool) {
	if len(value) < 4 || int64(now)-int64(binary.BigEndian.Uint32(value)) > maxUnusedDays {
		return nil, false
	}
	return value[4:], true
}

// SharedLimiter returns a limiter in the shared state at an address. While the server does not answer, the limiter denies all
// requests that have limits if deny is set. Otherwise this Caddy grants its share of what was left.
func SharedLimiter(c *Closer, client redis.UniversalClient, address string, deny bool) (access.Limiter, error) {
	limiter, err := Acquire(c.AddLasting, Limits, client, func() (*redislimit.Limiter, error) {
		n := newInstanceCount(SnapshotOf("instances", address))
		return redislimit.New(client, redislimit.Config{Report: logLimits, Processes: n.saved, OnHeartbeat: n.update}), nil
	})
	if err != nil {
		return nil, err
	}
	if deny {
		return limiter, nil
	}
	return redislimit.Fallback{Limiter: limiter}, nil
}

// logLimits logs that the shared state does not answer, and with nil that it answers again. The state outlives configurations,
// so it uses the logger of the process.
func logLimits(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.limits")
	if err == nil {
		log.Info("limits are shared again")
		return
	}
	log.Error("the shared state does not answer; on_state_error decides whether requests with limits are allowed", zap.Error(err))
}

const (
	// maxInstances is the highest number that is accepted from a snapshot.
	maxInstances = 100_000
	// fewerAfter is how long the number of instances must have been lower before the lower number is saved. If all instances
	// are stopped one after another, the last one must not conclude that it was always alone.
	fewerAfter = 10 * time.Minute
)

// instanceCount remembers in a snapshot how many Caddys share the state.
type instanceCount struct {
	snapshot Snapshot
	saved    int64
	fewer    time.Time // since when the number has been lower, or zero
}

func newInstanceCount(s Snapshot) *instanceCount {
	c := &instanceCount{snapshot: s}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(s.Read())), 10, 64)
	if err == nil && n > 0 && n <= maxInstances {
		c.saved = n
	}
	return c
}

// update saves a number that has risen, or has been lower for a while.
func (c *instanceCount) update(n int64) {
	now := time.Now()
	switch {
	case n == c.saved:
		c.fewer = time.Time{}
		return
	case n < c.saved && c.fewer.IsZero():
		c.fewer = now
		return
	case n < c.saved && now.Sub(c.fewer) < fewerAfter:
		return
	}
	c.saved, c.fewer = n, time.Time{}
	go func() { // the disk may be slow
		if err := c.snapshot.Write(strconv.AppendInt(nil, n, 10)); err != nil {
			caddy.Log().Named("http.handlers.llm_proxy.limits").Warn("cannot save the number of Caddys that share limits for the next start; check the data directory", zap.Error(err))
		}
	}()
}
