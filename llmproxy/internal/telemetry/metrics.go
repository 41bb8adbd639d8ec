package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// The collectors belong to the process, not to a configuration: a stream that outlives a reload still counts, and a reload
// resets nothing. docs/metrics.md explains each metric.
var (
	overhead      = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "llm", Name: "overhead_seconds", Help: "Time spent by the gateway itself: without the upload of the request, waits and attempts.", Buckets: overheadBuckets})
	requestBytes  = counter("request_bytes_total", "Bytes of request bodies.", "endpoint")
	responseBytes = counter("response_bytes_total", "Bytes of response bodies.", "endpoint")
	requestsOpen  = gauge("requests_open", "Requests in progress.")
	streamsOpen   = gauge("streams_open", "Streams in progress.")

	everyCollector = collectors{overhead, requestBytes, responseBytes, requestsOpen, streamsOpen, tallyCollector{}, replicaCollector{}}
)

// The metrics of tallies. Their labels are in alphabetical order, as Prometheus needs them.
var (
	requests      = desc("requests_total", "Finished requests.", "endpoint", "model", "status", "target", "verdict")
	latency       = desc("request_latency_seconds", "Time from the arrival of a request to the end of its answer.", "endpoint", "model", "target")
	firstToken    = desc("time_to_first_token_seconds", "Time from the arrival of a request to the first content of its stream.", "model", "target")
	perToken      = desc("time_per_output_token_seconds", "Time between two output tokens of a stream, averaged over the stream.", "model", "target")
	queueWait     = desc("queue_wait_seconds", "Time spent waiting for a slot, of requests that had to wait.", "model")
	forecastRatio = desc("time_to_first_token_forecast_ratio", "Time from when a request asked for a slot to the first content of its stream, divided by the forecast.", "target")
	tokenCount    = desc("tokens_total", "Tokens used. Cached tokens are part of the input, reasoning tokens of the output.", "model", "target", "type")
	estimated     = desc("usage_estimated_total", "Answers whose tokens were estimated, because the upstream did not count them.", "model", "target")
	wasted        = desc("tokens_wasted_total", "Output tokens of streams whose clients disconnected.", "model", "target")
	cost          = desc("cost_usd_total", "Cost of answers in US dollars, where the price is known.", "model", "target")
	costReference = desc("cost_reference_usd_total", "Cost in US dollars that answers of targets with instead_of would have had there.", "model", "target")
	costUnknown   = desc("cost_unknown_total", "Answers whose price is not known.", "model", "target")
	clientClosed  = desc("client_closed_total", "Requests whose clients disconnected before the end of the answer.", "model", "target")
	attempts      = desc("attempts_total", "Attempts, by verdict.", "target", "verdict")
	cacheRequests = desc("cache_requests_total", "Requests by what the cache did: hit, miss, coalesced or bypass.", "model", "result")
	fallbacks     = desc("fallbacks_total", "Requests that left their first pool of targets, by reason.", "model", "reason")
	limited       = desc("limited_total", "Requests that were rejected with status 429 by a limit of the gateway.", "limit", "model")
	cacheTokens   = desc("cache_tokens_saved_total", "Tokens of answers from the cache.", "model", "type")
)

// The buckets of the OpenTelemetry GenAI conventions, with larger ones for models that take minutes.
var (
	latencyBuckets  = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36}
	waitBuckets     = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60}
	perTokenBuckets = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
	ratioBuckets    = []float64{.1, .25, .5, .7, .85, 1, 1.15, 1.3, 1.5, 2, 4, 10}
	overheadBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, 1}
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "llm", Name: name, Help: help}, labels)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("llm_"+name, help, labels, nil)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "llm", Name: name, Help: help})
}

// Register registers all metrics. Each configuration of Caddy has a registry of its own.
func Register(registry *prometheus.Registry) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(&everyCollector); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// collectors are registered as one, so that a second handler of a configuration finds either all of them registered or none.
type collectors []prometheus.Collector

// Describe implements prometheus.Collector.
func (all collectors) Describe(to chan<- *prometheus.Desc) {
	for _, c := range all {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (all collectors) Collect(to chan<- prometheus.Metric) {
	for _, c := range all {
		c.Collect(to)
	}
}

var replicaLabels = []string{"upstream", "replica"}

var (
	replicaRequests  = prometheus.NewDesc("llm_upstream_requests_open", "Requests in progress at the replica: the slots in use.", replicaLabels, nil)
	replicaWaiting   = prometheus.NewDesc("llm_upstream_requests_waiting", "Requests waiting for the replica. A request that waits for any of several replicas counts at each.", replicaLabels, nil)
	replicaForeign   = prometheus.NewDesc("llm_upstream_requests_foreign", "Requests of other clients at the replica, as far as its server has said so lately.", replicaLabels, nil)
	replicaSlots     = prometheus.NewDesc("llm_upstream_slots", "Slots of the replica now; absent without a limit.", replicaLabels, nil)
	replicaTokens    = prometheus.NewDesc("llm_upstream_kv_tokens", "Tokens that the requests in progress are expected to need in the KV cache; absent if its size is unknown.", replicaLabels, nil)
	replicaMaxTokens = prometheus.NewDesc("llm_upstream_kv_tokens_max", "The most tokens that the requests in progress may need; absent if the size of the KV cache is unknown.", replicaLabels, nil)
	replicaState     = prometheus.NewDesc("llm_upstream_state", "1 for the state that the replica is in; open, half_open and stuck are states of its circuit breaker.", append(replicaLabels, "state"), nil)
)

// replicaCollector reads the replicas when metrics are collected, so that there is no second copy of their state.
type replicaCollector struct{}

// Describe implements prometheus.Collector.
func (replicaCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{replicaRequests, replicaWaiting, replicaForeign, replicaSlots, replicaTokens, replicaMaxTokens, replicaState} {
		to <- desc
	}
}

// Collect implements prometheus.Collector. Replicas of a previous configuration have no metrics.
func (replicaCollector) Collect(to chan<- prometheus.Metric) {
	overview.EachReplica(func(u *upstream.Upstream, i int) {
		collectReplica(to, u.Capacity(i), u.Replicas[i], []string{u.Name, u.Replicas[i].Address})
	})
}

func collectReplica(to chan<- prometheus.Metric, capacity admission.Capacity, r *replica.Replica, labels []string) {
	show := func(desc *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	status := r.Status()
	show(replicaRequests, status.InFlight, labels...)
	show(replicaWaiting, status.Waiting, labels...)
	show(replicaForeign, capacity.Foreign, labels...)
	if capacity.Slots > 0 {
		show(replicaSlots, capacity.Slots, labels...)
	}
	if capacity.MaxTokens > 0 {
		show(replicaTokens, capacity.Tokens, labels...)
		show(replicaMaxTokens, capacity.MaxTokens, labels...)
	}
	for s := replica.Up; s <= replica.Stuck; s++ {
		value := 0
		if s == status.State {
			value = 1
		}
		show(replicaState, value, append(labels, s.String())...)
	}
}
