//go:build redis

package ratelimit

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// patient has a Shared whose server is told the time, and settles at once.
type patient struct {
	*Shared
	t testing.TB
}

// busy is how long a machine may be, in tests of something else than waits.
const busy = 10 * time.Second

func newStore(t testing.TB) timed {
	s := newShared(connect(t, redistest.Start(t)), SharedConfig{Report: func(err error) { t.Error(err) }})
	s.wait = busy
	return patient{s, t}
}

func connect(t testing.TB, s *redistest.Server) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: s.Address, DialTimeout: time.Second, ReadTimeout: busy, WriteTimeout: busy, PoolTimeout: busy, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1,
	})
	t.Cleanup(func() { client.Close() })
	return client
}

func (p patient) take(now time.Time, t *Reservation) {
	p.clock = strconv.FormatInt(now.UnixMicro(), 10)
	if err := p.Take(context.Background(), t); err != nil {
		p.t.Error(err)
	}
}

func (p patient) settle(now time.Time, t *Reservation, tokens, spend int64) {
	p.clock = strconv.FormatInt(now.UnixMicro(), 10)
	p.Settle(t, tokens, spend)
	select {
	case job := <-p.queue:
		p.send(backgroundTimeout, job)
	default:
	}
}
