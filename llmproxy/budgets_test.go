package llmproxy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
)

// A budget that passes 80 and 100 percent is told of in one line of the log each, and by one event each.
func TestBudgetsAreTold(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	logFile := filepath.Join(t.TempDir(), "all.log")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n\t\tprice u/x 10000 0\n\t\tlimit team {\n\t\t\tbudget $1/month\n\t\t}\n\t}") // $0.01 for each word
	caddyfile = strings.Replace(caddyfile, "\tadmin off\n", "\tadmin off\n\tlog {\n\t\toutput file "+logFile+"\n\t}\n\tevents {\n\t\ton budget_warning llm_test\n\t\ton budget_exceeded llm_test\n\t}\n", 1)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	type told struct {
		Name string
		Data map[string]any
	}
	var events []told
	ask := func(words int) (status int) {
		t.Helper()
		status, err := tryToAsk(t, url, `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"`+strings.Repeat("a ", words)+`"}]}`, 0)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	for i, words := range []int{30, 30, 21, 10} {
		if got := ask(words); got != 200 {
			t.Errorf("request %d: status %d", i, got)
		}
	}
	for range 3 { // nine cents are left
		if got := ask(30); got != 429 {
			t.Errorf("more than is left: status %d", got)
		}
	}
	for range 2 {
		select {
		case e := <-heard:
			events = append(events, told{e.Name(), e.Data})
		case <-time.After(time.Minute):
			t.Fatalf("no other event came than %v", events)
		}
	}
	want := []told{
		{"budget_warning", map[string]any{"budget": "site/team/budget/month", "limit": "$1/month", "percent": 80}},
		{"budget_exceeded", map[string]any{"budget": "site/team/budget/month", "limit": "$1/month", "percent": 100}},
	}
	slices.SortFunc(events, func(a, b told) int { return strings.Compare(b.Name, a.Name) }) // each is emitted by a goroutine of its own
	if diff := cmp.Diff(want, events); diff != "" {
		t.Error(diff)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"budget is nearly used up", "budget is used up"} {
		if n := strings.Count(string(log), line); n != 1 {
			t.Errorf("%q stands %d times in the log", line, n)
		}
	}
	if len(heard) > 0 {
		t.Errorf("another event came: %v", <-heard)
	}
}
