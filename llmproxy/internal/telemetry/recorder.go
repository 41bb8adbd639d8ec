package telemetry

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A recorder adds records to the metrics. It caches the children of the collectors by their labels, so that recording does not
// allocate.
type recorder struct {
	models   *router.Table
	series   children[seriesKey, *series]
	requests children[requestKey, prometheus.Counter]
	attempts children[attemptKey, prometheus.Counter]
	caches   children[cacheKey, *cacheSeries]
}

func newRecorder(models *router.Table) *recorder { return &recorder{models: models} }

// children is a cache that builds the value of a key when it is first needed.
type children[K comparable, V any] struct {
	mu    sync.RWMutex
	known map[K]V
}

func (c *children[K, V]) get(key K, build func() V) V {
	c.mu.RLock()
	v, ok := c.known[key]
	c.mu.RUnlock()
	if ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok = c.known[key]; ok {
		return v
	}
	if c.known == nil {
		c.known = map[K]V{}
	}
	v = build()
	c.known[key] = v
	return v
}

type (
	seriesKey struct{ model, upstream, targetModel, endpoint string }
	// A requestKey has the labels of a finished request.
	requestKey struct {
		of      *series
		status  int
		verdict router.Verdict
	}
	attemptKey struct {
		upstream, model string
		verdict         router.Verdict
	}
	cacheKey struct{ model, result string }

	cacheSeries struct{ requests, input, output prometheus.Counter }
	// A series has the children of one model, target and endpoint. Those of answers are created with the first answer.
	series struct {
		model, target, endpoint     string
		latency                     prometheus.Observer
		requestBytes, responseBytes prometheus.Counter
		once                        sync.Once
		answers                     *answerSeries
	}
	answerSeries struct {
		input, output, cached, reasoning prometheus.Counter
		estimated, wasted, clientClosed  prometheus.Counter
		cost, costReference, costUnknown prometheus.Counter
		firstToken, perToken             prometheus.Observer
		forecastRatio                    prometheus.Observer
	}
)

var ownTime = overhead.WithLabelValues()

// record adds a finished exchange to the metrics.
func (m *recorder) record(rec *exchange.Record) {
	s := m.seriesOf(rec)
	m.requests.get(requestKey{s, rec.Status, rec.Verdict}, func() prometheus.Counter {
		return requests.WithLabelValues(s.model, s.target, s.endpoint, strconv.Itoa(rec.Status), rec.Verdict.String())
	}).Inc()
	s.latency.Observe(rec.Duration.Seconds())
	s.requestBytes.Add(float64(rec.Received))
	s.responseBytes.Add(float64(rec.Bytes))
	waited := rec.ReadTime + rec.Queue + rec.Paused
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		waited += a.Duration
		upstream, model := targetLabel(rec, a.Configured)
		m.attempts.get(attemptKey{upstream, model, a.Verdict}, func() prometheus.Counter {
			return attempts.WithLabelValues(joinTarget(upstream, model), a.Verdict.String())
		}).Inc()
	}
	ownTime.Observe(max(rec.Duration-waited, 0).Seconds())
	if rec.FirstContent > 0 && rec.Configured.Upstream != nil || rec.Verdict == router.ClientClosed {
		s.recordAnswer(rec)
	}
	m.recordRare(s.model, rec)
}

// recordRare records what few requests have. It looks up most of the labels each time.
func (m *recorder) recordRare(model string, rec *exchange.Record) {
	if leftFirstPool(rec) {
		fallbacks.WithLabelValues(model, strings.TrimPrefix(rec.Route, "fallback:")).Inc()
	}
	if rec.Cache != "" {
		c := m.caches.get(cacheKey{model, rec.Cache}, func() *cacheSeries {
			return &cacheSeries{cacheRequests.WithLabelValues(model, rec.Cache), cacheTokens.WithLabelValues(model, "input"), cacheTokens.WithLabelValues(model, "output")}
		})
		c.requests.Inc()
		c.input.Add(float64(rec.SavedInput))
		c.output.Add(float64(rec.SavedOutput))
	}
	if rec.Err != nil && len(rec.Attempts) == 0 && (rec.Status == http.StatusTooManyRequests || rec.Err.Code == "queue_full") {
		limited.WithLabelValues(model, rec.Err.Code).Inc()
	}
	if rec.Queue > 0 {
		queueWait.WithLabelValues(model).Observe(rec.Queue.Seconds())
	}
}

func (m *recorder) seriesOf(rec *exchange.Record) *series {
	upstream, targetModel := targetLabel(rec, rec.Configured)
	key := seriesKey{m.modelLabel(rec), upstream, targetModel, rec.Endpoint}
	return m.series.get(key, func() *series {
		s := &series{model: key.model, target: joinTarget(key.upstream, key.targetModel), endpoint: key.endpoint}
		if s.endpoint == "" {
			s.endpoint = otherLabel
		}
		s.latency = latency.WithLabelValues(s.model, s.target, s.endpoint)
		s.requestBytes, s.responseBytes = requestBytes.WithLabelValues(s.endpoint), responseBytes.WithLabelValues(s.endpoint)
		return s
	})
}

