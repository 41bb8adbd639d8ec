package telemetry

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// tallyCollector gives the tallies their names and labels when metrics are collected. The registry keeps what it collects until all of it
// is written, so the labels of a tally are shared by all of its metrics.
type tallyCollector struct{}

// Describe implements prometheus.Collector.
func (tallyCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		requests, latency, firstToken, perToken, queueWait, forecastRatio, tokenCount, estimated, wasted, cost, costReference, costUnknown, clientClosed, attempts, fallbacks, limited, cacheRequests, cacheTokens,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (tallyCollector) Collect(to chan<- prometheus.Metric) {
	s := samples{few: map[[2]string]*dto.LabelPair{}}
	for _, t := range pairTallies.all() {
		t.collect(s.begin(t.begun))
		s.send(to)
	}
	for _, t := range targetTallies.all() {
		t.collect(s.begin(t.begun))
		s.send(to)
	}
	for _, t := range modelTallies.all() {
		t.collect(s.begin(t.begun))
		s.send(to)
	}
}

func (t *pairTally) collect(s *samples) {
	t.mu.Lock()
	defer t.mu.Unlock()
	model, target := label("model", t.model), label("target", t.target)
	for i := range t.endpoints {
		e := &t.endpoints[i]
		endpoint := s.label("endpoint", e.endpoint)
		for _, c := range e.ended {
			s.counter(requests, c.n, endpoint, model, s.label("status", strconv.Itoa(c.of.status)), target, s.label("verdict", c.of.verdict.String()))
		}
		s.histogram(latency, latencyBuckets, &e.latency, endpoint, model, target)
	}
	a, labels := &t.answers, labels{model, target}
	if !a.begun {
		return
	}
	// All of them appear with the first answer, also those that are zero, so that Prometheus sees the first time that they count.
	s.counter(tokenCount, a.input, model, target, typeInput)
	s.counter(tokenCount, a.output, model, target, typeOutput)
	s.counter(tokenCount, a.cached, model, target, typeCached)
	s.counter(tokenCount, a.reasoning, model, target, typeReasoning)
	s.counter(estimated, a.estimated, labels...)
	s.counter(wasted, a.wasted, labels...)
	s.counter(clientClosed, a.clientClosed, labels...)
	s.counter(cost, a.cost, labels...)
	s.counter(costReference, a.costReference, labels...)
	s.counter(costUnknown, a.costUnknown, labels...)
	s.histogram(firstToken, waitBuckets, &a.firstToken, labels...)
	s.histogram(perToken, perTokenBuckets, &a.perToken, labels...)
}

func (t *targetTally) collect(s *samples) {
	t.mu.Lock()
	defer t.mu.Unlock()
	target := label("target", t.target)
	for _, c := range t.attempts {
		s.counter(attempts, c.n, target, s.label("verdict", c.of.String()))
	}
	s.histogram(forecastRatio, ratioBuckets, &t.forecastRatio, target)
}

func (t *modelTally) collect(s *samples) {
	t.mu.Lock()
	defer t.mu.Unlock()
	model := label("model", t.model)
	s.histogram(queueWait, waitBuckets, &t.queueWait, model)
	for _, c := range t.fallbacks {
		s.counter(fallbacks, c.n, model, s.label("reason", c.of))
	}
	for _, c := range t.limited {
		s.counter(limited, c.n, s.label("limit", c.of), model)
	}
	for _, c := range t.cached {
		s.counter(cacheRequests, c.n, model, s.label("result", c.of))
	}
	if len(t.cached) > 0 {
		s.counter(cacheTokens, t.input, model, typeInput)
		s.counter(cacheTokens, t.output, model, typeOutput)
	}
}

var typeInput, typeOutput, typeCached, typeReasoning = label("type", "input"), label("type", "output"), label("type", "cached"), label("type", "reasoning")

type labels = []*dto.LabelPair

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// samples are the metrics of a tally.
type samples struct {
	list  []*sample
	begun *timestamppb.Timestamp
	few   map[[2]string]*dto.LabelPair // labels with few values, which tallies share
}

// label returns a label with few values.
func (s *samples) label(name, value string) *dto.LabelPair {
	shared := s.few[[2]string{name, value}]
	if shared == nil {
		shared = label(name, value)
		s.few[[2]string{name, value}] = shared
	}
	return shared
}

func (s *samples) begin(begun time.Time) *samples {
	s.list, s.begun = s.list[:0], timestamppb.New(begun)
	return s
}

// send sends the metrics, when the tally is no longer locked.
func (s *samples) send(to chan<- prometheus.Metric) {
	for _, m := range s.list {
		to <- m
	}
}

// A sample is a metric as it was when it was collected.
type sample struct {
	desc      *prometheus.Desc
	labels    labels
	counter   *dto.Counter
	histogram *dto.Histogram
}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s *sample) Write(to *dto.Metric) error {
	to.Label, to.Counter, to.Histogram = s.labels, s.counter, s.histogram
	return nil
}

// counter adds a counter.
func (s *samples) counter(desc *prometheus.Desc, value float64, labels ...*dto.LabelPair) {
	c := &struct {
		dto.Counter
		value float64
	}{value: value}
	c.Value, c.CreatedTimestamp = &c.value, s.begun
	s.list = append(s.list, &sample{desc: desc, labels: labels, counter: &c.Counter})
}

// histogram adds a histogram unless it is empty. Prometheus needs all of its buckets, cumulated, and knows the last by the count.
func (s *samples) histogram(desc *prometheus.Desc, bounds []float64, h *histogram, labels ...*dto.LabelPair) {
	if h.buckets == nil {
		return
	}
	cumulated, sum := slices.Clone(h.buckets), h.sum
	for i := range bounds {
		cumulated[i+1] += cumulated[i]
	}
	each, buckets := make([]dto.Bucket, len(bounds)), make([]*dto.Bucket, len(bounds))
	for i := range bounds {
		each[i].CumulativeCount, each[i].UpperBound = &cumulated[i], &bounds[i]
		buckets[i] = &each[i]
	}
	s.list = append(s.list, &sample{desc: desc, labels: labels, histogram: &dto.Histogram{
		SampleCount: &cumulated[len(bounds)], SampleSum: &sum, Bucket: buckets, CreatedTimestamp: s.begun,
	}})
}
