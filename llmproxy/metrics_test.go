package llmproxy

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

// All metrics are as expected after a request with each verdict, with and without a stream.
func TestMetricsCountRequests(t *testing.T) {
	answers := map[string]fakellm.Answer{
		"ok": fakellm.Text("a", "b").Usage(100, 20, 30), "busy": fakellm.Busy(), "config": fakellm.Unauthorized(), "caller": fakellm.Status(422),
		"fits": fakellm.TooLong(), "slow": fakellm.Text("a").StallAfter(0), "broken": fakellm.InternalError(),
		"gone": fakellm.Text("four", "five", "six ").StallAfter(2), "cut": fakellm.Text("four", "five").CutAfter(1),
	}
	var inside strings.Builder
	var okURL string
	inside.WriteString("\tmetrics /metrics\n\tllm_proxy {\n\t\tprice ok-*/x 1 2 0.5 instead_of run-dear\n\t\tprice run-dear 10 20\n")
	for name, answer := range answers {
		fake := fakellm.Start(t, "openai")
		fake.Always(answer)
		if name == "ok" {
			okURL = fake.URL()
		}
		options := "" // only what must time out may
		if name == "slow" {
			options = " {\n\t\t\ttimeout 200ms\n\t\t}"
		}
		fmt.Fprintf(&inside, "\t\tupstream %s-up openai %s%s\n\t\tmodel run-%s %s-up/x\n", name, fake.URL(), options, name, name)
	}
	down := fakellm.Start(t, "openai")
	down.Down()
	fmt.Fprintf(&inside, "\t\tupstream down-up openai %s\n\t\tmodel run-down down-up/x\n\t\tmodel run-falls {\n\t\t\tto config-up/y\n\t\t\tfallback ok-up/y\n\t\t}\n\t\tmodel run-wild-* ok-up\n\t}\n\thandle_path /cached/* {\n\t\tllm_proxy {\n\t\t\tupstream ok-up openai %s\n\t\t\tmodel run-cached ok-up/x\n\t\t\tcache run\n\t\t}\n\t}", down.URL(), okURL)
	url := run(t, inside.String())
	before := scrape(t, url, "llm_") // counted by a previous run in this process
	for _, model := range []string{"ok", "busy", "config", "caller", "fits", "slow", "broken", "down", "falls", "wild-1", "wild-2"} {
		for _, stream := range []bool{false, true} {
			say(t, url, "run-"+model, stream, 0)
		}
	}
	say(t, url+"/cached", "run-cached", true, 0)
	say(t, url+"/cached", "run-cached", true, 0)
	say(t, url+"/cached", "run-cached", false, 0)
	say(t, url, "run-cut", true, 0)
	say(t, url, "run-gone", true, 5) // all lines until the answer stalls, because what was passed on to the client counts
	say(t, url, "made-up", true, 0)
	awaitMetric(t, url, "llm_requests_open", nil, 0) // the handler of the client that left has ended

	got := scrape(t, url, `="run-`)
	for name := range got {
		if strings.Contains(name, "_bucket") || strings.Contains(name, "_sum") {
			delete(got, name)
		} else {
			got[name] -= before[name]
		}
	}
	if diff := cmp.Diff(expectedMetrics(), got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
		t.Error(diff)
	}
	wantAttempts := map[string]float64{
		`llm_attempts_total{target="config-up/x",verdict="misconfigured"}`: 2,
		`llm_attempts_total{target="config-up/y",verdict="misconfigured"}`: 1, // then it is hidden
		`llm_attempts_total{target="ok-up/*",verdict="ok"}`:                4,
		`llm_attempts_total{target="ok-up/y",verdict="ok"}`:                2, `llm_attempts_total{target="gone-up/x",verdict="client_closed"}`: 1,
		`llm_attempts_total{target="cut-up/x",verdict="failed"}`: 1, `llm_attempts_total{target="slow-up/x",verdict="timeout"}`: 2,
	}
	all := scrape(t, url, "llm_")
	for name, want := range wantAttempts {
		if got := all[name] - before[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if other := `llm_requests_total{endpoint="chat",model="other",status="404",target="",verdict="client_error"}`; all[other]-before[other] < 1 {
		t.Error("a made-up model is not counted as other")
	}
	for _, name := range []string{"llm_requests_open", "llm_streams_open", `llm_upstream_requests_open{replica="` + down.URL() + `/v1",upstream="down-up"}`} {
		if value, found := all[name]; !found || value != 0 {
			t.Errorf("%s is %v (found: %v), want 0", name, value, found)
		}
	}
	if all["llm_overhead_seconds_sum"] <= 0 || all[`llm_request_bytes_total{endpoint="chat"}`] <= 0 || all[`llm_response_bytes_total{endpoint="chat"}`] <= 0 {
		t.Error("overhead or bytes are missing")
	}
}

// expectedMetrics returns what TestMetricsCountRequests must have counted, except sums and buckets, which depend on time.
func expectedMetrics() map[string]float64 {
	want := map[string]float64{
		`llm_requests_total{endpoint="chat",model="run-falls",status="200",target="ok-up/y",verdict="ok"}`:             2,
		`llm_fallbacks_total{model="run-falls",reason="misconfigured"}`:                                                2,
		`llm_requests_total{endpoint="chat",model="run-gone",status="499",target="gone-up/x",verdict="client_closed"}`: 1,
		`llm_requests_total{endpoint="chat",model="run-cut",status="200",target="cut-up/x",verdict="failed"}`:          1,
	}
	failed := map[string][2]string{
		"busy": {"503", "overloaded"}, "config": {"502", "misconfigured"}, "caller": {"422", "client_error"}, "fits": {"400", "unsupported"},
		"slow": {"504", "timeout"}, "broken": {"502", "failed"}, "down": {"503", "unreachable"},
	}
	for model, end := range failed {
		want[`llm_requests_total{endpoint="chat",model="run-`+model+`",status="`+end[0]+`",target="`+model+`-up/x",verdict="`+end[1]+`"}`] = 2
		want[`llm_request_latency_seconds_count{endpoint="chat",model="run-`+model+`",target="`+model+`-up/x"}`] = 2
	}
	for model, target := range map[string]string{"run-ok": "ok-up/x", "run-wild-*": "ok-up/*", "run-falls": "ok-up/y"} {
		labels := `{model="` + model + `",target="` + target + `"}`
		times := 2.0
		if model == "run-wild-*" {
			times = 4
		}
		want[`llm_requests_total{endpoint="chat",model="`+model+`",status="200",target="`+target+`",verdict="ok"}`] = times
		want[`llm_request_latency_seconds_count{endpoint="chat",model="`+model+`",target="`+target+`"}`] = times
		answered(want, model, target, counts{answers: times, streams: times / 2, input: 100 * times, cached: 30 * times, output: 20 * times})
		want["llm_cost_unknown_total"+labels] = times
	}
	// Three requests; the cache answered two of them.
	want[`llm_requests_total{endpoint="chat",model="run-cached",status="200",target="ok-up/x",verdict="ok"}`] = 1
	want[`llm_requests_total{endpoint="chat",model="run-cached",status="200",target="",verdict="ok"}`] = 2
	want[`llm_request_latency_seconds_count{endpoint="chat",model="run-cached",target="ok-up/x"}`] = 1
	want[`llm_request_latency_seconds_count{endpoint="chat",model="run-cached",target=""}`] = 2
	want[`llm_cache_requests_total{model="run-cached",result="miss"}`] = 1
	want[`llm_cache_requests_total{model="run-cached",result="hit"}`] = 2
	want[`llm_cache_tokens_saved_total{model="run-cached",type="input"}`] = 200
	want[`llm_cache_tokens_saved_total{model="run-cached",type="output"}`] = 40
	answered(want, "run-cached", "ok-up/x", counts{answers: 1, streams: 1, input: 100, cached: 30, output: 20})
	want[`llm_cost_unknown_total{model="run-cached",target="ok-up/x"}`] = 1
	ok := `{model="run-ok",target="ok-up/x"}`
	want["llm_cost_unknown_total"+ok] = 0
	want["llm_cost_usd_total"+ok] = 2 * (70*1 + 30*0.5 + 20*2) / 1e6
	want["llm_cost_reference_usd_total"+ok] = 2 * (100*10 + 20*20) / 1e6
	// The estimate is 4 tokens for the prompt of 15 bytes, 4 for the message, and the tokens of the answer that were passed on.
	for model, output := range map[string]float64{"gone": 2, "cut": 1} {
		target := model + "-up/x"
		want[`llm_request_latency_seconds_count{endpoint="chat",model="run-`+model+`",target="`+target+`"}`] = 1
		answered(want, "run-"+model, target, counts{answers: 1, streams: 1, input: 8, output: output})
		labels := `{model="run-` + model + `",target="` + target + `"}`
		want["llm_usage_estimated_total"+labels] = 1
		want["llm_cost_unknown_total"+labels] = 1
	}
	gone := `{model="run-gone",target="gone-up/x"}`
	want["llm_client_closed_total"+gone], want["llm_tokens_wasted_total"+gone] = 1, 2
	delete(want, `llm_time_per_output_token_seconds_count{model="run-cut",target="cut-up/x"}`) // one token has no time between two
	return want
}

type counts struct{ answers, streams, input, cached, output float64 }

// answered adds the metrics that exist from the first answer on.
func answered(want map[string]float64, model, target string, c counts) {
	labels := `model="` + model + `",target="` + target + `"`
	for kind, value := range map[string]float64{"input": c.input, "output": c.output, "cached": c.cached, "reasoning": 0} {
		want["llm_tokens_total{"+labels+`,type="`+kind+`"}`] = value
	}
	for _, name := range []string{"usage_estimated", "tokens_wasted", "client_closed", "cost_usd", "cost_reference_usd", "cost_unknown"} {
		want["llm_"+name+"_total{"+labels+"}"] = 0
	}
	want["llm_time_to_first_token_seconds_count{"+labels+"}"] = c.streams
	want["llm_time_per_output_token_seconds_count{"+labels+"}"] = c.streams
}

// 100 reloads under traffic lose no counts and register no metric twice.
func TestMetricsSurviveReloads(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, "\tmetrics /metrics\n\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel reload-m u/real\n\t}\n\thandle_path /second/* {\n\t\tllm_proxy {\n\t\t\tupstream u openai "+fake.URL()+"\n\t\t\tmodel reload-n u\n\t\t}\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	before := scrape(t, url, "llm_") // counted by a previous run in this process
	var answered atomic.Int64
	enough := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
					if status, _ := tryToPost(url, question("reload-m", "Hi"), 0); status == http.StatusOK { // a reload resets some connections
						answered.Add(1)
					}
				}
			}
		})
	}
	for i := 0; i < 100 || answered.Load() < 100; i++ {
		if err := load(t, strings.Replace(caddyfile, "reload-n", fmt.Sprintf("reload-n%d", i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	close(enough)
	clients.Wait()
	awaitMetric(t, url, `llm_requests_total{endpoint="chat",model="reload-m",status="200",target="u/real",verdict="ok"}`, before, float64(answered.Load()))
	awaitMetric(t, url, "llm_requests_open", nil, 0)
	stop(t)
	registry := prometheus.NewRegistry()
	if err := telemetry.Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "llm_upstream_") {
			t.Errorf("after Cleanup, there is %s", f)
		}
	}
}

// scrape returns the samples on the metrics page whose names or labels contain a text.
func scrape(t *testing.T, url, containing string) map[string]float64 {
	t.Helper()
	code, page := get(t, url+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, page)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' || !strings.Contains(line, containing) {
			continue
		}
		name := line[:at]
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := samples[name]; twice {
			t.Errorf("%s is on the page twice", name)
		}
		samples[name] = value
	}
	return samples
}

// awaitMetric waits until a metric is a number higher than before. A request is counted after the client has the answer.
func awaitMetric(t *testing.T, url, name string, before map[string]float64, n float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is not %v", name, before[name]+n), func() bool { return scrape(t, url, name)[name] == before[name]+n })
}
