package llmproxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig" // the global option
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// heard has the events that the listener got.
var heard = make(chan caddy.Event, 16)

// A listener is the handler of events of a test. TestMain registers it, since that is possible only once.
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

// An upstream that goes down and comes up again is told of by Caddy's events.
func TestEventsOfHealth(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	address := fake.URL()
	caddyfile, url := site(t, `	llm_proxy {
		upstream gpu vllm `+address+`
		upstream spare echo
		model m gpu/x {
			fallback spare/y
		}
	}`)
	caddyfile = strings.Replace(caddyfile, "\tadmin off\n", "\tadmin off\n\tevents {\n\t\ton unhealthy llm_test\n\t\ton healthy llm_test\n\t}\n", 1)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	type told struct {
		Name, Origin string
		Data         map[string]any
	}
	next := func() told {
		select {
		case e := <-heard:
			return told{e.Name(), string(e.Origin().CaddyModule().ID), e.Data}
		case <-time.After(time.Minute):
			t.Fatal("no event within a minute")
			return told{}
		}
	}
	want := func(name, state, verdict string) told {
		return told{name, "http.handlers.llm_proxy", map[string]any{"upstream": "gpu", "address": address + "/v1", "state": state, "verdict": verdict}}
	}
	fake.Down()
	if res := ask(t, url, true); res.Header.Get("X-LLM-Target") != "spare/y" {
		t.Errorf("%q answers", res.Header.Get("X-LLM-Target"))
	}
	if diff := cmp.Diff(want("unhealthy", "down", "unreachable"), next()); diff != "" {
		t.Error(diff)
	}
	fake.Up(t)
	if diff := cmp.Diff(want("healthy", "up", "ok"), next()); diff != "" {
		t.Error(diff)
	}
}
