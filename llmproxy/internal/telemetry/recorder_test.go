package telemetry

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func tableOf(t testing.TB) (*router.Table, *router.Upstream) {
	t.Helper()
	u := &router.Upstream{Name: "u", Replicas: []router.Replica{&replica.Replica{Address: "http://u"}}}
	table, err := router.Compile([]*router.Upstream{u}, []router.Model{
		{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/real"}, Policy: router.First}}},
		{Name: "gpt-*", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return table, u
}

func answeredRecord(u *router.Upstream) *exchange.Record {
	target := router.Target{Upstream: u, Model: "real"}
	return &exchange.Record{ID: "req_1", Endpoint: "chat", Status: 200, Started: time.Now(), Duration: time.Second, RequestInfo: exchange.RequestInfo{Model: "m", Stream: true, Received: 500}, Answer: exchange.Answer{Target: "u/real", Configured: target, Usage: tokens.Usage{Input: 100, Output: 50, Cached: 10}, HasUsage: true, Cost: 0.01, HasCost: true, FirstContent: 20 * time.Millisecond, Events: 50, Bytes: 10_000, Attempts: []exchange.Attempt{{Target: "u/real", Configured: target, Address: "http://u", Duration: 999 * time.Millisecond}}}, Routing: exchange.Routing{Route: "m", Rule: "m"}}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	table, u := tableOf(t)
	m, rec := newRecorder(table), answeredRecord(u)
	if n := testing.AllocsPerRun(100, func() { m.record(rec) }); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// observer returns an observer without tracing and debug logs.
func observer(tb testing.TB) (*Observer, *exchange.Record) {
	tb.Helper()
	table, u := tableOf(tb)
	book := ledger.New(ledger.Config{Path: filepath.Join(tb.TempDir(), "ledger.db"), Report: func(err error) {
		if err != nil {
			tb.Error(err)
		}
	}})
	tb.Cleanup(func() {
		if err := book.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &Observer{Config: Config{Models: table, Usage: book, Recent: overview.NewRecent()}, logger: zap.NewNop(), recorder: newRecorder(table), failures: newFailures()}, answeredRecord(u)
}

func (o *Observer) observeAll(ctx context.Context, rec *exchange.Record) {
	o.StreamsChanged(1)
	o.Trace(ctx, rec, rec.Attempts[0])
	o.StreamsChanged(-1)
	o.Account(rec)
}

func TestObservingAllocatesLittle(t *testing.T) {
	o, rec := observer(t)
	if n := testing.AllocsPerRun(100, func() { o.observeAll(t.Context(), rec) }); n > 4 {
		t.Errorf("%v allocations a request", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	o, rec := observer(b)
	b.ReportAllocs()
	for b.Loop() {
		o.observeAll(b.Context(), rec)
	}
}

func BenchmarkRecord(b *testing.B) {
	table, u := tableOf(b)
	m, rec := newRecorder(table), answeredRecord(u)
	b.ReportAllocs()
	for b.Loop() {
		m.record(rec)
	}
}

// A follower of a coalesced request has its leader's route, but is no fallback.
func TestFollowersAreNoFallbacks(t *testing.T) {
	table, u := tableOf(t)
	m, rec := newRecorder(table), answeredRecord(u)
	rec.Route, rec.Rule, rec.Model = "fallback:failed", "gpt-*", "gpt-falls"
	forgetTallies()
	m.record(rec)
	rec.Attempts, rec.Cache = nil, "coalesced"
	m.record(rec)
	found := 0
	all := labelsOf(t, tallyCollector{})
	for _, labels := range all {
		if strings.Contains(labels, "gpt-*") && strings.Contains(labels, `"reason"`) && strings.Contains(labels, "counter:{value:1") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("counted: %v", all)
	}
}

// countSeries returns the number of series of all metrics.
func countSeries(t *testing.T) int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		n += len(f.Metric)
	}
	return n
}

// forgetTallies ends all tallies, which belong to the process.
func forgetTallies() {
	clear(pairTallies.known)
	clear(targetTallies.known)
	clear(modelTallies.known)
}

// Names of models that clients make up or that an upstream lists, and names of keys, do not add series without bound. What is not counted
// separately is counted all the same.
func TestSeriesAreBounded(t *testing.T) {
	forgetTallies()
	t.Cleanup(forgetTallies)
	table, u := tableOf(t)
	m := newRecorder(table)
	wild := router.Target{Upstream: u}
	for i := range 100_000 {
		name := fmt.Sprintf("made-up-%d", i)
		m.record(&exchange.Record{ID: name, Endpoint: "chat", Status: 404, Verdict: router.ClientError, RequestInfo: exchange.RequestInfo{Model: name}, Caller: exchange.Caller{Key: name}})
		m.record(&exchange.Record{ID: name, Endpoint: "chat", Status: 200, RequestInfo: exchange.RequestInfo{Model: "gpt-" + name}, Caller: exchange.Caller{Key: name}, Routing: exchange.Routing{Rule: "gpt-*"}, Answer: exchange.Answer{Target: "u/gpt-" + name, Configured: wild, FirstContent: 1, Attempts: []exchange.Attempt{{Target: "u/gpt-" + name, Configured: wild}}}})
		listed := router.Target{Upstream: u, Model: name}
		m.record(&exchange.Record{ID: name, Endpoint: "chat", Status: 200, RequestInfo: exchange.RequestInfo{Model: name}, Routing: exchange.Routing{Rule: catalog.RuleDiscover}, Answer: exchange.Answer{Target: "u/" + name, Configured: listed, FirstContent: 1, Attempts: []exchange.Attempt{{Target: "u/" + name, Configured: listed}}}})
	}
	if n := countSeries(t); n > 20*maxTallies {
		t.Errorf("%d series", n)
	}
	for kind, n := range map[string]int{"pairs": len(pairTallies.known), "targets": len(targetTallies.known)} {
		if n != maxTallies+1 {
			t.Errorf("%d %s", n, kind)
		}
	}
	counted := 0.0
	for _, p := range pairTallies.all() {
		for _, e := range p.endpoints {
			for _, c := range e.ended {
				counted += c.n
			}
		}
	}
	if counted != 300_000 {
		t.Errorf("%v requests were counted", counted)
	}
	if other := pairTallies.known[pairTallies.other]; other.model != "other" || other.target != "other" || other.answers.costUnknown < 90_000 {
		t.Errorf("others: %+v", other)
	}
	for _, labels := range labelsOf(t, tallyCollector{}) {
		if strings.Contains(labels, "made-up-99999") {
			t.Errorf("a made-up name is a label: %s", labels)
		}
	}
}

func labelsOf(t *testing.T, c prometheus.Collector) (all []string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			all = append(all, m.String())
		}
	}
	return all
}

func TestWithoutTracingThereIsNoSpan(t *testing.T) {
	o := new(Observer)
	_, u := tableOf(t)
	rec := answeredRecord(u)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, span := o.Trace(ctx, rec, rec.Attempts[0]); span != nil {
			t.Error("a span was started")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
