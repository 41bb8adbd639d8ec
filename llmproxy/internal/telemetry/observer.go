// Package telemetry is what operators see of the gateway: metrics, spans, the object in the access log, placeholders, log
// lines about upstreams and budgets, and Caddy events.
//
// It only observes: no request waits for it. It shows text of prompts and answers only if log_prompts is set. The labels of
// metrics come from the configuration, so that clients cannot create series. It knows Caddy, and
// stands above state and below llmproxy.
package telemetry

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// UserID is the placeholder in which Caddy's handlers put the user they authenticated. The access log shows it as user_id.
const UserID = "http.auth.user.id"

// A Config is what an Observer needs.
type Config struct {
	Context caddy.Context
	// Events is Caddy's event app, or nil to emit no events.
	Events    *caddyevents.App
	Models    *router.Table
	Upstreams []*upstream.Upstream
	// Usage sums up what was used.
	Usage interface{ Add(ledger.Usage) }
	// Recent keeps the latest requests.
	Recent *overview.Recent
}

// An Observer observes one handler.
type Observer struct {
	Config
	logger    *zap.Logger
	recorder  *recorder
	failures  *failures
	health    *healthLog
	budgets   *budgetAlerts
	hasHinted atomic.Bool // at keys in headers that the access log shows
	hasWarned atomic.Bool // of keys in query strings
}

// NewObserver returns a new Observer, and registers the metrics with the registry of its configuration.
func NewObserver(c *state.Closer, config Config) (*Observer, error) {
	if err := Register(config.Context.GetMetricsRegistry()); err != nil {
		return nil, err
	}
	o := &Observer{
		Config: config, logger: config.Context.Logger(), recorder: newRecorder(config.Models), failures: newFailures(), budgets: acquireBudgetAlerts(c),
	}
	o.health = newHealthLog(o.logHealth)
	c.Add(o.health.close)
	return o, nil
}

// Begin makes the record visible to placeholders and to the access log, which read it when the exchange is over. The caller
// must call End.
func (o *Observer) Begin(r *http.Request, rec *exchange.Record) {
	requestsOpen.Inc()
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	rec.Logged = ok && server.Logs != nil
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(Placeholders(rec))
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && rec.Logged {
		extra.Add(zap.Object("llm", logObject{rec}))
	}
}

// End ends what Begin began.
func (o *Observer) End(r *http.Request, rec *exchange.Record) {
	requestsOpen.Dec()
	if rec.KeyInQuery && rec.Logged && o.hasWarned.CompareAndSwap(false, true) {
		o.logger.Warn("a client sends its key in the query string, where it is not accepted, and which the access log shows: send it in a header, and replace the key; see docs/keys.md",
			zap.String("id", rec.ID))
	}
	if rec.Key == "" {
		return
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(UserID, rec.Key)
	}
	if rec.Logged {
		o.hintAtLoggedKeys(r)
	}
}

// hintAtLoggedKeys logs once that clients send keys in headers that the access log shows. Caddy copies the headers before any
// handler runs, so the plugin cannot hide them. It does not know either whether the log's format filters them; therefore this is
// not a warning.
func (o *Observer) hintAtLoggedKeys(r *http.Request) {
	if o.hasHinted.Load() || r.Header["X-Api-Key"] == nil && r.Header["Api-Key"] == nil || !o.hasHinted.CompareAndSwap(false, true) {
		return
	}
	o.logger.Info("clients send keys in the header X-Api-Key or Api-Key, which the access log shows unless its format filters it; see docs/keys.md")
}

// AttemptFailed logs an attempt that failed: as a warning if it is the first sign that an upstream fails, else for debugging.
func (o *Observer) AttemptFailed(rec *exchange.Record, a exchange.Attempt) {
	level, message := zapcore.DebugLevel, "attempt failed"
	if !a.Blameless && o.failures.begins(rec, a) {
		level, message = zapcore.WarnLevel, "upstream failed"
		if a.Verdict == router.Misconfigured {
			message = "upstream rejected the API key or does not have the model; check the configuration"
		}
	}
	if c := o.logger.Check(level, message); c != nil {
		c.Write(zap.String("id", rec.ID), zap.String("target", a.Target), zap.String("address", a.Address), zap.String("verdict", a.Verdict.String()),
			zap.Int("status", a.Status), zap.Duration("duration", a.Duration.Round(time.Microsecond)), zap.Error(a.Err))
	}
}

