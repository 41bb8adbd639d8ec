package telemetry

import (
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A recorder adds records to the metrics. Nothing that it does allocates, but the first request of a model and target.
type recorder struct{ models *router.Table }

func newRecorder(models *router.Table) *recorder { return &recorder{models} }

// record adds a finished exchange to the metrics.
func (m *recorder) record(rec *exchange.Record) {
	model, target := m.modelLabel(rec), targetLabel(rec, rec.Configured)
	pairTallies.of(pairKey{model, target}).record(rec)
	waited := rec.ReadTime + rec.Queue + rec.Paused
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		waited += a.Duration
		targetTallies.of(targetLabel(rec, a.Configured)).attempt(a.Verdict)
	}
	overhead.Observe(max(rec.Duration-waited, 0).Seconds())
	endpoint := endpointLabel(rec)
	requestBytes.WithLabelValues(endpoint).Add(float64(rec.Received))
	responseBytes.WithLabelValues(endpoint).Add(float64(rec.Bytes))
	if generated(rec) && rec.Predicted > 0 {
		targetTallies.of(target).forecast(rec.Real.Seconds() / rec.Predicted.Seconds())
	}
	if rec.Queue > 0 {
		modelTallies.of(model).waited(rec.Queue)
	}
	if rec.Cache != "" {
		modelTallies.of(model).cache(rec.Cache, rec.SavedInput, rec.SavedOutput)
	}
	if leftFirstPool(rec) {
		modelTallies.of(model).left(strings.TrimPrefix(rec.Route, "fallback:"))
	}
	if rec.Err != nil && len(rec.Attempts) == 0 && (rec.Status == http.StatusTooManyRequests || rec.Err.Code == "queue_full") {
		modelTallies.of(model).limit(rec.Err.Code)
	}
}

// modelLabel returns the model or pattern as the configuration writes it, otherLabel for a name that a client made up, or an
// empty label for a request without a model.
func (m *recorder) modelLabel(rec *exchange.Record) string {
	switch {
	case rec.Rule == catalog.RuleDiscover:
		return rec.Model
	case rec.Rule != "":
		return rec.Rule
	case rec.Model == "":
		return ""
	}
	if plan, ok := m.models.Lookup(rec.Model); ok {
		return plan.Rule
	}
	return otherLabel
}

// targetLabel returns a target as the configuration writes it. The model is an asterisk if a pattern keeps the name that the client
// asked for.
func targetLabel(rec *exchange.Record, t router.Target) targetName {
	switch {
	case t.Upstream == nil:
		return targetName{}
	case t.Model != "":
		return targetName{t.Upstream.Name, t.Model}
	case router.IsPattern(rec.Rule):
		return targetName{t.Upstream.Name, "*"}
	}
	return targetName{t.Upstream.Name, rec.Model}
}
