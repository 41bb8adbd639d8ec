package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// requestTimeout is the longest that a request waits for the server.
	requestTimeout = 50 * time.Millisecond
	// leaseTTL is how long the place of a process that has died stays taken; those that live renew theirs every leaseRenewal.
	leaseTTL     = 30 * time.Second
	leaseRenewal = 10 * time.Second
)

var errUnavailable = errors.New("the shared state of limits is unavailable")

// A SharedConfig is what a Shared knows besides its server.
type SharedConfig struct {
	// Report hears when the server cannot be used, once, and of nil when it can be used again; nil for nobody. It must not block.
	Report func(error)
	// Sharers is how many processes shared the limits when that was last known: for as long as the server says nothing else.
	Sharers int64
	// Heard hears again and again how many they are; nil for nobody. It must not block.
	Heard func(sharers int64)
}

// A Shared keeps the facts in a Redis or Valkey server, for any number of processes. A request costs one round trip; what it
// gives back is sent behind its back, except for a place, which must be free when its client comes again. The first failure
// makes the server count as away: nobody asks it then but a goroutine that finds out when it is back; at once, where a request
// had only no time to wait for a new connection. It is safe for concurrent use.
type Shared struct {
	SharedConfig
	client redis.UniversalClient
	clock  string // empty for the server's; tests set it, in microseconds
	wait   time.Duration

	name   string // tells this process from all others
	leased atomic.Uint64
	away   atomic.Bool
	failed chan error // told why when it becomes away
	queue  chan settlement
	stop   chan struct{}
	ended  chan struct{}

	mu   sync.Mutex
	held map[string][]string // the places of each lease

	present      atomic.Int64 // how many processes use the server, as last heard
	offlineUsage offlineUsage
	paid         int          // how many payments were made
	unsent       []settlement // corrections not yet sent; owned by the background goroutine
}

// NewShared makes a store. It asks the server nothing.
func NewShared(client redis.UniversalClient, c SharedConfig) *Shared {
	s := newShared(client, c)
	go s.work()
	return s
}

