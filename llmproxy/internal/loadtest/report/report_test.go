package report

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// sample returns a result whose figures do not depend on the machine.
func sample(t *testing.T, slower time.Duration) *loadtest.Result {
	t.Helper()
	o := loadtest.Options{
		Target: loadtest.Target{URL: "http://localhost:8080/v1", Dialect: loadtest.OpenAI, Model: "local", Key: "sk-secret"},
		Stream: true, Concurrency: 10, Rate: 4, Requests: 300, Timeout: time.Minute,
	}
	start := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	var exchanges []loadtest.Exchange
	for i := range 300 {
		at := start.Add(time.Duration(i) * 250 * time.Millisecond)
		first := 180*time.Millisecond + slower + time.Duration(i*i%97)*2*time.Millisecond
		e := loadtest.Exchange{Start: at}
		for j := range 40 {
			e.Events = append(e.Events, at.Add(first+time.Duration(j)*(20*time.Millisecond+slower/10)+time.Duration((i+j)%7)*time.Millisecond))
		}
		e.End, e.InputTokens, e.OutputTokens = e.Events[39], 256, 41
		if i%50 == 49 {
			e.Failure = &loadtest.Failure{Class: loadtest.Refused, Status: 429, Reason: "rate_limit_exceeded", Message: "Rate limit reached; try again in 2 s"}
		}
		exchanges = append(exchanges, e)
	}
	return loadtest.Replay(o, start, exchanges)
}

func reportOf(t *testing.T, results ...*loadtest.Result) Report {
	t.Helper()
	r := Report{Results: results}
	for _, text := range []string{"ttft_p95=2s", "itl_p99=1ms"} {
		s, err := loadtest.ParseSLO(text)
		if err != nil {
			t.Fatal(err)
		}
		r.SLOs = append(r.SLOs, s.Evaluate(results[0]))
	}
	return r
}

func TestText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := reportOf(t, sample(t, 0), sample(t, 50*time.Millisecond)).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.String())
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := reportOf(t, sample(t, 0)).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.String())
}

// A run in which everything failed is reported as well.
func TestNothingSucceeded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(fakellm.New("openai"))
	server.Close()
	result, err := loadtest.Run(t.Context(), loadtest.Options{
		Target: loadtest.Target{URL: server.URL, Dialect: loadtest.OpenAI, Model: "m"}, Prompts: loadtest.MakeUp(1, 1), Stream: true, Concurrency: 1, Requests: 2, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(Report, *strings.Builder) error{
		"text": func(r Report, b *strings.Builder) error { return r.WriteText(b) },
		"json": func(r Report, b *strings.Builder) error { return r.WriteJSON(b) },
	} {
		var b strings.Builder
		if err := write(Report{Results: []*loadtest.Result{result, result}}, &b); err != nil || !strings.Contains(b.String(), "connection refused") || strings.Contains(b.String(), "NaN") {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0", time.Microsecond: "0.001 ms", 1234 * time.Microsecond: "1.23 ms", 99500 * time.Microsecond: "99.5 ms", 250 * time.Millisecond: "250 ms", 999900 * time.Microsecond: "1 s",
		1500 * time.Millisecond: "1.5 s", 12345 * time.Millisecond: "12.3 s", 86400 * time.Second: "86,400 s",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
