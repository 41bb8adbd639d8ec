package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// The collectors are of the process, not of a configuration: a stream that outlives a reload still counts, and no reload sets
// anything back. Labels come from the configuration only; docs/metrics.md explains each.
var (
	requests       = counter("requests_total", "Requests that are over.", "model", "target", "endpoint", "status", "verdict")
	latency        = histogram("request_latency_seconds", "From the request's arrival to the answer's end.", secondsOfAnswers, "model", "target", "endpoint")
	firstToken     = histogram("time_to_first_token_seconds", "From the request's arrival to the first content of a stream.", secondsToFirst, "model", "target")
	perToken       = histogram("time_per_output_token_seconds", "Between two output tokens of a stream, on average over it.", secondsPerToken, "model", "target")
	overhead       = histogram("overhead_seconds", "The gateway's own time: without the request's upload, waits and attempts.", secondsOfOurs)
	queueWait      = histogram("queue_wait_seconds", "The wait for a slot, of requests that had to wait.", secondsToFirst, "model")
	tokens         = counter("tokens_total", "Tokens used; cached is part of input, reasoning of output.", "model", "target", "type")
	estimated      = counter("usage_estimated_total", "Requests whose tokens the upstream did not count, so that they were estimated.", "model", "target")
	wasted         = counter("tokens_wasted_total", "Output tokens of streams whose clients left.", "model", "target")
	cost           = counter("cost_usd_total", "What answers cost, in US dollars, where the price is known.", "model", "target")
	costReference  = counter("cost_reference_usd_total", "What the answers of targets with instead_of would have cost there, in US dollars.", "model", "target")
	unpriced       = counter("cost_unknown_total", "Answers whose price is not known.", "model", "target")
	attemptsMade   = counter("attempts_total", "Attempts, by how they ended.", "target", "verdict")
	fallbacks      = counter("fallbacks_total", "Requests that left their first pool of targets, by why.", "model", "reason")
	cacheRequests  = counter("cache_requests_total", "Requests that the cache was asked for: hit, miss, coalesced, bypass.", "model", "result")
	savedTokens    = counter("cache_tokens_saved_total", "Tokens of answers that the cache gave.", "model", "type")
	limited        = counter("limited_total", "Requests that a limit of this gateway refused.", "model", "limit")
	clientClosed   = counter("client_closed_total", "Requests whose clients left before the answer's end.", "model", "target")
	requestBytes   = counter("request_bytes_total", "Bytes of request bodies.", "endpoint")
	responseBytes  = counter("response_bytes_total", "Bytes of answers' bodies.", "endpoint")
	requestsOpen   = gauge("requests_open", "Requests that are not over.")
	streamsOpen    = gauge("streams_open", "Streams that have begun and are not over.")
	everyCollector = collectors{
		requests, latency, firstToken, perToken, overhead, queueWait, tokens, estimated, wasted, cost, costReference, unpriced,
		attemptsMade, fallbacks, cacheRequests, savedTokens, limited, clientClosed, requestBytes, responseBytes, requestsOpen, streamsOpen, replicaStates{},
	}
)

// The buckets of the GenAI conventions; those of whole answers go on for the models that take minutes.
var (
	secondsOfAnswers = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36}
	secondsToFirst   = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60}
	secondsPerToken  = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5}
	secondsOfOurs    = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, 1}
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "llm", Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "llm", Name: name, Help: help, Buckets: buckets}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "llm", Name: name, Help: help})
}

// collectors are registered as one, so that a second handler of a configuration finds all of them there or none.
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

// Collectors returns all collectors as one.
func Collectors() prometheus.Collector { return &everyCollector }

// Register shows the collectors in the registry of a configuration; each configuration has a new one.
func Register(registry *prometheus.Registry) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(&everyCollector); err != nil && !errors.As(err, &already) {
		return err
	}
	return nil
}

// CountStreams counts streams that begin, 1, and that are over, -1.
func CountStreams(n int) { streamsOpen.Add(float64(n)) }

// CountRequests counts requests that begin, 1, and that are over, -1.
func CountRequests(n int) { requestsOpen.Add(float64(n)) }
