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
		"html": func(r Report, b *strings.Builder) error { return r.WriteHTML(b) },
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

// The page needs nothing else, shows all figures, and escapes what servers and users made up.
func TestHTML(t *testing.T) {
	t.Parallel()
	one, two := sample(t, 0), sample(t, 50*time.Millisecond)
	one.Options.Target.Model = `<img src=x onerror="alert(1)">`
	one.Failures[0].Example.Message = "</table><script>alert(1)</script>"
	empty := loadtest.Replay(one.Options, one.Start, nil)
	for name, r := range map[string]Report{"one": reportOf(t, one), "two": reportOf(t, one, two), "empty": {Results: []*loadtest.Result{empty}}, "one empty": {Results: []*loadtest.Result{one, empty}}} {
		var b strings.Builder
		if err := r.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for _, bad := range []string{"<script", "<img", ` src="`, ` href="`, "url(", "@import", "NaN", "Inf", "ZgotmplZ", "sk-secret", "%!"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: the page contains %q", name, bad)
			}
		}
		for _, tag := range []string{"div", "section", "figure", "svg", "g", "table", "tr", "td", "th", "dl", "p", "h2", "h3", "text", "title", "main"} {
			if opened, closed := strings.Count(text, "<"+tag+">")+strings.Count(text, "<"+tag+" "), strings.Count(text, "</"+tag+">"); opened != closed {
				t.Errorf("%s: %d <%s> are opened and %d closed", name, opened, tag, closed)
			}
		}
		charts := map[string]int{"one": 6, "two": 12, "empty": 0, "one empty": 6}[name]
		if n := strings.Count(text, "<svg "); n != charts {
			t.Errorf("%s: %d charts, want %d", name, n, charts)
		}
		want := []string{"no coordinated omission", "Load test of http://localhost:8080/v1"}
		if name != "empty" {
			want = append(want, "159/s", "279 ms", "371 ms", "median; p95", "status 429 rate_limit_exceeded", "&lt;img src=x", "Histogram of time to first token: median 279 ms, 95th percentile 371 ms")
		}
		if name == "two" {
			want = append(want, "Comparison", "&#43;18.0%")
		}
		for _, words := range want {
			if !strings.Contains(text, words) {
				t.Errorf("%s: the page does not have %q", name, words)
			}
		}
	}
}

// Axes have round ticks that end at or above the highest value.
func TestAxes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		highest float64
		want    string
	}{
		{0, "0 "}, {1, "0 0.2 0.4 0.6 0.8 1 "}, {66, "0 20 40 60 80 "}, {5000, "0 1,000 2,000 3,000 4,000 5,000 "}, {3e-3, "0 0.001 0.002 0.003 "}, {13, "0 5 10 15 "},
	} {
		got := ""
		s, list := yAxis(test.highest)
		for _, tick := range list {
			got += tick.Text + " "
		}
		if test.highest > 0 && got != test.want || s.high < test.highest {
			t.Errorf("%v: got %q up to %v, want %q", test.highest, got, s.high, test.want)
		}
	}
}
