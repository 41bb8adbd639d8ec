package llmproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/metrics" // the page that Prometheus reads
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

// scrape reads the metrics page: the samples whose labels hold the text.
func scrape(t *testing.T, url, holding string) map[string]float64 {
	t.Helper()
	res, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	samples := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || lines.Text()[0] == '#' || !strings.Contains(lines.Text(), holding) {
			continue
		}
		name := lines.Text()[:at]
		value, err := strconv.ParseFloat(lines.Text()[at+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := samples[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		samples[name] = value
	}
	return samples
}

// say asks for a model; the client of a stream may leave after so many lines.
func say(t *testing.T, url, model string, stream bool, leaveAfter int) {
	t.Helper()
	if _, err := tryToSay(t, url, model, stream, leaveAfter); err != nil {
		t.Fatal(err)
	}
}

func tryToSay(t *testing.T, url, model string, stream bool, leaveAfter int) (status int, err error) {
	t.Helper()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"the secret word"}],"stream":%v}`, model, stream)
	return tryToAsk(t, url, body, leaveAfter)
}

func tryToAsk(t *testing.T, url, body string, leaveAfter int) (status int, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if leaveAfter > 0 {
		lines := bufio.NewReader(res.Body)
		for range leaveAfter {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		return res.StatusCode, nil
	}
	_, _ = io.Copy(io.Discard, res.Body) // some are to break off
	return res.StatusCode, nil
}

// Every verdict once, whole and streamed, compared metric by metric.
func TestMetricsTellWhatHappened(t *testing.T) {
	answers := map[string]fakellm.Answer{
		"ok": fakellm.Text("a", "b").Usage(100, 20, 30), "busy": fakellm.Busy(), "config": fakellm.Unauthorized(), "caller": fakellm.Status(422),
		"fits": fakellm.TooLong(), "slow": fakellm.Text("a").StallAfter(0), "broken": fakellm.InternalError(),
		"gone": fakellm.Text("four", "five", "six ").StallAfter(2), "cut": fakellm.Text("four", "five").CutAfter(1),
	}
	var inside strings.Builder
	var okURL string
	inside.WriteString("\tmetrics /metrics\n\tllm_proxy {\n\t\tdeadline 450ms\n\t\tprice ok-*/x 1 2 0.5 instead_of run-dear\n\t\tprice run-dear 10 20\n")
	for name, answer := range answers {
		fake := fakellm.Start(t, "openai")
		fake.Always(answer)
		if name == "ok" {
			okURL = fake.URL()
		}
		fmt.Fprintf(&inside, "\t\tupstream %s-up openai %s {\n\t\t\tfirst_token_timeout 200ms\n\t\t\ttimeout 400ms\n\t\t}\n\t\tmodel run-%s %s-up/x\n", name, fake.URL(), name, name)
	}
	down := fakellm.Start(t, "openai")
	down.Down()
	fmt.Fprintf(&inside, "\t\tupstream down-up openai %s\n\t\tmodel run-down down-up/x\n\t\tmodel run-falls {\n\t\t\tto config-up/y\n\t\t\tfallback ok-up/y\n\t\t}\n\t\tmodel run-wild-* ok-up\n\t}\n\thandle_path /cached/* {\n\t\tllm_proxy {\n\t\t\tupstream ok-up openai %s\n\t\t\tmodel run-cached ok-up/x\n\t\t\tcache run\n\t\t}\n\t}", down.URL(), okURL)
	caddyfile, url := site(t, inside.String())
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	before := scrape(t, url, "llm_") // of another run in this process
	for _, model := range []string{"ok", "busy", "config", "caller", "fits", "slow", "broken", "down", "falls", "wild-1", "wild-2"} {
		for _, stream := range []bool{false, true} {
			say(t, url, "run-"+model, stream, 0)
		}
	}
	say(t, url+"/cached", "run-cached", true, 0)
	say(t, url+"/cached", "run-cached", true, 0)
	say(t, url+"/cached", "run-cached", false, 0)
	say(t, url, "run-cut", true, 0)
	say(t, url, "run-gone", true, 5) // with all that it says before it stalls: what counts is what was passed on
	say(t, url, "made-up", true, 0)
	gone := `llm_client_closed_total{model="run-gone",target="gone-up/x"}`
	await(t, url, gone, before[gone]+1)

	got := scrape(t, url, `="run-`)
	for name := range got {
		if strings.Contains(name, "_bucket") || strings.Contains(name, "_sum") {
			delete(got, name)
		} else {
			got[name] -= before[name]
		}
	}
	if diff := cmp.Diff(expectedRun(), got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
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
		if value, there := all[name]; !there || value != 0 {
			t.Errorf("%s is %v, there: %v", name, value, there)
		}
	}
	if all["llm_overhead_seconds_sum"] <= 0 || all[`llm_request_bytes_total{endpoint="chat"}`] <= 0 || all[`llm_response_bytes_total{endpoint="chat"}`] <= 0 {
		t.Error("own time or bytes are missing")
	}
}

// await reads the metrics until one has a value: what a client that left costs is counted after it left.
func await(t *testing.T, url, name string, want float64) {
	t.Helper()
	for range 500 {
		if scrape(t, url, name)[name] == want {
			return
		}
	}
	t.Errorf("%s never was %v", name, want)
}

// 100 reloads under traffic lose no count and register nothing twice.
func TestReloadsLoseNoCount(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, "\tmetrics /metrics\n\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel reload-m u/real\n\t}\n\thandle_path /second/* {\n\t\tllm_proxy {\n\t\t\tupstream u openai "+fake.URL()+"\n\t\t\tmodel reload-n u\n\t\t}\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	name := `llm_requests_total{endpoint="chat",model="reload-m",status="200",target="u/real",verdict="ok"}`
	before := scrape(t, url, name)[name] // of another run in this process
	var answered atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					// A server that goes away closes idle connections; a request on its way there is answered by nobody.
					if status, err := tryToSay(t, url, "reload-m", true, 0); err == nil && status == http.StatusOK {
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
	close(stop)
	clients.Wait()
	await(t, url, name, before+float64(answered.Load()))
	await(t, url, "llm_requests_open", 0)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
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
			t.Errorf("after Cleanup there is %s", f)
		}
	}
}
