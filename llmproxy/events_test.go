package llmproxy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// heard has the events that the listener received.
var heard = make(chan caddy.Event, 16)

// A listener handles events for tests. TestMain registers it, because a module can be registered only once.
type listener struct{}

func (listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.llm_test", New: func() caddy.Module { return new(listener) }}
}

func (*listener) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { d.Next(); return nil }

func (*listener) Handle(_ context.Context, e caddy.Event) error { heard <- e; return nil }

var (
	_ caddyevents.Handler   = (*listener)(nil)
	_ caddyfile.Unmarshaler = (*listener)(nil)
)

// withEvents adds a listener for some events to a Caddyfile.
func withEvents(caddyfile string, names ...string) string {
	events := "{\n\tevents {\n\t\ton " + strings.Join(names, " llm_test\n\t\ton ") + " llm_test\n\t}\n"
	return strings.Replace(caddyfile, "{\n", events, 1)
}

// An event is what tests compare of an event.
type event struct {
	Name, Origin string
	Data         map[string]any
}

func nextEvent(t *testing.T) event {
	t.Helper()
	select {
	case e := <-heard:
		return event{e.Name(), string(e.Origin().CaddyModule().ID), e.Data}
	case <-time.After(time.Minute):
		t.Fatal("no event within a minute")
		return event{}
	}
}

func TestHealthEvents(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	address := fake.URL()
	caddyfile, url := site(t, `	llm_proxy {
		upstream gpu vllm `+address+`
		upstream spare echo
		model m gpu/x {
			fallback spare/y
		}
	}`)
	if err := load(t, withEvents(caddyfile, "unhealthy", "healthy")); err != nil {
		t.Fatal(err)
	}
	want := func(name, state, verdict string) event {
		return event{name, "http.handlers.llm_proxy", map[string]any{"upstream": "gpu", "address": address + "/v1", "state": state, "verdict": verdict}}
	}
	fake.Down()
	if res := ask(t, url, "m", true); res.Header.Get("X-LLM-Target") != "spare/y" {
		t.Errorf("answered by %q", res.Header.Get("X-LLM-Target"))
	}
	if diff := cmp.Diff(want("unhealthy", "down", "unreachable"), nextEvent(t)); diff != "" {
		t.Error(diff)
	}
	fake.Up(t)
	if diff := cmp.Diff(want("healthy", "up", "ok"), nextEvent(t)); diff != "" {
		t.Error(diff)
	}
}

// When 80 and 100 percent of a budget have been used, there is one event and one line in the log each.
func TestBudgetAlerts(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	logFile := t.TempDir() + "/all.log"
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n\t\tprice u/x 10000 0\n\t\tlimit team {\n\t\t\tbudget $1/month\n\t\t}\n\t}") // $0.01 for each word
	caddyfile = strings.Replace(caddyfile, "{\n", "{\n\tlog {\n\t\toutput file "+logFile+"\n\t}\n", 1)
	if err := load(t, withEvents(caddyfile, "budget_warning", "budget_exceeded")); err != nil {
		t.Fatal(err)
	}
	for i, request := range []struct{ words, status int }{
		{30, 200}, {30, 200}, {21, 200}, {10, 200}, // nine cents are left
		{30, 429}, {30, 429}, {30, 429},
	} {
		res, _ := post(t, url, `{"max_tokens":1,`+question("m", strings.Repeat("a ", request.words))[1:])
		if res.StatusCode != request.status {
			t.Errorf("request %d: status %d, want %d", i, res.StatusCode, request.status)
		}
	}
	events := []event{nextEvent(t), nextEvent(t)}
	slices.SortFunc(events, func(a, b event) int { return strings.Compare(b.Name, a.Name) }) // goroutines emit them
	want := func(name string, percent int) event {
		return event{name, "http.handlers.llm_proxy", map[string]any{"budget": "site/team/budget/month", "limit": "$1/month", "percent": percent}}
	}
	if diff := cmp.Diff([]event{want("budget_warning", 80), want("budget_exceeded", 100)}, events); diff != "" {
		t.Error(diff)
	}
	stop(t)
	log := read(t, logFile)
	for _, line := range []string{"budget is nearly used up", "budget is used up"} {
		if n := strings.Count(log, line); n != 1 {
			t.Errorf("%q is in the log %d times", line, n)
		}
	}
	if len(heard) > 0 {
		t.Errorf("unexpected event %v", <-heard)
	}
}
