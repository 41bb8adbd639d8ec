//go:build prometheus

package llmproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

const monitoring = "../examples/monitoring/"

// A real Prometheus watches a real run of the example, in which everything happens that its dashboard and its alerts are
// about: none of their queries may be empty.
func TestMonitoringExample(t *testing.T) {
	ollama, openai := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	gateway, page := freeport.Address(t), freeport.Address(t)
	t.Setenv("OLLAMA_ADDRESS", ollama.URL())
	t.Setenv("OPENAI_ADDRESS", openai.URL())
	t.Setenv("SITE_ADDRESS", "http://"+gateway)
	_, port, _ := strings.Cut(page, ":")
	t.Setenv("METRICS_PORT", port)
	t.Setenv("OPENAI_API_KEY", "sk-test")
	caddyfile, err := os.ReadFile(monitoring + "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if err := load(t, strings.Replace(string(caddyfile), "{\n", "{\n\tadmin off\n\tpersist_config off\n", 1)); err != nil {
		t.Fatal(err)
	}
	lint(t, "http://"+page+"/metrics")
	server := startPrometheus(t, page)

	// A rate needs two readings between which something happened, and a series is first read after that.
	for round := range 3 {
		everything(t, round, "http://"+gateway, ollama, openai)
		server.awaitReading(t, round)
	}
	for _, q := range append(dashboardQueries(t), alertQueries(t)...) {
		t.Run(q.name, func(t *testing.T) {
			if mayBeZero.MatchString(q.expr) {
				q.expr = "(" + q.expr + ") + 1"
			}
			if problem := server.evaluate(q.expr); problem != "" {
				t.Errorf("%s: %s", problem, q.expr)
			}
		})
	}
}

// everything makes happen what the panels are about.
func everything(t *testing.T, round int, gateway string, ollama, openai *fakellm.Server) {
	t.Helper()
	ollama.Always(fakellm.Text("a", "b", "c").Interval(5*time.Millisecond).Usage(100, 30, 0))
	openai.Always(fakellm.Text("a", "b", "c").Interval(5*time.Millisecond).Usage(100, 30, 10))
	var text atomic.Int64
	tell := func(model string, stream bool, leaveAfter int) int { // always something else, so that the cache does not have it
		status, err := tryToPost(gateway, fmt.Sprintf(`{"model":%q,"stream":%v,"messages":[{"role":"user","content":"%d.%d"}]}`, model, stream, round, text.Add(1)), leaveAfter)
		if err != nil {
			t.Error(err)
		}
		return status
	}
	for _, model := range []string{"local", "private", "gpt-4o", "gpt-nobody-knows-its-price"} {
		tell(model, true, 0)
		tell(model, false, 0)
		say(t, gateway, model, true, 0) // is cached after the first round
	}
	ollama.Next(fakellm.InternalError())
	tell("local", true, 0) // falls back
	openai.Next(fakellm.Unauthorized())
	tell(fmt.Sprintf("gpt-forbidden-%d", round), true, 0) // another one each time: it is hidden afterwards
	openai.Next(fakellm.Text("four", "five").StallAfter(1))
	tell("gpt-4o", true, 1) // leaves
	fillQueue(t, ollama, func() int { return tell("private", true, 0) })
}

// fillQueue asks eight times at once where there are one slot and four places to wait.
func fillQueue(t *testing.T, ollama *fakellm.Server, ask func() int) {
	t.Helper()
	release, ended := make(chan struct{}), make(chan int)
	ollama.Always(fakellm.Text("slow").Hold(release))
	for range 8 {
		go func() { ended <- ask() }()
	}
	for i := range 8 {
		if i == 3 {
			close(release)
		}
		if status := <-ended; (status == http.StatusTooManyRequests) != (i < 3) {
			t.Errorf("the answer number %d has status %d", i+1, status)
		}
	}
}

// lint lets promtool judge names, types and help texts.
func lint(t *testing.T, page string) {
	t.Helper()
	res, err := http.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = res.Body
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "config", "prometheus.yml"}} {
		run := exec.Command("promtool", args...)
		run.Dir = monitoring
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// A prometheusServer is a running Prometheus.
type prometheusServer struct{ url string }

// startPrometheus runs the example's configuration, but reads our page, and often.
func startPrometheus(t *testing.T, page string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "alerts.yml"} {
		text, err := os.ReadFile(monitoring + name)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("caddy:9180"), []byte(page))
		text = bytes.ReplaceAll(text, []byte("_interval: 15s"), []byte("_interval: 250ms"))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := freeport.Address(t)
	var out bytes.Buffer
	run := exec.Command("prometheus", "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+address)
	run.Stdout, run.Stderr = &out, &out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait() // it was killed
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", out.String())
		}
	})
	return &prometheusServer{"http://" + address}
}

// awaitReading waits until Prometheus has read the page after now, twice.
func (p *prometheusServer) awaitReading(t *testing.T, round int) {
	t.Helper()
	from := float64(time.Now().UnixMilli())/1000 + 0.3
	each := time.NewTicker(100 * time.Millisecond)
	defer each.Stop()
	for range 300 {
		if p.evaluate(fmt.Sprintf(`timestamp(llm_requests_open) > %f`, from)) == "" {
			return
		}
		<-each.C
	}
	t.Fatalf("round %d was never read", round)
}

// evaluate runs a query, and gives what is wrong with its result: nothing may be empty or no number.
func (p *prometheusServer) evaluate(expr string) (problem string) {
	res, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err.Error()
	}
	switch {
	case answer.Error != "":
		return answer.Error
	case len(answer.Data.Result) == 0:
		return "nothing comes out"
	}
	for _, r := range answer.Data.Result {
		if r.Value[1] != "NaN" && r.Value[1] != "0" {
			return ""
		}
	}
	return "nothing but zero comes out"
}

type query struct{ name, expr string }

// Figures that are zero when nothing goes on, and all is well.
var mayBeZero = regexp.MustCompile(`^[a-z (,)]*llm_(requests_open|streams_open|upstream_requests_open|upstream_requests_waiting|upstream_state\{state=~"down\|open\|stuck"\})\)?$`)

var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$model", ".*")

func dashboardQueries(t *testing.T) (list []query) {
	t.Helper()
	text, err := os.ReadFile(monitoring + "grafana/dashboards/llm.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for i, target := range panel.Targets {
			list = append(list, query{fmt.Sprintf("panel %s %d", panel.Title, i+1), variables.Replace(target.Expr)})
		}
	}
	if len(list) < 20 {
		t.Fatalf("only %d queries were found", len(list))
	}
	return list
}

// An alert compares a figure with a number; the figure must be there.
var alertExpr = regexp.MustCompile(`(?s)^(.*) [<>] [0-9.]+$`)

func alertQueries(t *testing.T) (list []query) {
	t.Helper()
	text, err := os.ReadFile(monitoring + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		_, expr, _ := strings.Cut(rest, "expr: ")
		expr = strings.TrimPrefix(expr, ">-\n")
		for _, end := range []string{"\n        for:", "\n        labels:"} {
			expr, _, _ = strings.Cut(expr, end)
		}
		figure := alertExpr.FindStringSubmatch(strings.Join(strings.Fields(expr), " "))
		if figure == nil {
			t.Fatalf("alert %s compares no figure with a number: %s", name, expr)
		}
		list = append(list, query{"alert " + name, figure[1]})
	}
	if len(list) == 0 {
		t.Fatal("no alert was found")
	}
	return list
}
