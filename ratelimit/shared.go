package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// sharedWait is the longest that a request waits for the server.
	sharedWait = 50 * time.Millisecond
	// leaseLife is how long the place of a process that has died stays taken; those that live renew theirs every leaseRenewal.
	leaseLife    = 30 * time.Second
	leaseRenewal = 10 * time.Second
)

var errAway = errors.New("the shared state of limits does not answer")

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

	present atomic.Int64 // how many processes use the server, as last heard
	debts   debts
	paid    int          // how many payments were made
	dues    []settlement // gathered debts that are not paid yet; of the goroutine that works
}

// NewShared makes a store. It asks the server nothing.
func NewShared(client redis.UniversalClient, c SharedConfig) *Shared {
	s := newShared(client, c)
	go s.work()
	return s
}

func newShared(client redis.UniversalClient, c SharedConfig) *Shared {
	return &Shared{
		SharedConfig: c, client: client, wait: sharedWait, name: rand.Text(), held: map[string][]string{}, failed: make(chan error, 1),
		queue: make(chan settlement, sharedQueue), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Close sends what waits and ends. The client is the caller's to close.
func (s *Shared) Close() error {
	close(s.stop)
	<-s.ended
	return nil
}

// Take takes from all limits of the request, or from none. It fails if the server does not answer within 50 ms, or is away.
func (s *Shared) Take(ctx context.Context, t *Take) error { return s.take(ctx, t, nil) }

// Peek fills in what is left and takes nothing.
func (s *Shared) Peek(ctx context.Context, t *Take) error {
	_, _, _, err := s.ask(ctx, t, "", 0)
	return err
}

// take tells a memory, if there is one, what it heard.
func (s *Shared) take(ctx context.Context, t *Take, heard *Memory) error {
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

// lease names what a request holds.
func (s *Shared) lease() string { return s.name + "-" + strconv.FormatUint(s.leased.Add(1), 36) }

// ask runs the script. A client that leaves does not end it: what is taken has to be known, to be given back.
func (s *Shared) ask(ctx context.Context, t *Take, lease string, really int) (now time.Time, taken bool, cells []cell, err error) {
	if s.away.Load() {
		return now, false, nil, errAway
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.wait)
	defer cancel()
	keys := make([]string, len(t.Limits))
	args := make([]any, 0, 4+4*len(keys))
	args = append(args, s.clock, lease, leaseLife.Microseconds(), really)
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
		return now, false, nil, fmt.Errorf("%w: %w", errAway, err)
	}
	return now, taken, cells, nil
}

// parse reads the script's answer and fills in what is left.
func (s *Shared) parse(answer []any, t *Take) (now time.Time, taken bool, cells []cell, err error) {
	if len(answer) != 2+len(t.Limits) {
		return now, false, nil, errSharedFacts
	}
	text, _ := answer[0].(string)
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return now, false, nil, errSharedFacts
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

// hold notes the places that the request holds, to be renewed.
func (s *Shared) hold(t *Take) {
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

// drop forgets the places.
func (s *Shared) drop(t *Take) {
	s.mu.Lock()
	delete(s.held, t.lease)
	s.mu.Unlock()
}
