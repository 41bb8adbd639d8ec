package llmproxy

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// limitsUsed holds what is used of all limits on this machine: one store, kept over reloads. It holds facts, never rules.
var limitsUsed = caddy.NewUsagePool()

const onThisMachine = "local"

// How often what is used is handed to the ledger, which writes it within a second, and under what name.
const (
	limitsEvery  = 250 * time.Millisecond
	limitsBucket = "limits"
)

// localLimits is what the pool holds: the limits in memory, and the ledger that lets them outlive the process.
type localLimits struct {
	*ratelimit.Memory
	ledger *ledger.Ledger
	stop   chan struct{}
	ended  chan struct{}
}

// keep brings back what was used before, and hands on what changes. Before the first look nothing is touched: the
// configuration may only be validated.
func (l *localLimits) keep() {
	defer close(l.ended)
	restored := false
	tick := time.NewTimer(firstLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
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
	for id, facts := range kept {
		if l.Restore(id, facts) != nil {
			l.ledger.Delete(limitsBucket, id)
		}
	}
	return true
}

func (l *localLimits) save() {
	for id, facts := range l.Changes() {
		l.ledger.Save(limitsBucket, id, facts)
	}
}

// Destruct implements caddy.Destructor.
func (l *localLimits) Destruct() error {
	close(l.stop)
	<-l.ended
	return nil
}

// limiter gives what keeps account of limits.
func (h *Handler) limiter() (gateway.Limiter, error) {
	value, _, err := limitsUsed.LoadOrNew(onThisMachine, func() (caddy.Destructor, error) {
		l := &localLimits{Memory: ratelimit.NewMemory(), ledger: h.ledger(), stop: make(chan struct{}), ended: make(chan struct{})}
		go l.keep()
		return l, nil
	})
	if err != nil {
		return nil, err
	}
	// Before the ledger, which these go into.
	h.lasting = append([]func(){func() { limitsUsed.Delete(onThisMachine) }}, h.lasting...) //nolint:errcheck // Destruct does not fail
	return value.(*localLimits).Memory, nil
}