func newShared(client redis.UniversalClient, c SharedConfig) *Shared {
	return &Shared{
		SharedConfig: c, client: client, wait: requestTimeout, name: rand.Text(), held: map[string][]string{}, failed: make(chan error, 1),
		queue: make(chan settlement, sharedQueue), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Close sends what waits and ends. The client is the caller's to close.
func (s *Shared) Close() error {
	close(s.stop)
	<-s.ended
	return nil
}

// Take reserves from all limits of the request, or from none. It fails if the server does not answer within 50 ms, or is away.
func (s *Shared) Take(ctx context.Context, t *Reservation) error { return s.take(ctx, t, nil) }

// Peek fills in the quota left and reserves nothing.
func (s *Shared) Peek(ctx context.Context, t *Reservation) error {
	_, _, _, err := s.ask(ctx, t, "", 0)
	return err
}

// take tells a memory, if there is one, what it heard.
func (s *Shared) take(ctx context.Context, t *Reservation, heard *Memory) error {
	t.Denied, t.Wait, t.lease = nil, 0, s.lease()
	now, taken, cells, err := s.ask(ctx, t, t.lease, 1)
	if err != nil {
		return err
	}
	if heard != nil {
		defer func() { heard.hear(t, cells, taken, s.away.Load()) }()
	}
	if taken {
		t.At = now
		s.hold(t)
		return nil
	}
	for i, l := range t.Limits {
		if wait := cells[i].wait(t.want(l.Rule), l.Rule); wait > 0 {
			t.deny(l, wait)
		}
	}
	if t.Denied == nil && len(t.Limits) > 0 { // a slot ended between the server's reckoning and ours
		t.deny(t.Limits[0], time.Millisecond)
	}
	return nil
}

// lease returns a new name for the concurrency slots of a request.
func (s *Shared) lease() string { return s.name + "-" + strconv.FormatUint(s.leased.Add(1), 36) }

// ask runs the script. A client that leaves does not end it: what is taken has to be known, to be given back.
func (s *Shared) ask(ctx context.Context, t *Reservation, lease string, really int) (now time.Time, taken bool, cells []cell, err error) {
	if s.away.Load() {
		return now, false, nil, errUnavailable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.wait)
	defer cancel()
	keys := make([]string, len(t.Limits))
	args := make([]any, 0, 4+4*len(keys))
	args = append(args, s.clock, lease, leaseTTL.Microseconds(), really)
	for i, l := range t.Limits {
		keys[i] = sharedKey(l)
		args = append(appendRule(args, l.Rule), t.want(l.Rule))
	}
	answer, err := takeShared.Run(ctx, s.client, keys, args...).Slice()
	if err == nil {
		now, taken, cells, err = s.parse(answer, t)
	}
	if err != nil {
		s.fail(err)
		return now, false, nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return now, taken, cells, nil
}

// parse reads the script's answer and fills in what is left.
func (s *Shared) parse(answer []any, t *Reservation) (now time.Time, taken bool, cells []cell, err error) {
	if len(answer) != 2+len(t.Limits) {
		return now, false, nil, errInvalidReply
	}
	text, _ := answer[0].(string)
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return now, false, nil, errInvalidReply
	}
	now, left := time.UnixMicro(micros), t.state()
	cells = make([]cell, len(t.Limits))
	for i, l := range t.Limits {
		text, _ := answer[2+i].(string)
		if cells[i], err = parseCell(text, l.Rule); err != nil {
			return now, false, nil, err
		}
		left[i] = t.share.state(cells[i], cells[i].look(now, l.Rule), l.Rule)
	}
	return now, answer[1] == int64(1), cells, nil
}

// fail makes the server count as away, and wakes who finds out when it is back.
func (s *Shared) fail(err error) {
	if s.away.Swap(true) {
		return
	}
	select {
	case s.failed <- err:
	default:
	}
}

// hold records the request's slots so that their lease is renewed.
func (s *Shared) hold(t *Reservation) {
	var places []string
	for _, l := range t.Limits {
		if l.Rule.Unit == Concurrent {
			places = append(places, sharedKey(l))
		}
	}
	if places == nil {
		return
	}
	s.mu.Lock()
	s.held[t.lease] = places
	s.mu.Unlock()
}

// drop stops renewing the request's slots.
func (s *Shared) drop(t *Reservation) {
	s.mu.Lock()
	delete(s.held, t.lease)
	s.mu.Unlock()
}

// sharedPrefix begins the server's keys; the braces put all of them on one node of a cluster, so that one script may take
// from several limits.
const sharedPrefix = "llm_proxy:{limits}:"

// sharedKey is where the server keeps the facts of a limit.
func sharedKey(l *Limit) string {
	if l.Address.IsValid() {
		return sharedPrefix + "address/" + l.Address.String() + "/" + l.Rule.Unit.String() + "/" + l.Rule.Per()
	}
	return sharedPrefix + l.ID
}

// appendRule appends what a script knows of a rule: its kind, its number, and its window or the width of a slot in microseconds.
func appendRule(args []any, r Rule) []any {
	switch {
	case r.Unit == Concurrent:
		return append(args, "c", r.Limit, 0)
	case r.Unit == Tokens:
		return append(args, "t", r.Limit, r.Window.Microseconds())
	case r.Unit != Spend:
		return append(args, "b", r.Limit, r.Window.Microseconds())
	case r.Calendar == Day:
		return append(args, "d", r.Limit, 0)
	case r.Calendar == Month:
		return append(args, "m", r.Limit, 0)
	}
	return append(args, "s", r.Limit, strconv.FormatFloat(float64(width(r))/1e3, 'f', -1, 64))
}

var errInvalidReply = errors.New("invalid state of a limit in Redis")

// parseCell reads the facts as the scripts give them.
func parseCell(text string, r Rule) (cell, error) {
	var f [slots + 4]float64
	n := 0
	for number := range strings.FieldsSeq(text) {
		value, err := strconv.ParseFloat(number, 64)
		if err != nil || n == len(f) || math.Abs(value) > 1<<62 || value != value {
			return nil, errInvalidReply
		}
		f[n] = value
		n++
	}
	c := newCell(r)
	want := 0
	switch c := c.(type) {
	case *places:
		want, c.held = 1, int64(f[0])
	case *bucket:
		want, c.used, c.at = 2, f[0], int64(f[1])*int64(time.Microsecond)
	case *metered:
		want, c.used, c.at, c.reserved = 3, f[0], int64(f[1])*int64(time.Microsecond), reserved(f[2])
	case *period:
		want, c.number, c.level, c.spent, c.reserved = 4, int64(f[0]), uint8(f[1]), int64(f[2]), reserved(f[3])
	case *spending:
		want, c.head, c.level, c.reserved = len(f), int64(f[0]), uint8(f[1]), reserved(f[len(f)-1])
		for i := range c.spent {
			c.spent[i] = int64(f[2+i])
		}
	}
	if n != want {
		return nil, errInvalidReply
	}
	return c, nil
}

// sharedQueue is how many settlements may wait; of more, the estimates stand.
const sharedQueue = 4096

// A settlement is what is sent to Redis when a request is over.
type settlement struct {
	keys    []string
	args    []any
	limits  []*Limit
	crossed func(*Limit, int)
}

// Settle puts the tokens and the cost that were really used in the place of the estimates, and gives the places back.
// A reservation that was denied or already settled is ignored. A settlement that fails is not sent again, since it may
// have arrived: the estimate stands, and a place comes free when its lease ends.
func (s *Shared) Settle(t *Reservation, tokens, spend int64) {
	if t.At.IsZero() {
		return
	}
	job := settlement{crossed: t.Crossed, args: []any{s.clock, t.lease, ""}}
	places := false
	for _, l := range t.Limits {
		taken, used := t.want(l.Rule), used(l.Rule.Unit, tokens, spend)
		if l.Rule.Unit == Requests {
			continue // they stay taken
		}
		places = places || l.Rule.Unit == Concurrent
		job.keys, job.limits = append(job.keys, sharedKey(l)), append(job.limits, l)
		job.args = append(appendRule(job.args, l.Rule), taken, used, t.At.UnixMicro())
	}
	t.At = time.Time{}
	if places {
		s.drop(t)
		if !s.away.Load() {
			s.send(s.wait, job) //nolint:errcheck // it counts as away then
			return
		}
	}
	if len(job.keys) == 0 {
		return
	}
	select {
	case s.queue <- job:
	default:
	}
}

// send sends settlements in one go. It fails with the last error of any.
func (s *Shared) send(wait time.Duration, jobs ...settlement) (failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	answers := make([]*redis.Cmd, len(jobs))
	if len(jobs) == 1 { // pipelines have connections of their own, which may have to be made first
		answers[0] = settleShared.EvalSha(ctx, s.client, jobs[0].keys, jobs[0].args...)
	} else {
		pipe := s.client.Pipeline()
		for i, job := range jobs {
			answers[i] = settleShared.EvalSha(ctx, pipe, job.keys, job.args...)
		}
		pipe.Exec(ctx) //nolint:errcheck // each answer has its own error
	}
	for i, job := range jobs {
		if redis.HasErrorPrefix(answers[i].Err(), "NOSCRIPT") { // a server that was started anew, and did nothing
			answers[i] = settleShared.Eval(ctx, s.client, job.keys, job.args...)
		}
		marks, err := answers[i].Int64Slice()
		if err != nil {
			s.fail(err)
			failed = err
			continue
		}
		for n, percent := range marks {
			if percent > 0 && n < len(job.limits) && job.crossed != nil {
				job.crossed(job.limits[n], int(percent))
			}
		}
	}
	return failed
}

const (
	// probeInterval is how often a server that is away is asked.
	probeInterval = 100 * time.Millisecond
	// backgroundTimeout bounds what no request waits for.
	backgroundTimeout = 500 * time.Millisecond
	// sharedBatch is how many settlements or leases are sent at once: a script keeps the server from everybody else.
	sharedBatch = 64
)

// work settles, renews leases, says that the process is there, and finds out when the server is back.
func (s *Shared) work() {
	defer close(s.ended)
	probe, renewal, beat := time.NewTicker(probeInterval), time.NewTicker(leaseRenewal), time.NewTicker(firstHeartbeat)
	defer probe.Stop()
	defer renewal.Stop()
	defer beat.Stop()
	probe.Stop()
	told := false
	for {
		queue := s.queue
		if s.away.Load() {
			queue = nil // they wait
		}
		select {
		case job := <-queue:
			s.send(backgroundTimeout, s.more(job)...) //nolint:errcheck // it counts as away then
		case <-renewal.C:
			s.renew()
		case <-beat.C:
			beat.Reset(heartbeatInterval)
			if !s.away.Load() && s.beat(presenceTTL) == nil {
				s.pay() //nolint:errcheck // it counts as away then
			}
		case err := <-s.failed:
			if !s.back() && !told {
				told = true
				s.tell(err)
			}
			probe.Reset(probeInterval)
		case <-probe.C:
			if !s.back() {
				continue
			}
			probe.Stop()
			if told {
				told = false
				s.tell(nil)
			}
		case <-s.stop:
			s.last()
			return
		}
	}
}

// more adds what else waits.
func (s *Shared) more(first settlement) []settlement {
	jobs := []settlement{first}
	for len(jobs) < sharedBatch {
		select {
		case job := <-s.queue:
			jobs = append(jobs, job)
		default:
			return jobs
		}
	}
	return jobs
}

// last sends what waits when the store is closed, and takes leave.
func (s *Shared) last() {
	for !s.away.Load() {
		select {
		case job := <-s.queue:
			s.send(backgroundTimeout, s.more(job)...) //nolint:errcheck // it counts as away then
			continue
		default:
		}
		if s.pay() == nil && s.present.Load() > 0 {
			s.beat(0) //nolint:errcheck // it is forgotten in any case, later
		}
		return
	}
}

// back asks the server for what requests ask it. What was taken meanwhile is added, and the places that it may have lost are
// taken again, before requests ask it.
func (s *Shared) back() bool {
	if !s.away.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
	defer cancel()
	args := append(appendRule([]any{"", "", 0, 1}, Rule{Unit: Requests, Limit: maxLimit, Window: time.Second}), 1)
	if takeShared.Run(ctx, s.client, []string{sharedPrefix + "probe"}, args...).Err() != nil || s.beat(presenceTTL) != nil || s.pay() != nil {
		return false
	}
	s.away.Store(false)
	s.renew()
	return s.pay() == nil && !s.away.Load() // who saw it away may have taken since
}

func (s *Shared) tell(err error) {
	if s.Report != nil {
		s.Report(err)
	}
}

// renew extends the leases of running requests.
func (s *Shared) renew() {
	var keys []string
	var leases []any
	s.mu.Lock()
	for lease, places := range s.held {
		for _, key := range places {
			keys, leases = append(keys, key), append(leases, lease)
		}
	}
	s.mu.Unlock()
	for len(keys) > 0 && !s.away.Load() {
		n := min(len(keys), sharedBatch)
		ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
		err := renewShared.Run(ctx, s.client, keys[:n], append([]any{s.clock, leaseTTL.Microseconds()}, leases[:n]...)...).Err()
		cancel()
		if err != nil {
			s.fail(err)
		}
		keys, leases = keys[n:], leases[n:]
	}
}

const (
	// firstHeartbeat is when a process first says that it is there: one that only looks at its configuration says nothing.
	firstHeartbeat = 250 * time.Millisecond
	// heartbeatInterval is how often it says so, and hears of the others.
	heartbeatInterval = 2 * time.Second
	// presenceTTL is how long a process counts among those that share the limits after its last heartbeat.
	presenceTTL = 10 * time.Second
)

// beat registers this process for a duration and reads how many processes are registered.
func (s *Shared) beat(long time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), backgroundTimeout)
	defer cancel()
	n, err := presentShared.Run(ctx, s.client, []string{sharedPrefix + "present"}, s.clock, long.Microseconds(), s.name).Int64()
	if err != nil {
		s.fail(err)
		return err
	}
	s.present.Store(n)
	if s.Heard != nil && long > 0 {
		s.Heard(n)
	}
	return nil
}

// share is among how many processes the limits are divided while the server is away: as many as it last told of, or, to a
// process that has heard nothing yet, to the one before.
func (s *Shared) share() share {
	if n := s.present.Load(); n > 0 {
		return share(n)
	}
	return share(max(1, s.Sharers))
}
