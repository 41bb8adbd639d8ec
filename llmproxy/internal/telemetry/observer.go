// Package telemetry is what operators see of the gateway: metrics, spans, the access log's object, placeholders, log lines about
// upstreams and budgets, and the events that Caddy emits.
//
// It only looks: no request waits for it, and nothing that a client or a model said leaves through it unless the configuration
// wants prompts logged. Labels come from the configuration only. It knows Caddy, and stands above state and gateway's steps.
package telemetry

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An Observer hears what happens at one handler. It must be made by NewObserver.
type Observer struct {
	Context caddy.Context
	Logger  *zap.Logger
	// Events is Caddy's event app; nil in tests.
	Events *caddyevents.App
	// Usage sums up what was used.
	Usage interface{ Add(ledger.Use) }
	// KindOf returns the name of what an upstream speaks.
	KindOf func(*router.Upstream) string

	meters   *meters
	failures *failures
	budgets  *budgetAlerts
}

// NewObserver returns an observer of a handler with these models.
func NewObserver(ctx caddy.Context, logger *zap.Logger, events *caddyevents.App, models *router.Table) *Observer {
	return &Observer{Context: ctx, Logger: logger, Events: events, meters: newMeters(models), failures: newFailures()}
}

// Attempt logs a failed attempt: as a warning when it is the first sign that an upstream fails, else for debugging.
func (o *Observer) Attempt(rec *exchange.Record, a exchange.Attempt) {
	level, message := zapcore.DebugLevel, "attempt failed"
	if o.failures.failed(rec, a) {
		level, message = zapcore.WarnLevel, failureMessage(a.Verdict)
	}
	if c := o.Logger.Check(level, message); c != nil {
		c.Write(zap.String("id", rec.ID), zap.String("target", a.Target), zap.String("address", a.Address), zap.String("verdict", a.Verdict.String()),
			zap.Int("status", a.Status), zap.Duration("duration", a.Duration.Round(time.Microsecond)), zap.Error(a.Err))
	}
}

// Account takes an exchange that is over into metrics, ledger and log.
func (o *Observer) Account(rec *exchange.Record) {
	o.meters.count(rec)
	if u, ok := usageOf(rec); ok {
		o.Usage.Add(u)
	}
	if n := len(rec.Attempts); n > 0 && rec.Attempts[n-1].Verdict == router.OK {
		if a := rec.Attempts[n-1]; o.failures.worked(rec, a) {
			o.Logger.Info("upstream answers again", zap.String("id", rec.ID), zap.String("target", a.Target), zap.String("address", a.Address))
		}
	}
	if c := o.Logger.Check(zapcore.DebugLevel, "request is over"); c != nil {
		c.Write(zap.Inline(Logged{rec}))
	}
}

// changed logs what has become of a replica, and emits Caddy's events "healthy" and "unhealthy", as reverse_proxy does. What
// somebody must mend, failures says louder.
func (o *Observer) Changed(c delivery.Change) {
	fields := []zap.Field{zap.String("upstream", c.Upstream), zap.String("address", c.Address)}
	if c.HiddenModel != "" {
		o.Logger.Info("model is hidden for a minute", append(fields, zap.String("model", c.HiddenModel))...)
		return
	}
	name := "unhealthy"
	if c.Healthy {
		name = "healthy"
	}
	o.Logger.Info("upstream is "+name, append(fields, zap.String("state", c.State.String()), zap.String("verdict", c.Reason.String()))...)
	if o.Events != nil && o.Events.ShouldEmit(name) {
		o.Events.Emit(o.Context, name, map[string]any{"upstream": c.Upstream, "address": c.Address, "state": c.State.String(), "verdict": c.Reason.String()})
	}
}