// recordAnswer records what only requests with an answer have.
func (s *series) recordAnswer(rec *exchange.Record) {
	s.once.Do(func() { s.answers = newAnswerSeries(s.model, s.target) })
	a := s.answers
	if rec.Verdict == router.ClientClosed {
		a.clientClosed.Inc()
		a.wasted.Add(float64(rec.Usage.Output))
	}
	if rec.FirstContent == 0 || rec.Configured.Upstream == nil {
		return // nothing was generated
	}
	a.input.Add(float64(rec.Usage.Input))
	a.output.Add(float64(rec.Usage.Output))
	a.cached.Add(float64(rec.Usage.Cached))
	a.reasoning.Add(float64(rec.Usage.Reasoning))
	if rec.Estimated {
		a.estimated.Inc()
	}
	if rec.HasCost {
		a.cost.Add(rec.Cost)
		if rec.Saved != 0 {
			a.costReference.Add(max(rec.Saved+rec.Cost, 0))
		}
	} else {
		a.costUnknown.Inc()
	}
	if rec.Predicted > 0 {
		a.forecastRatio.Observe(rec.Real.Seconds() / rec.Predicted.Seconds())
	}
	if rec.Stream {
		a.firstToken.Observe(rec.FirstContent.Seconds())
		if each := timePerToken(rec); each > 0 {
			a.perToken.Observe(each.Seconds())
		}
	}
}

func newAnswerSeries(model, target string) *answerSeries {
	return &answerSeries{
		input: tokenCount.WithLabelValues(model, target, "input"), output: tokenCount.WithLabelValues(model, target, "output"),
		cached: tokenCount.WithLabelValues(model, target, "cached"), reasoning: tokenCount.WithLabelValues(model, target, "reasoning"),
		estimated: estimated.WithLabelValues(model, target), wasted: wasted.WithLabelValues(model, target), clientClosed: clientClosed.WithLabelValues(model, target),
		cost: cost.WithLabelValues(model, target), costReference: costReference.WithLabelValues(model, target), costUnknown: costUnknown.WithLabelValues(model, target),
		firstToken: firstToken.WithLabelValues(model, target), perToken: perToken.WithLabelValues(model, target),
		forecastRatio: forecastRatio.WithLabelValues(target),
	}
}

// timePerToken returns the average time between two output tokens, or zero if there were fewer than two.
func timePerToken(rec *exchange.Record) time.Duration {
	if rec.Usage.Output < 2 {
		return 0
	}
	return (rec.Duration - rec.FirstContent) / time.Duration(rec.Usage.Output-1)
}

// otherLabel stands for every name that is not in the configuration.
const otherLabel = "other"

// maxDiscovered is how many discovered names of models become labels. A service may have thousands of models.
const maxDiscovered = 200

var discovered = boundedNames{known: map[string]bool{}}

// boundedNames is a set of at most maxDiscovered names.
type boundedNames struct {
	mu    sync.RWMutex
	known map[string]bool
}

// label returns the name, or otherLabel if the set is full.
func (n *boundedNames) label(name string) string {
	n.mu.RLock()
	known := n.known[name]
	n.mu.RUnlock()
	if known {
		return name
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known[name] && len(n.known) >= maxDiscovered {
		return otherLabel
	}
	n.known[name] = true
	return name
}

// modelLabel returns the model or pattern as the configuration writes it, otherLabel for a name that a client made up, or an
// empty label for a request without a model.
func (m *recorder) modelLabel(rec *exchange.Record) string {
	switch {
	case rec.Rule == catalog.RuleDiscover:
		return discovered.label(rec.Model)
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

// targetLabel returns a target as the configuration writes it, in two parts. The model is an asterisk if a pattern keeps the
// name that the client asked for.
func targetLabel(rec *exchange.Record, t router.Target) (upstream, model string) {
	switch {
	case t.Upstream == nil:
		return "", ""
	case t.Model != "" && (rec.Rule == catalog.RuleDiscover || rec.Rule == catalog.RuleAuto):
		return t.Upstream.Name, discovered.label(t.Model)
	case t.Model != "":
		return t.Upstream.Name, t.Model
	case router.IsPattern(rec.Rule):
		return t.Upstream.Name, "*"
	}
	return t.Upstream.Name, rec.Model
}

// joinTarget returns a target as upstream/model, or an empty label without an upstream.
func joinTarget(upstream, model string) string {
	if upstream == "" {
		return ""
	}
	return upstream + "/" + model
}
