package telemetry

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// other stands for every name that the configuration does not have.
const other = "other"

// meters finds the collectors' children for a record without making labels anew: they are resolved once.
type meters struct {
	models *router.Table

	mu       sync.RWMutex
	series   map[seriesKey]*series
	ended    map[endedKey]prometheus.Counter
	attempts map[attemptKey]prometheus.Counter
	caches   map[cacheKey]*cacheSeries
}

// A seriesKey is what most collectors are labelled by.
type seriesKey struct{ model, upstream, at, endpoint string }

// An endedKey is what a request's end is labelled by.
type endedKey struct {
	of      *series
	status  int
	verdict router.Verdict
}

// An attemptKey is what an attempt's end is labelled by.
type attemptKey struct {
	upstream, at string
	verdict      router.Verdict
}

// A cacheKey is what the cache's collectors are labelled by, a cacheSeries their children.
type (
	cacheKey    struct{ model, result string }
	cacheSeries struct{ requests, input, output prometheus.Counter }
)

// A series is the children for one model, target and endpoint. Those of answers are made with the first answer.
type series struct {
	model, target, endpoint string
	latency                 prometheus.Observer
	received, sent          prometheus.Counter
	once                    sync.Once
	answers                 *answers
}

// answers are the children for what only an answer has.
type answers struct {
	input, output, cached, reasoning prometheus.Counter
	estimated, wasted, gone          prometheus.Counter
	cost, elsewhere, unpriced        prometheus.Counter
	firstToken, perToken             prometheus.Observer
}

var ownTime = overhead.WithLabelValues()

func newMeters(models *router.Table) *meters {
	return &meters{
		models: models, series: map[seriesKey]*series{}, ended: map[endedKey]prometheus.Counter{}, attempts: map[attemptKey]prometheus.Counter{},
		caches: map[cacheKey]*cacheSeries{},
	}
}

// count takes a request that is over into the metrics.
func (m *meters) count(rec *exchange.Record) {
	s := m.find(rec)
	m.end(s, rec).Inc()
	s.latency.Observe(rec.Duration.Seconds())
	s.received.Add(float64(rec.Received))
	s.sent.Add(float64(rec.Bytes))
	waited := rec.Reading + rec.Queue + rec.Paused
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		waited += a.Duration
		m.attempt(rec, a).Inc()
	}
	ownTime.Observe(max(rec.Duration-waited, 0).Seconds())
	if rec.FirstContent > 0 && rec.Configured.Upstream != nil || rec.Verdict == router.ClientClosed {
		s.answered(rec)
	}
	m.countRare(s.model, rec)
}

// countRare takes what few requests have; most of these labels are resolved each time.
func (m *meters) countRare(model string, rec *exchange.Record) {
	if spilled(rec) {
		fallbacks.WithLabelValues(model, strings.TrimPrefix(rec.Route, "fallback:")).Inc()
	}
	if rec.Cache != "" {
		c := m.cache(cacheKey{model, rec.Cache})
		c.requests.Inc()
		c.input.Add(float64(rec.Spared.Input))
		c.output.Add(float64(rec.Spared.Output))
	}
	if rec.Status == http.StatusTooManyRequests && rec.Err != nil && len(rec.Attempts) == 0 {
		limited.WithLabelValues(model, rec.Err.Code).Inc()
	}
	if rec.Queue > 0 {
		queueWait.WithLabelValues(model).Observe(rec.Queue.Seconds())
	}
}

func (m *meters) find(rec *exchange.Record) *series {
	upstream, at := targetLabel(rec, rec.Configured)
	key := seriesKey{m.modelLabel(rec), upstream, at, rec.Endpoint}
	m.mu.RLock()
	s := m.series[key]
	m.mu.RUnlock()
	if s == nil {
		s = newSeries(key)
		m.mu.Lock()
		m.series[key] = s
		m.mu.Unlock()
	}
	return s
}

func newSeries(key seriesKey) *series {
	s := &series{model: key.model, target: join(key.upstream, key.at), endpoint: key.endpoint}
	if s.endpoint == "" {
		s.endpoint = other
	}
	s.latency = latency.WithLabelValues(s.model, s.target, s.endpoint)
	s.received, s.sent = requestBytes.WithLabelValues(s.endpoint), responseBytes.WithLabelValues(s.endpoint)
	return s
}

