package telemetry

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
)

// A histogram of a tally is what the Prometheus client makes of the same observations.
func TestHistogramsAreThoseOfPrometheus(t *testing.T) {
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: latencyBuckets})
	ours := histogram{}
	for range 10_000 {
		value := rand.ExpFloat64() * 50
		if rand.IntN(3) == 0 {
			value = latencyBuckets[rand.IntN(len(latencyBuckets))] // belongs to the bucket with this bound
		}
		theirs.Observe(value)
		ours.observe(latencyBuckets, value)
	}
	var s samples
	s.begin(time.Now()).histogram(latency, latencyBuckets, &ours)
	var got, want dto.Metric
	if err := s.list[0].Write(&got); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Write(&want); err != nil {
		t.Fatal(err)
	}
	want.Histogram.CreatedTimestamp = got.Histogram.CreatedTimestamp
	if diff := cmp.Diff(&want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// All counters of a model and target appear with its first answer, so that Prometheus sees them at zero before they count.
func TestCountersAppearWithTheFirstAnswer(t *testing.T) {
	table, u := tableOf(t)
	m, rec := newRecorder(table), answeredRecord(u)
	rec.Rule, rec.Model = "m-priced", "m-priced"
	collected := func() map[string]*dto.Counter {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(tallyCollector{})
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]*dto.Counter{}
		for _, f := range families {
			for _, m := range f.Metric {
				for _, l := range m.Label {
					if l.GetValue() == "m-priced" && m.Counter != nil {
						all[f.GetName()] = m.Counter
					}
				}
			}
		}
		return all
	}
	refused := &exchange.Record{Endpoint: rec.Endpoint, RequestInfo: rec.RequestInfo, Routing: rec.Routing}
	before := time.Now()
	m.record(refused)
	if c := collected()["llm_cost_usd_total"]; c != nil {
		t.Errorf("before an answer: %v", c)
	}
	m.record(rec)
	counters := collected()
	if unknown := counters["llm_cost_unknown_total"]; counters["llm_cost_usd_total"].GetValue() != rec.Cost || unknown == nil || unknown.GetValue() != 0 {
		t.Errorf("after an answer with a price: %v", counters)
	}
	priced := time.Now()
	rec = &exchange.Record{Endpoint: rec.Endpoint, RequestInfo: rec.RequestInfo, Routing: rec.Routing, Answer: rec.Answer}
	rec.HasCost = false
	m.record(rec)
	unknown := collected()["llm_cost_unknown_total"]
	if begun := unknown.GetCreatedTimestamp().AsTime(); unknown.GetValue() != 1 || begun.Before(before) || begun.After(priced) {
		t.Errorf("after an answer without a price: %v", unknown)
	}
}
