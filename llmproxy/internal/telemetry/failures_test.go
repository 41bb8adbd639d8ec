package telemetry

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, rec := newFailures(), &exchange.Record{Routing: exchange.Routing{Rule: "m"}}
		u := &router.Upstream{Name: "u"}
		attempt := func(v router.Verdict) exchange.Attempt {
			return exchange.Attempt{Address: "http://u", Configured: router.Target{Upstream: u, Model: "x"}, Verdict: v}
		}
		steps := []struct {
			wait    time.Duration
			verdict router.Verdict
			want    bool
		}{
			{0, router.OK, false},
			{0, router.Overloaded, false},
			{0, router.Failed, true},
			{time.Second, router.Timeout, false},
			{time.Second, router.OK, false}, // too soon
			{recoveryTime, router.OK, true},
			{0, router.OK, false},
			{0, router.Misconfigured, true},
			{0, router.Misconfigured, false},
			{0, router.Failed, true}, // another failure
			{recoveryTime, router.OK, true},
			{0, router.Misconfigured, true},
		}
		for i, s := range steps {
			time.Sleep(s.wait)
			got := false
			if a := attempt(s.verdict); s.verdict == router.OK {
				got = f.ends(rec, a)
			} else {
				got = f.begins(rec, a)
			}
			if got != s.want {
				t.Errorf("step %d, %s: %v", i, s.verdict, got)
			}
		}
	})
}

// A warning is for upstreams that fail, once each, and not for attempts that the gateway ended.
func TestWarningOfFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		attempts []exchange.Attempt
		warnings int
	}{
		{"a failure", []exchange.Attempt{{Verdict: router.Failed}}, 1},
		{"the same again", []exchange.Attempt{{Verdict: router.Failed}, {Verdict: router.Timeout}}, 1},
		{"shutting down", []exchange.Attempt{{Verdict: router.Failed, Blameless: true}}, 0},
		{"a failure after a shutdown was canceled", []exchange.Attempt{{Verdict: router.Failed, Blameless: true}, {Verdict: router.Failed}}, 1},
		{"overload", []exchange.Attempt{{Verdict: router.Overloaded}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			core, logs := logged.New(zap.WarnLevel)
			o := &Observer{logger: zap.New(core), failures: newFailures()}
			for _, a := range tt.attempts {
				o.AttemptFailed(new(exchange.Record), a)
			}
			if logs.Len() != tt.warnings {
				t.Errorf("%d warnings, want %d: %v", logs.Len(), tt.warnings, logs.All())
			}
		})
	}
}