// Account records a finished exchange in the metrics, the usage ledger and the log.
func (o *Observer) Account(rec *exchange.Record) {
	o.recorder.record(rec)
	o.Recent.Record(rec)
	if u, ok := usageOf(rec); ok {
		o.Usage.Add(u)
	}
	if n := len(rec.Attempts); n > 0 && rec.Attempts[n-1].Verdict == router.OK {
		if a := rec.Attempts[n-1]; o.failures.ends(rec, a) {
			o.logger.Info("upstream recovered", zap.String("id", rec.ID), zap.String("target", a.Target), zap.String("address", a.Address))
		}
	}
	if c := o.logger.Check(zapcore.DebugLevel, "request finished"); c != nil {
		c.Write(zap.Inline(logObject{rec}))
	}
}

// ReplicaChanged logs a change of a replica's health, and emits the event "healthy" or "unhealthy", as reverse_proxy does.
// AttemptFailed logs as a warning what an operator must fix.
func (o *Observer) ReplicaChanged(c delivery.Change) {
	fields := []zap.Field{zap.String("upstream", c.Upstream), zap.String("address", c.Address)}
	if c.HiddenModel != "" {
		o.logger.Info("model is hidden for one minute, because the upstream does not have it", append(fields, zap.String("model", c.HiddenModel))...)
		return
	}
	o.health.note(c)
	o.emit(healthWord(c), map[string]any{"upstream": c.Upstream, "address": c.Address, "state": c.State.String(), "verdict": c.Reason.String()})
}

func healthWord(c delivery.Change) string {
	if c.Healthy {
		return "healthy"
	}
	return "unhealthy"
}

// logHealth logs the latest of some changes of a replica's health.
func (o *Observer) logHealth(c delivery.Change, changes int) {
	fields := []zap.Field{zap.String("upstream", c.Upstream), zap.String("address", c.Address), zap.String("state", c.State.String()), zap.String("verdict", c.Reason.String())}
	if changes > 1 {
		fields = append(fields, zap.Int("changes", changes))
	}
	o.logger.Info("upstream is "+healthWord(c), fields...)
}

// StreamsChanged counts a stream that begins, 1, or ends, -1.
func (o *Observer) StreamsChanged(n int) { streamsOpen.Add(float64(n)) }

func (o *Observer) emit(event string, data map[string]any) {
	if o.Events != nil && o.Events.ShouldEmit(event) {
		o.Events.Emit(o.Context, event, data)
	}
}

// usageOf returns what an exchange adds to the usage ledger. It reports false for a request that used nothing, because it was
// rejected or not answered.
func usageOf(rec *exchange.Record) (ledger.Usage, bool) {
	if rec.FirstContent == 0 && !rec.HasUsage {
		return ledger.Usage{}, false
	}
	u := ledger.Usage{
		Key: rec.Key, Model: rec.Model, Target: rec.Target, At: rec.Started.Add(rec.Duration),
		Sums: ledger.Sums{Requests: 1, Usage: rec.Usage, USD: rec.Cost, Saved: rec.Saved},
	}
	if leftFirstPool(rec) {
		u.Spilled = 1
	}
	if !rec.HasCost && len(rec.Attempts) > 0 { // answers from the cache cost nothing
		u.Unpriced = 1
	}
	return u, true
}

// leftFirstPool reports whether the request left its first pool of targets because of load or failure. A follower of a
// coalesced request has the leader's route, but made no attempt of its own.
func leftFirstPool(rec *exchange.Record) bool {
	return len(rec.Attempts) > 0 && rec.Route != rec.Rule && (rec.Route == "spill" || strings.HasPrefix(rec.Route, "fallback:"))
}
