package state

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// sharedLimits is what is used of limits in a shared state, and what decides while it is away.
type sharedLimits struct {
	*ratelimit.Shared
	local *ratelimit.Memory
}

// SharedLimiter returns what keeps account of limits in the shared state at an address. Deny refuses requests while it is
// away; else this machine decides by its share of what was left.
func SharedLimiter(c *Closer, client redis.UniversalClient, address string, deny bool) (Limiter, error) {
	limits, err := Acquire(Limits, client, func() (sharedLimits, error) {
		s := newSharers(Remembered("sharers", address))
		config := ratelimit.SharedConfig{Report: reportLimits, Sharers: s.kept, Heard: s.heard}
		return sharedLimits{ratelimit.NewShared(client, config), ratelimit.NewMemory()}, nil
	}, func(s sharedLimits) error { return s.Close() })
	if err != nil {
		return nil, err
	}
	c.AddLasting(func() { Limits.Release(client) })
	if deny {
		return ratelimit.Fallback{Shared: limits.Shared}, nil
	}
	return ratelimit.Fallback{Shared: limits.Shared, Local: limits.local}, nil
}

// reportLimits logs when the shared state is away, and when it is back. The logger is that of the process, because the state
// outlives configurations.
func reportLimits(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.limits")
	if err == nil {
		log.Info("limits are shared again")
		return
	}
	log.Error("the shared state of limits does not answer; on_state_error decides about requests", zap.Error(err))
}
