package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// caddy llm-bench and guidellm, which the vLLM project publishes, measure the same of the same gateway, within 5 %. The server behind it
// keeps a schedule, so that differences are those of the tools. It is a slow one, because guidellm needs up to 50 ms for a request on a busy machine.
func TestBenchAgreesWithGuidellm(t *testing.T) {
	const requests, concurrency = "25", "5"
	s, err := runFakeOf("openai", "-first", "2s", "-tokens", "30", "-interval", "40ms")
	if err != nil {
		t.Fatal(err)
	}
	s.stopAfter(t)
	g := startGateway(t, fill(`
	llm_proxy {
		upstream paced openai FAKE
		model paced paced/fake
	}`, "FAKE", s.url()))

	theirs := runGuidellm(t, g.url, "paced", requests, concurrency)
	ours := runBench(t, g.url, "--model", "paced", "--requests", requests, "--concurrency", concurrency)
	for figure, test := range map[string]struct{ ours, theirs float64 }{
		"requests per second":      {ours.RequestsPerSecond, theirs.RequestsPerSecond.mean()},
		"output tokens per second": {ours.OutputTokensPerSecond, theirs.OutputTokensPerSecond.mean()},
		"output tokens":            {float64(ours.OutputTokens) / float64(ours.Succeeded), theirs.OutputTokens.mean()},
		"mean TTFT":                {ours.FirstToken.Mean, theirs.FirstToken.mean() / 1000},
		// Their inter-token latency divides by the tokens, so it is our time per output token.
		"mean time per output token": {ours.PerToken.Mean, theirs.InterToken.mean() / 1000},
		"mean latency":               {ours.Latency.Mean, theirs.Latency.mean()},
	} {
		t.Logf("%s: llm-bench %.4g, guidellm %.4g", figure, test.ours, test.theirs)
		if off := math.Abs(test.ours/test.theirs - 1); !(off < .05) {
			t.Errorf("%s: llm-bench says %v, guidellm %v", figure, test.ours, test.theirs)
		}
	}
	if ours.Succeeded != 25 || ours.Failed != 0 || theirs.FirstToken.Successful.Count != 20 {
		t.Errorf("%d and %d requests succeeded, %d of ours failed", ours.Succeeded, theirs.FirstToken.Successful.Count, ours.Failed)
	}
}

// A benchResult is what caddy llm-bench --json prints of a run.
type benchResult struct {
	Succeeded, Failed     int
	OutputTokens          int64                  `json:"output_tokens"`
	RequestsPerSecond     float64                `json:"requests_per_second"`
	OutputTokensPerSecond float64                `json:"output_tokens_per_second"`
	FirstToken            struct{ Mean float64 } `json:"time_to_first_token"`
	PerToken              struct{ Mean float64 } `json:"time_per_output_token"`
	Latency               struct{ Mean float64 } `json:"request_latency"`
}

func runBench(t *testing.T, args ...string) benchResult {
	t.Helper()
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), installed.caddy, append([]string{"llm-bench", "--json"}, args...)...)
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("caddy llm-bench: %v\n%s", err, stderr.Bytes())
	}
	var report struct{ Runs []benchResult }
	if err := json.Unmarshal(output, &report); err != nil || len(report.Runs) != 1 {
		t.Fatalf("%v: %s", err, output)
	}
	return report.Runs[0]
}

// guidellmMetrics are guidellm's figures of a run; durations are in milliseconds, except for the latency, which is in seconds.
type guidellmMetrics struct {
	RequestsPerSecond     guidellmFigure `json:"requests_per_second"`
	OutputTokensPerSecond guidellmFigure `json:"output_tokens_per_second"`
	OutputTokens          guidellmFigure `json:"output_token_count"`
	FirstToken            guidellmFigure `json:"time_to_first_token_ms"`
	InterToken            guidellmFigure `json:"inter_token_latency_ms"`
	Latency               guidellmFigure `json:"request_latency"`
}

type guidellmFigure struct {
	Successful struct {
		Mean  float64
		Count int
	}
}

func (f guidellmFigure) mean() float64 { return f.Successful.Mean }

// runGuidellm runs guidellm with prompts of its own. The first fifth of its requests does not count, like the warm-up of llm-bench. It needs a tokenizer, although the server counts the tokens.
func runGuidellm(t *testing.T, url, model, requests, concurrency string) guidellmMetrics {
	t.Helper()
	dir := t.TempDir()
	prompts, result := filepath.Join(dir, "prompts.jsonl"), filepath.Join(dir, "result.json")
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "{\"prompt\":\"Tell me about the number %d\"}\n", i)
	}
	if err := os.WriteFile(prompts, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := filepath.Abs("guidellm/tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), installed.guidellm, "benchmark", "run", "--target", url, "--model", model, "--processor", tokenizer,
		"--data", prompts, "--data-args", `{"prompt_column":"prompt"}`, "--rate-type", "concurrent", "--rate", concurrency, "--max-requests", requests, "--warmup-percent", "0.2",
		"--disable-progress", "--disable-console-outputs", "--output-path", result)
	command.Dir = dir
	command.Env = append(os.Environ(), "HOME="+dir, "HF_HUB_OFFLINE=1", "GUIDELLM__PREFERRED_ROUTE=chat_completions")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("guidellm: %v\n%s", err, output)
	}
	written, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Benchmarks []struct{ Metrics guidellmMetrics }
	}
	if err := json.Unmarshal(written, &report); err != nil || len(report.Benchmarks) != 1 {
		t.Fatalf("%v: %d benchmarks", err, len(report.Benchmarks))
	}
	return report.Benchmarks[0].Metrics
}
