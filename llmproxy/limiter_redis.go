package llmproxy

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// sharedLimits is what the pool of limits holds for a shared state: its facts, and those that decide while it is away.
type sharedLimits struct {
	*ratelimit.Shared
	local *ratelimit.Memory
}

// Destruct implements caddy.Destructor.
func (s sharedLimits) Destruct() error { return s.Close() }

// sharedLimiter keeps account of limits in the shared state.
func (h *Handler) sharedLimiter(client redis.UniversalClient) access.Limiter {
	if client == nil {
		return nil
	}
	value, _, _ := limitsUsed.LoadOrNew(client, func() (caddy.Destructor, error) {
		s := newSharers(h.remembered("sharers"))
		c := ratelimit.SharedConfig{Report: reportLimits, Sharers: s.kept, Heard: s.heard}
		return sharedLimits{ratelimit.NewShared(client, c), ratelimit.NewMemory()}, nil
	})
	// Before the client, which these use.
	h.lasting = append([]func(){func() { limitsUsed.Delete(client) }}, h.lasting...) //nolint:errcheck // Destruct does not fail
	limits := value.(sharedLimits)
	if h.State.OnError == onErrorDeny {
		return ratelimit.Fallback{Shared: limits.Shared}
	}
	return ratelimit.Fallback{Shared: limits.Shared, Local: limits.local}
}

// reportLimits logs when the shared state is away, and when it is back. The logger is that of the process, because the state
// outlives configurations.
func reportLimits(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.limits")
	if err == nil {
		log.Info("limits are shared again")
		return
	}
	log.Error("the shared state of limits does not answer: on_state_error says what becomes of requests", zap.Error(err))
}
