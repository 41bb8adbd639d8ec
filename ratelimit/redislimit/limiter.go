// Package redislimit counts the usage of limits in Redis or Valkey, for any number of processes. One script decides on a
// request and reserves from all its limits, so that the limits hold exactly.
//
// A Limiter fails while the server is unavailable. A Fallback then grants this process its share of what was left, and its
// usage is added to the server's counters afterwards. Concurrency limits hold leases, which expire if a process dies.
//
// The package does not decide what a limit means: it stands on ratelimit, which parses and reads the counters.
package redislimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

const (
	// requestTimeout is how long a request waits for the server.
	requestTimeout = 50 * time.Millisecond
	// backgroundTimeout bounds commands for which no request waits.
	backgroundTimeout = 500 * time.Millisecond
	// probeInterval is the time between probes of an unavailable server.
	probeInterval = 100 * time.Millisecond
	// leaseTTL is how long the leases of a process that has died count; a live process renews its own every leaseRenewal.
	leaseTTL     = 30 * time.Second
	leaseRenewal = 10 * time.Second
	// firstHeartbeat is the delay of the first heartbeat. A process that only validates its configuration ends before it.
	firstHeartbeat = 250 * time.Millisecond
	// heartbeatInterval is the time between heartbeats, which register this process and count all of them.
	heartbeatInterval = 2 * time.Second
	// presenceTTL is how long a process counts after its last heartbeat.
	presenceTTL = 10 * time.Second
	// maxQueued bounds the settlements that wait to be sent. Beyond it, the estimates of requests stay counted.
	maxQueued = 4096
	// maxBatch bounds the settlements, leases or corrections that are sent at once, because a script blocks the server.
	maxBatch = 64
)

var errUnavailable = errors.New("the shared state of limits is unavailable")

// A Config configures a Limiter.
type Config struct {
	// Report, if set, is called once with an error when the server becomes unavailable, and with nil when it is available
	// again. It must not block.
	Report func(error)
	// Processes is the number of processes that shared the limits when it was last known. It is used until the server reports
	// a number.
	Processes int64
	// OnHeartbeat, if set, is called repeatedly with the number of processes that share the limits. It must not block.
	OnHeartbeat func(processes int64)
}

// A Limiter counts in a Redis or Valkey server. A reservation costs one round trip. Settlements are sent in the background,
// unless they end a lease, which must be free when the client sends its next request, or refund a request. After the first failure the server
// counts as unavailable: requests do not ask it, until the background goroutine finds it available again. That is at once if a
// request had only timed out while it waited for a new connection. A Limiter is safe for concurrent use.
type Limiter struct {
	config  Config
	client  redis.UniversalClient
	clock   string // the time in microseconds, in tests; empty for the server's
	timeout time.Duration
	name    string // unique among all processes

	leases      atomic.Uint64 // leases named so far
	unavailable atomic.Bool
	failed      chan error // receives the error that made the server unavailable
	queue       chan settlement
	stop        chan struct{}
	stopped     chan struct{}

	mu   sync.Mutex
	held map[string][]string // the keys of concurrency limits, by lease

	processes atomic.Int64 // how many share the limits, by the last heartbeat; 0 before the first
	offline   *ratelimit.Offline
	batches   int          // batches of corrections so far; owned by the background goroutine
	unsent    []settlement // corrections that are not known to have arrived; owned by the background goroutine
}

// New returns a Limiter and starts its background goroutine, which ends with Close.
func New(client redis.UniversalClient, c Config) *Limiter {
	l := newLimiter(client, c)
	go l.run()
	return l
}

