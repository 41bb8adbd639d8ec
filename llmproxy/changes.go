package llmproxy

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"go.uber.org/zap"
)

// changed logs what has become of a replica, and emits Caddy's events "healthy" and "unhealthy", as reverse_proxy does. What
// somebody must mend, troubles says louder.
func (h *Handler) changed(c delivery.Change) {
	fields := []zap.Field{zap.String("upstream", c.Upstream), zap.String("address", c.Address)}
	if c.Hidden != "" {
		h.logger.Info("model is hidden for a minute", append(fields, zap.String("model", c.Hidden))...)
		return
	}
	name := "unhealthy"
	if c.Healthy {
		name = "healthy"
	}
	h.logger.Info("upstream is "+name, append(fields, zap.String("state", c.State.String()), zap.String("verdict", c.Why.String()))...)
	if h.events != nil && h.events.ShouldEmit(name) {
		h.events.Emit(h.ctx, name, map[string]any{"upstream": c.Upstream, "address": c.Address, "state": c.State.String(), "verdict": c.Why.String()})
	}
}
