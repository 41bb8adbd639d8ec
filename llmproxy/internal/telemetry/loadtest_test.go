package telemetry

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// pipes is a listener whose connections are pipes, so that time passes in a bubble while a goroutine waits at one.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { close(p.closed); return nil }

func (p pipes) Addr() net.Addr { return &net.IPAddr{} }

// serve starts a server and returns a transport that reaches no other one.
func serve(t *testing.T, handler http.Handler) *http.Transport {
	p := pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: handler}
	go server.Serve(p) //nolint:errcheck // it is closed
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		p.conns <- far
		return near, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return transport
}

// The figures of caddy llm-bench are those of the gateway's metrics. Between a client and the gateway passes no time here, as little as on a
// machine that is infinitely fast, so that all must be the same.
func TestLoadTestAgreesWithMetrics(t *testing.T) {
	for name, options := range map[string]loadtest.Options{
		"closed loop": {Concurrency: 10},
		"open loop":   {Concurrency: 1000, Rate: 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := fakellm.New("openai", fakellm.Models("bench"))
				fake.Always(fakellm.Text(slices.Repeat([]string{"word "}, 30)...).DelayFirst(500*time.Millisecond).Interval(10*time.Millisecond).Usage(50, 30, 0))
				u := upstream.New(upstream.Config{Name: "bench-up", Kind: upstream.OpenAI, Bases: []*url.URL{{Scheme: "http", Host: "upstream", Path: "/v1"}}, Transport: serve(t, fake)})
				table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "bench", Pools: []router.PoolConfig{{Targets: []string{"bench-up"}, Policy: router.First}}}})
				if err != nil {
					t.Fatal(err)
				}
				g := gateway.New(gateway.Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table, Account: newRecorder(table).record})
				t.Cleanup(g.Close)
				before := http.DefaultTransport
				t.Cleanup(func() { http.DefaultTransport = before })
				http.DefaultTransport = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					task, _ := g.Match(r)
					g.Serve(w, r, task, new(exchange.Record))
				}))

				options.Target = loadtest.Target{URL: "http://gateway/v1", Dialect: loadtest.OpenAI, Model: "bench"}
				options.Prompts, options.Stream, options.Requests, options.Timeout = loadtest.MakeUp(20, 1), true, 40, time.Hour
				was := benchMetrics(t)
				got, err := loadtest.Run(t.Context(), options)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // a request is counted after its client has the answer
				is := benchMetrics(t)
				mean := func(metric string) float64 {
					return (is[metric+"_sum"] - was[metric+"_sum"]) / (is[metric+"_count"] - was[metric+"_count"])
				}
				if got.Failed != 0 || got.FirstToken.Count() != 40 {
					t.Errorf("%d requests failed, and %d have a first token", got.Failed, got.FirstToken.Count())
				}
				for figure, test := range map[string]struct{ got, want float64 }{
					"requests":                   {float64(got.Succeeded), is["llm_time_to_first_token_seconds_count"] - was["llm_time_to_first_token_seconds_count"]},
					"input tokens":               {float64(got.InputTokens), is["llm_tokens_total input"] - was["llm_tokens_total input"]},
					"output tokens":              {float64(got.OutputTokens), is["llm_tokens_total output"] - was["llm_tokens_total output"]},
					"mean time to first token":   {got.FirstToken.Mean().Seconds(), mean("llm_time_to_first_token_seconds")},
					"mean time per output token": {got.PerToken.Mean().Seconds(), mean("llm_time_per_output_token_seconds")},
					"mean latency":               {got.Latency.Mean().Seconds(), mean("llm_request_latency_seconds")},
				} {
					if math.Abs(test.got-test.want) > 1e-6 {
						t.Errorf("%s: the load test says %v, the metrics %v", figure, test.got, test.want)
					}
				}
			})
		})
	}
}

// benchMetrics returns the metrics of the model bench: the sums and counts of histograms, and counters with their type.
func benchMetrics(t *testing.T) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["model"] != "bench" {
				continue
			}
			if h := metric.GetHistogram(); h != nil {
				values[family.GetName()+"_sum"], values[family.GetName()+"_count"] = h.GetSampleSum(), float64(h.GetSampleCount())
			} else {
				values[family.GetName()+" "+labels["type"]] = metric.GetCounter().GetValue()
			}
		}
	}
	return values
}
