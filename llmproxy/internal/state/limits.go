package state

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// ThisMachine is the key of what is kept on this machine.
const ThisMachine = "local"

const (
	// limitsEvery is how often what is used is handed to the ledger, which writes it half a second later: a crash loses less
	// than a second of it, the time of the disk included.
	limitsEvery  = 100 * time.Millisecond
	limitsBucket = "limits"
	// limitsWait is how long a request waits for what was used before the start, if the disk is slow.
	limitsWait = time.Second
	// limitsLife is how many days what nobody uses any more is kept: no window is longer.
	limitsLife = 400
)

// localLimits is what the pool holds: the limits in memory, and the ledger that lets them outlive the process.
type localLimits struct {
	*ratelimit.Memory
	ledger *ledger.Ledger
	wanted chan struct{} // holds one if a request is there before the first look
	tried  chan struct{} // closed when what was used before is there, or cannot be read
	stop   chan struct{}
	ended  chan struct{}
}

func newLocalLimits(l *ledger.Ledger) *localLimits {
	return &localLimits{
		Memory: ratelimit.NewMemory(), ledger: l,
		wanted: make(chan struct{}, 1), tried: make(chan struct{}), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Take implements access.Limiter. Nothing is decided by limits that seem unused only because the process is young.
func (l *localLimits) Take(ctx context.Context, t *ratelimit.Take) error {
	l.awaitFacts(ctx)
	return l.Memory.Take(ctx, t)
}

// Peek implements access.Limiter.
func (l *localLimits) Peek(ctx context.Context, t *ratelimit.Take) error {
	l.awaitFacts(ctx)
	return l.Memory.Peek(ctx, t)
}

func (l *localLimits) awaitFacts(ctx context.Context) {
	select {
	case <-l.tried:
		return
	default:
	}
	select {
	case l.wanted <- struct{}{}:
	default:
	}
	patience := time.NewTimer(limitsWait)
	defer patience.Stop()
	select {
	case <-l.tried:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// keep brings back what was used before, and hands on what changes. Before the first look nothing is touched: the
// configuration may only be validated.
func (l *localLimits) keep() {
	defer close(l.ended)
	restored, tried := false, false
	tick := time.NewTimer(FirstUse)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.wanted:
		case <-l.stop:
			if restored {
				l.save()
			}
			return
		}
		if !restored {
			restored = l.restore()
		} else {
			l.save()
		}
		if !tried {
			tried = true
			close(l.tried)
		}
		tick.Reset(limitsEvery)
	}
}

// restore fails while the file cannot be used; the ledger says so.
func (l *localLimits) restore() bool {
	kept := map[string][]byte{}
	err := l.ledger.Load(limitsBucket, func(id string, facts []byte) error {
		kept[id] = append([]byte(nil), facts...)
		return nil
	})
	if err != nil {
		return false
	}
	l.Changes() // from now on it takes note
	for id, value := range kept {
		facts, ok := factsOf(value, today())
		if !ok || l.Restore(id, facts) != nil {
			l.ledger.Delete(limitsBucket, id)
		}
	}
	return true
}

func (l *localLimits) save() {
	for id, facts := range l.Changes() {
		l.ledger.Save(limitsBucket, id, dated(facts, today()))
	}
}

// today is the number of the day since 1970.
func today() uint32 { return uint32(time.Now().Unix() / 86400) }

// dated puts the day before the facts of a limit, so that those of keys that are gone do not stay for ever.
func dated(facts []byte, day uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, day), facts...)
}

// factsOf takes the day away again; false if they are too old to mean anything, or are none.
func factsOf(value []byte, now uint32) ([]byte, bool) {
	if len(value) < 4 || int64(now)-int64(binary.BigEndian.Uint32(value)) > limitsLife {
		return nil, false
	}
	return value[4:], true
}

// close saves what has changed, and ends the goroutine.
func (l *localLimits) close() error {
	close(l.stop)
	<-l.ended
	return nil
}

// A Limiter keeps account of limits: access.Limiter.
type Limiter interface {
	Take(context.Context, *ratelimit.Take) error
	Peek(context.Context, *ratelimit.Take) error
	Settle(t *ratelimit.Take, tokens, spend int64)
}

// LocalLimiter returns what keeps account of limits on this machine. What is used outlives the process in the ledger.
func LocalLimiter(c *Closer) (Limiter, error) {
	file := Ledger(c)
	l, err := Acquire(Limits, ThisMachine, func() (*localLimits, error) {
		l := newLocalLimits(file)
		go l.keep()
		return l, nil
	}, (*localLimits).close)
	if err != nil {
		return nil, err
	}
	c.AddLasting(func() { Limits.Release(ThisMachine) })
	return l, nil
}
