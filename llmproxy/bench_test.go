package llmproxy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A benchRun is what caddy llm-bench --json prints of a run.
type benchRun struct {
	URL, Model            string
	Succeeded, Failed     int
	OutputTokens          int64   `json:"output_tokens"`
	InputTokens           int64   `json:"input_tokens"`
	OutputTokensPerSecond float64 `json:"output_tokens_per_second"`
	FirstToken            *struct {
		Count     int64
		Mean, P50 float64
	} `json:"time_to_first_token"`
	PerToken *struct{ Mean float64 } `json:"time_per_output_token"`
	Latency  *struct {
		Count int64
		Mean  float64
	} `json:"request_latency"`
	Errors   []struct{ Class, Message string }
	Warnings []string
}

// benchJSON runs caddy llm-bench --json.
func benchJSON(t *testing.T, args ...string) (runs []benchRun) {
	t.Helper()
	out, err := runCommand(t, "llm-bench", append(args, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var printed struct{ Runs []benchRun }
	if err := json.Unmarshal([]byte(out), &printed); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return printed.Runs
}

// The benchmark counts what the gateway's metrics count. No client sees an answer sooner than the gateway; that the times agree is tested where
// time passes only between the gateway and the upstream.
func TestBenchAgreesWithMetrics(t *testing.T) {
	fake := fakellm.Start(t, "openai", fakellm.Models("bench"))
	fake.Always(fakellm.Text(strings.Fields(strings.Repeat("word ", 30))...).DelayFirst(100*time.Millisecond).Usage(50, 30, 0))
	url := run(t, "\tmetrics /metrics\n\tllm_proxy {\n\t\tupstream bench-up openai "+fake.URL()+"\n\t\tmodel bench bench-up/bench\n\t}")
	for name, args := range map[string][]string{
		"closed loop": {"--concurrency", "10", "--requests", "40"},
		"open loop":   {"--rate", "40", "--requests", "40"},
	} {
		t.Run(name, func(t *testing.T) {
			const labels = `{model="bench",target="bench-up/bench"}`
			before := scrape(t, url, "bench")
			got := benchJSON(t, append([]string{url, "--warmup", "0"}, args...)...)[0]
			const requests = `llm_requests_total{endpoint="chat",model="bench",status="200",target="bench-up/bench",verdict="ok"}`
			awaitMetric(t, url, requests, before, 40)
			after := scrape(t, url, "bench")
			difference := func(metric string) float64 { return after[metric] - before[metric] }
			for figure, test := range map[string]struct{ got, want float64 }{
				"requests":      {float64(got.Succeeded), difference(`llm_time_to_first_token_seconds_count` + labels)},
				"input tokens":  {float64(got.InputTokens), difference(`llm_tokens_total{model="bench",target="bench-up/bench",type="input"}`)},
				"output tokens": {float64(got.OutputTokens), difference(`llm_tokens_total{model="bench",target="bench-up/bench",type="output"}`)},
			} {
				if test.got != test.want {
					t.Errorf("%s: the benchmark says %v, the metrics %v", figure, test.got, test.want)
				}
			}
			for figure, test := range map[string]struct{ got, sum float64 }{
				"TTFT":    {got.FirstToken.Mean, difference("llm_time_to_first_token_seconds_sum" + labels)},
				"latency": {got.Latency.Mean, difference(`llm_request_latency_seconds_sum{endpoint="chat",model="bench",target="bench-up/bench"}`)},
			} {
				if least := test.sum / 40; test.got < least {
					t.Errorf("mean %s: the benchmark says %v, the metrics %v", figure, test.got, least)
				}
			}
			if got.Failed != 0 || got.FirstToken.Count != 40 || got.PerToken == nil || got.Model != "bench" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// The keys are taken from the environment, each goes to its own server only, and neither is printed.
func TestBenchKeys(t *testing.T) {
	t.Setenv("LLM_BENCH_KEY", "sk-first")
	t.Setenv("LLM_BENCH_COMPARE_KEY", "")
	one, two := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	one.Always(fakellm.Text("Hi"))
	two.Always(fakellm.Text("Hi"))
	out, err := runCommand(t, "llm-bench", one.URL(), "--compare", two.URL(), "--requests", "3", "--input-tokens", "5")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "sk-first") {
		t.Error("the key is printed")
	}
	for _, words := range []string{"3 succeeded, 0 failed", "Time to first token", "Comparison", "difference", one.URL(), two.URL()} {
		if !strings.Contains(out, words) {
			t.Errorf("%q is missing in\n%s", words, out)
		}
	}
	if requests := one.Requests(); len(requests) != 4 || requests[0].Header.Get("Authorization") != "Bearer sk-first" {
		t.Errorf("the first server got %d requests", len(requests))
	}
	if requests := two.Requests(); len(requests) != 4 || requests[0].Header.Get("Authorization") != "" {
		t.Errorf("the second server got %d requests, with the key %q", len(requests), requests[0].Header.Get("Authorization"))
	}
	if string(one.Requests()[1].Body) == string(two.Requests()[1].Body) {
		t.Error("both servers got the same prompt")
	}
}

// Prompts come from a file, and reach the server as they are.
func TestBenchPromptFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prompts")
	if err := os.WriteFile(file, []byte("Why?\n{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Who?\"}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dialect, kind := range map[string]string{"openai": "openai", "anthropic": "anthropic", "ollama": "ollama"} {
		fake := fakellm.Start(t, kind)
		got := benchJSON(t, fake.URL(), "--dialect", dialect, "--prompt-file", file, "--requests", "4", "--concurrency", "1", "--warmup", "0")[0]
		if got.Succeeded != 4 {
			t.Errorf("%s: got %+v", dialect, got)
		}
		for i, request := range fake.Requests() {
			want := []string{`"Why?"`, `"Be brief."`}[i%2]
			if !strings.Contains(string(request.Body), want) {
				t.Errorf("%s: request %d is %s", dialect, i, request.Body)
			}
		}
	}
}

// Mistakes are reported before any request is measured, with what to do.
func TestBenchErrors(t *testing.T) {
	fake := fakellm.Start(t, "openai", fakellm.Models("tiny", "other"))
	only := fakellm.Start(t, "openai", fakellm.Models("text-embedding-3"))
	for _, test := range []struct {
		args  []string
		words string
	}{
		{[]string{"localhost:8080"}, "must look like http://localhost:8080"},
		{[]string{"http://" + freeport.Address(t)}, "does not answer"},
		{[]string{only.URL()}, "lists no model that can chat; give one with --model"},
		{[]string{fake.URL(), "--dialect", "grpc"}, "must be one of openai, anthropic, ollama"},
		{[]string{fake.URL(), "--concurrency", "0"}, "concurrency 0: must be between"},
		{[]string{fake.URL(), "--requests", "0"}, "so that the run ends"},
		{[]string{fake.URL(), "--slo", "ttft=1s"}, "the name must be one of"},
		{[]string{fake.URL(), "--prompt-file", "no-such-file"}, "no-such-file"},
		{[]string{fake.URL(), "--model", "missing"}, "lists the models tiny, other"},
		{[]string{fake.URL(), "--model", "tiny", "--compare", only.URL(), "--compare-model", "x"}, "lists the models text-embedding-3"},
		{nil, "accepts 1 arg"},
	} {
		out, err := runCommand(t, "llm-bench", append(test.args, "--timeout", "10s")...)
		if err == nil || !strings.Contains(err.Error(), test.words) || strings.Contains(out, "Requests ") {
			t.Errorf("%q: got %v, want %q", test.args, err, test.words)
		}
	}
}

// An objective that is missed, and a run without any answer, are errors; the results are printed all the same.
func TestBenchFails(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	out, err := runCommand(t, "llm-bench", fake.URL(), "--requests", "3", "--slo", "ttft_p95=1m", "--slo", "requests_per_second=1000000")
	if err == nil || !strings.Contains(err.Error(), "objectives missed: requests_per_second=1000000 (") || !strings.Contains(out, "MISSED") || !strings.Contains(out, "met") {
		t.Errorf("got %v and\n%s", err, out)
	}
	fake.Always(fakellm.RateLimited())
	out, err = runCommand(t, "llm-bench", fake.URL(), "--requests", "3", "--warmup", "0")
	if err == nil || err.Error() != "no request succeeded" || !strings.Contains(out, "3  status 429 rate_limit_exceeded") {
		t.Errorf("got %v and\n%s", err, out)
	}
	if _, err = runCommand(t, "llm-bench", fake.URL(), "--requests", "3"); err == nil || !strings.Contains(err.Error(), "before the measurement failed: status 429") {
		t.Errorf("got %v", err)
	}
}

// The report is written at the end, and a run that fails leaves the previous one.
func TestBenchHTML(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	folder := t.TempDir()
	file := filepath.Join(folder, "report.html")
	if _, err := runCommand(t, "llm-bench", fake.URL(), "--requests", "3", "--html", file); err != nil {
		t.Fatal(err)
	}
	page := read(t, file)
	if !strings.Contains(page, "Load test of "+fake.URL()) || !strings.HasSuffix(page, "</html>\n") {
		t.Errorf("got %s", page)
	}
	fake.Next(fakellm.Unauthorized())
	if _, err := runCommand(t, "llm-bench", fake.URL(), "--html", file); err == nil || read(t, file) != page {
		t.Errorf("got %v, and the previous report is lost", err)
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
		t.Errorf("%d files are left, %v", len(files), err)
	}
	before := len(fake.Requests())
	if _, err := runCommand(t, "llm-bench", fake.URL(), "--html", filepath.Join(folder, "missing", "report.html")); err == nil || len(fake.Requests()) != before {
		t.Errorf("got %v after %d requests", err, len(fake.Requests())-before)
	}
}

// Answers from the response cache are not taken for the server's speed.
func TestBenchWarnsOfCache(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	url := run(t, "\tllm_proxy {\n\t\tupstream up openai "+fake.URL()+"\n\t\tmodel m up/tiny\n\t\tcache\n\t}")
	file := filepath.Join(t.TempDir(), "prompts")
	if err := os.WriteFile(file, []byte("Why?"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A busy machine adds a warning of its own.
	warnings := func(args ...string) string {
		return strings.Join(benchJSON(t, append(args, url, "--requests", "5")...)[0].Warnings, "\n")
	}
	// A client that leaves at the last event of the first answer can be back before this answer is stored.
	eventually(t, "not all answers come from the cache", func() bool {
		return strings.Contains(warnings("--prompt-file", file, "--concurrency", "1"), "5 answers came from the gateway's response cache")
	})
	if got := warnings(); strings.Contains(got, "cache") {
		t.Errorf("got %q for prompts that differ", got)
	}
}