func newLimiter(client redis.UniversalClient, c Config) *Limiter {
	return &Limiter{
		config: c, client: client, timeout: requestTimeout, name: rand.Text(), held: map[string][]string{}, offline: ratelimit.NewOffline(),
		failed: make(chan error, 1), queue: make(chan settlement, maxQueued), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// Close sends the queued settlements and ends the background goroutine. The caller closes the client.
func (l *Limiter) Close() error {
	close(l.stop)
	<-l.stopped
	return nil
}

// Take reserves from all limits of the request, or from none. It fails if the server is unavailable or does not answer within
// 50 ms.
func (l *Limiter) Take(ctx context.Context, res *ratelimit.Reservation) error {
	_, err := l.take(ctx, res)
	return err
}

// Peek fills in the quota left and reserves nothing.
func (l *Limiter) Peek(ctx context.Context, res *ratelimit.Reservation) error {
	_, err := l.reserve(ctx, res, "", false)
	return err
}

func (l *Limiter) take(ctx context.Context, res *ratelimit.Reservation) ([]ratelimit.Counter, error) {
	res.Denied, res.Wait, res.Lease = nil, 0, l.newLease()
	reply, err := l.reserve(ctx, res, res.Lease, true)
	if err != nil {
		return nil, err
	}
	if !reply.granted {
		res.Deny(reply.counters)
		return reply.counters, nil
	}
	res.At = reply.now
	l.hold(res)
	return reply.counters, nil
}

func (l *Limiter) newLease() string { return l.name + "-" + strconv.FormatUint(l.leases.Add(1), 36) }

// A reply is what reserveScript returns.
type reply struct {
	now      time.Time // by the server's clock
	granted  bool
	counters []ratelimit.Counter
}

// reserve runs reserveScript. A client that disconnects does not cancel it, because what it reserves must be settled.
func (l *Limiter) reserve(ctx context.Context, res *ratelimit.Reservation, lease string, really bool) (reply, error) {
	if l.unavailable.Load() {
		return reply{}, errUnavailable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
	defer cancel()
	keys := make([]string, len(res.Limits))
	args := make([]any, 0, 4+4*len(keys))
	args = append(args, l.clock, lease, leaseTTL.Microseconds(), really)
	for i, limit := range res.Limits {
		keys[i] = keyOf(limit)
		args = append(appendRule(args, limit.Rule), res.Amount(limit.Rule))
	}
	var r reply
	values, err := reserveScript.Run(ctx, l.client, keys, args...).Slice()
	if err == nil {
		r, err = parseReply(values, res.Limits)
	}
	if err != nil {
		l.fail(err)
		return reply{}, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	res.Observe(r.now, r.counters)
	return r, nil
}

var errInvalidReply = errors.New("invalid reply of a script in the shared state")

func parseReply(values []any, limits []*ratelimit.Limit) (r reply, err error) {
	if len(values) != 2+len(limits) {
		return r, errInvalidReply
	}
	text, _ := values[0].(string)
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return r, errInvalidReply
	}
	r = reply{now: time.UnixMicro(micros), granted: values[1] == int64(1), counters: make([]ratelimit.Counter, len(limits))}
	for i, limit := range limits {
		text, _ := values[2+i].(string)
		if r.counters[i], err = ratelimit.ParseCounter(text, limit.Rule); err != nil {
			return r, err
		}
	}
	return r, nil
}

// fail makes the server unavailable and wakes the background goroutine.
func (l *Limiter) fail(err error) {
	if l.unavailable.Swap(true) {
		return
	}
	select {
	case l.failed <- err:
	default:
	}
}

// hold records the leases of a running request so that they are renewed.
func (l *Limiter) hold(res *ratelimit.Reservation) {
	var keys []string
	for _, limit := range res.Limits {
		if limit.Rule.Unit == ratelimit.Concurrent {
			keys = append(keys, keyOf(limit))
		}
	}
	if keys == nil {
		return
	}
	l.mu.Lock()
	l.held[res.Lease] = keys
	l.mu.Unlock()
}

// release stops the renewal of a request's leases.
func (l *Limiter) release(res *ratelimit.Reservation) {
	l.mu.Lock()
	delete(l.held, res.Lease)
	l.mu.Unlock()
}

// keyPrefix begins all keys; the braces put them on one node of a cluster, so that one script may use several.
const keyPrefix = "llm_proxy:{limits}:"

// keyOf returns the key of a limit's counter.
func keyOf(l *ratelimit.Limit) string {
	if l.Address.IsValid() {
		return keyPrefix + "address/" + l.Address.String() + "/" + l.Rule.Unit.String() + "/" + l.Rule.Per()
	}
	return keyPrefix + l.ID
}

// appendRule appends what a script needs of a rule: its kind, its limit, and its window, or the interval of a sliding budget, in
// microseconds.
func appendRule(args []any, r ratelimit.Rule) []any {
	switch {
	case r.Unit == ratelimit.Concurrent:
		return append(args, "c", r.Limit, 0)
	case r.Unit == ratelimit.Tokens:
		return append(args, "t", r.Limit, r.Window.Microseconds())
	case r.Unit != ratelimit.Spend:
		return append(args, "b", r.Limit, r.Window.Microseconds())
	case r.Calendar == ratelimit.Day:
		return append(args, "d", r.Limit, 0)
	case r.Calendar == ratelimit.Month:
		return append(args, "m", r.Limit, 0)
	}
	return append(args, "s", r.Limit, strconv.FormatFloat(float64(r.Interval())/1e3, 'f', -1, 64))
}

// A settlement is one call of settleScript.
type settlement struct {
	keys       []string
	args       []any
	limits     []*ratelimit.Limit
	budgetUsed func(*ratelimit.Limit, int)
}

// Settle replaces the estimates by the tokens and the cost that were really used, and ends the concurrent request. A reservation
// that was denied or already settled is ignored. A settlement that fails is not sent again, since it may have arrived: the
// estimate stays counted, and the lease expires.
func (l *Limiter) Settle(res *ratelimit.Reservation, tokens, spend int64) {
	if res.At.IsZero() {
		return
	}
	s := settlement{budgetUsed: res.BudgetUsed, args: []any{l.clock, res.Lease, ""}}
	urgent := res.Refund // the client is told what is left
	for _, limit := range res.Limits {
		unit := limit.Rule.Unit
		if unit == ratelimit.Requests && !res.Refund {
			continue // a request stays counted
		}
		urgent = urgent || unit == ratelimit.Concurrent
		s.keys, s.limits = append(s.keys, keyOf(limit)), append(s.limits, limit)
		s.args = append(appendRule(s.args, limit.Rule), res.Amount(limit.Rule), res.Used(unit, tokens, spend), res.At.UnixMicro())
	}
	res.At = time.Time{}
	if urgent {
		l.release(res)
		if !l.unavailable.Load() {
			l.send(l.timeout, s) //nolint:errcheck // it makes the server unavailable
			return
		}
	}
	if len(s.keys) == 0 {
		return
	}
	select {
	case l.queue <- s:
	default:
	}
}

// send sends settlements together and returns the last error.
func (l *Limiter) send(timeout time.Duration, settlements ...settlement) (failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	replies := make([]*redis.Cmd, len(settlements))
	if len(settlements) == 1 { // a pipeline may have to open a connection of its own
		replies[0] = settleScript.EvalSha(ctx, l.client, settlements[0].keys, settlements[0].args...)
	} else {
		pipe := l.client.Pipeline()
		for i, s := range settlements {
			replies[i] = settleScript.EvalSha(ctx, pipe, s.keys, s.args...)
		}
		pipe.Exec(ctx) //nolint:errcheck // each reply has its own error
	}
	for i, s := range settlements {
		if redis.HasErrorPrefix(replies[i].Err(), "NOSCRIPT") { // the server restarted, and has not run the script
			replies[i] = settleScript.Eval(ctx, l.client, s.keys, s.args...)
		}
		alerts, err := replies[i].Int64Slice()
		if err != nil {
			l.fail(err)
			failed = err
			continue
		}
		for n, percent := range alerts {
			if percent > 0 && n < len(s.limits) && s.budgetUsed != nil {
				s.budgetUsed(s.limits[n], int(percent))
			}
		}
	}
	return failed
}

// run sends settlements, renews leases, sends heartbeats, and probes the server while it is unavailable.
func (l *Limiter) run() {
	defer close(l.stopped)
	probe, renewal, heartbeat := time.NewTicker(probeInterval), time.NewTicker(leaseRenewal), time.NewTicker(firstHeartbeat)
	defer probe.Stop()
	defer renewal.Stop()
	defer heartbeat.Stop()
	probe.Stop()
	reported := false
	for {
		queue := l.queue
		if l.unavailable.Load() {
			queue = nil // settlements wait
		}
		select {
		case s := <-queue:
			l.send(backgroundTimeout, l.batch(s)...) //nolint:errcheck // it makes the server unavailable
		case <-renewal.C:
			l.renew()
		case <-heartbeat.C:
			heartbeat.Reset(heartbeatInterval)
			if !l.unavailable.Load() && l.heartbeat(presenceTTL) == nil {
				l.sendCorrections() //nolint:errcheck // it makes the server unavailable
			}
		case err := <-l.failed:
			if !l.reconnect() && !reported {
				reported = true
				l.report(err)
			}
			probe.Reset(probeInterval)
		case <-probe.C:
			if !l.reconnect() {
				continue
			}
			probe.Stop()
			if reported {
				reported = false
				l.report(nil)
			}
		case <-l.stop:
			l.finish()
			return
		}
	}
}

// batch adds further queued settlements to the first.
func (l *Limiter) batch(first settlement) []settlement {
	batch := []settlement{first}
	for len(batch) < maxBatch {
		select {
		case s := <-l.queue:
			batch = append(batch, s)
		default:
			return batch
		}
	}
	return batch
}

// finish sends what is queued and unregisters this process.
func (l *Limiter) finish() {
	for !l.unavailable.Load() {
		select {
		case s := <-l.queue:
			l.send(backgroundTimeout, l.batch(s)...) //nolint:errcheck // it makes the server unavailable
			continue
		default:
		}
		if l.sendCorrections() == nil && l.processes.Load() > 0 {
			l.heartbeat(0) //nolint:errcheck // the registration expires in any case
		}
		return
	}
}

// reconnect reports whether the server is available. It probes with the script that requests use. Before requests may use the
// server again, it adds the offline usage to the server's counters; then it restores the leases that the server may have lost.
func (l *Limiter) reconnect() bool {
	if !l.unavailable.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
	defer cancel()
	args := append(appendRule([]any{"", "", 0, true}, ratelimit.Rule{Unit: ratelimit.Requests, Limit: 1 << 30, Window: time.Second}), 1)
	if reserveScript.Run(ctx, l.client, []string{keyPrefix + "probe"}, args...).Err() != nil || l.heartbeat(presenceTTL) != nil || l.sendCorrections() != nil {
		return false
	}
	l.unavailable.Store(false)
	l.renew()
	return l.sendCorrections() == nil && !l.unavailable.Load() // requests may have reserved offline until just now
}

func (l *Limiter) report(err error) {
	if l.config.Report != nil {
		l.config.Report(err)
	}
}

// renew extends the leases of running requests.
func (l *Limiter) renew() {
	var keys []string
	var leases []any
	l.mu.Lock()
	for lease, held := range l.held {
		for _, key := range held {
			keys, leases = append(keys, key), append(leases, lease)
		}
	}
	l.mu.Unlock()
	for len(keys) > 0 && !l.unavailable.Load() {
		n := min(len(keys), maxBatch)
		ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
		err := renewScript.Run(ctx, l.client, keys[:n], append([]any{l.clock, leaseTTL.Microseconds()}, leases[:n]...)...).Err()
		cancel()
		if err != nil {
			l.fail(err)
		}
		keys, leases = keys[n:], leases[n:]
	}
}

// heartbeat registers this process for some time, and counts the registered ones. A time of zero unregisters it.
func (l *Limiter) heartbeat(ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
	defer cancel()
	n, err := heartbeatScript.Run(ctx, l.client, []string{keyPrefix + "present"}, l.clock, ttl.Microseconds(), l.name).Int64()
	if err != nil {
		l.fail(err)
		return err
	}
	l.processes.Store(n)
	if l.config.OnHeartbeat != nil && ttl > 0 {
		l.config.OnHeartbeat(n)
	}
	return nil
}

// shares returns how many processes divide the limits while the server is unavailable, at least 1.
func (l *Limiter) shares() int64 {
	if n := l.processes.Load(); n > 0 {
		return n
	}
	return max(1, l.config.Processes)
}

const (
	// correctionRounds bounds how often usage that was recorded while the last corrections were sent is sent at once; it is less
	// each time.
	correctionRounds = 8
	// markSeconds is how long the server remembers that it has a batch of corrections: far longer than it may be sent again.
	markSeconds = 24 * 60 * 60
)

// sendCorrections adds the offline usage to the server's counters. A batch that fails is sent again. A mark makes it count once
// even if only the reply was lost.
func (l *Limiter) sendCorrections() error {
	for range correctionRounds {
		if len(l.unsent) == 0 {
			for batch := range slices.Chunk(l.offline.Collect(), maxBatch) {
				l.batches++
				l.unsent = append(l.unsent, correct(batch, keyPrefix+"paid:"+l.name+":"+strconv.Itoa(l.batches)))
			}
		}
		if len(l.unsent) == 0 {
			return nil
		}
		for len(l.unsent) > 0 {
			if err := l.send(backgroundTimeout, l.unsent[0]); err != nil {
				return err
			}
			l.unsent = l.unsent[1:]
		}
	}
	return nil
}

// correct returns the settlement of a batch of corrections: as of requests that had reserved nothing.
func correct(batch []ratelimit.Correction, mark string) settlement {
	budgetUsed := map[*ratelimit.Limit]func(*ratelimit.Limit, int){}
	s := settlement{args: []any{"", "", markSeconds}, budgetUsed: func(l *ratelimit.Limit, percent int) {
		if report := budgetUsed[l]; report != nil {
			report(l, percent)
		}
	}}
	for _, c := range batch {
		budgetUsed[c.Limit] = c.BudgetUsed
		s.keys, s.limits = append(s.keys, keyOf(c.Limit)), append(s.limits, c.Limit)
		s.args = append(appendRule(s.args, c.Limit.Rule), 0, strconv.FormatFloat(c.Amount, 'f', -1, 64), c.At.UnixMicro())
	}
	s.keys = append(s.keys, mark)
	return s
}