// join is a target as it is written; empty for none.
func join(upstream, at string) string {
	if upstream == "" {
		return ""
	}
	return upstream + "/" + at
}

func (m *meters) end(s *series, rec *exchange.Record) prometheus.Counter {
	key := endedKey{s, rec.Status, rec.Verdict}
	m.mu.RLock()
	c := m.ended[key]
	m.mu.RUnlock()
	if c == nil {
		c = requests.WithLabelValues(s.model, s.target, s.endpoint, strconv.Itoa(rec.Status), rec.Verdict.String())
		m.mu.Lock()
		m.ended[key] = c
		m.mu.Unlock()
	}
	return c
}

func (m *meters) attempt(rec *exchange.Record, a *exchange.Attempt) prometheus.Counter {
	upstream, at := targetLabel(rec, a.Configured)
	key := attemptKey{upstream, at, a.Verdict}
	m.mu.RLock()
	c := m.attempts[key]
	m.mu.RUnlock()
	if c == nil {
		c = attemptsMade.WithLabelValues(join(upstream, at), a.Verdict.String())
		m.mu.Lock()
		m.attempts[key] = c
		m.mu.Unlock()
	}
	return c
}

func (m *meters) cache(key cacheKey) *cacheSeries {
	m.mu.RLock()
	c := m.caches[key]
	m.mu.RUnlock()
	if c == nil {
		c = &cacheSeries{cacheRequests.WithLabelValues(key.model, key.result), savedTokens.WithLabelValues(key.model, "input"), savedTokens.WithLabelValues(key.model, "output")}
		m.mu.Lock()
		m.caches[key] = c
		m.mu.Unlock()
	}
	return c
}

// answered takes what only an answer has.
func (s *series) answered(rec *exchange.Record) {
	s.once.Do(func() { s.answers = newAnswers(s.model, s.target) })
	a := s.answers
	if rec.Verdict == router.ClientClosed {
		a.gone.Inc()
		a.wasted.Add(float64(rec.Usage.Output))
	}
	if rec.FirstContent == 0 || rec.Configured.Upstream == nil {
		return // nobody generated anything
	}
	a.input.Add(float64(rec.Usage.Input))
	a.output.Add(float64(rec.Usage.Output))
	a.cached.Add(float64(rec.Usage.Cached))
	a.reasoning.Add(float64(rec.Usage.Reasoning))
	if rec.Estimated {
		a.estimated.Inc()
	}
	a.costs(rec)
	if rec.Stream {
		a.firstToken.Observe(rec.FirstContent.Seconds())
		if each := perOutputToken(rec); each > 0 {
			a.perToken.Observe(each.Seconds())
		}
	}
}

func (a *answers) costs(rec *exchange.Record) {
	switch {
	case !rec.HasCost:
		a.unpriced.Inc()
	case rec.HasCost:
		a.cost.Add(rec.Cost)
		if rec.Saved != 0 {
			a.elsewhere.Add(max(rec.Saved+rec.Cost, 0))
		}
	}
}

// perOutputToken is how long each token behind the first one took.
func perOutputToken(rec *exchange.Record) time.Duration {
	if rec.Usage.Output < 2 {
		return 0
	}
	return (rec.Duration - rec.FirstContent) / time.Duration(rec.Usage.Output-1)
}

func newAnswers(model, target string) *answers {
	return &answers{
		input: tokens.WithLabelValues(model, target, "input"), output: tokens.WithLabelValues(model, target, "output"),
		cached: tokens.WithLabelValues(model, target, "cached"), reasoning: tokens.WithLabelValues(model, target, "reasoning"),
		estimated: estimated.WithLabelValues(model, target), wasted: wasted.WithLabelValues(model, target), gone: clientClosed.WithLabelValues(model, target),
		cost: cost.WithLabelValues(model, target), elsewhere: costReference.WithLabelValues(model, target), unpriced: unpriced.WithLabelValues(model, target),
		firstToken: firstToken.WithLabelValues(model, target), perToken: perToken.WithLabelValues(model, target),
	}
}
