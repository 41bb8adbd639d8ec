package caching

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseControl(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		lines []string
		ttl   string
		want  Control
	}{
		{"nothing", nil, "", Control{}},
		{"no-cache", []string{"No-Cache"}, "", Control{NoCache: true}},
		{"several in one line", []string{"no-store , only-if-cached"}, "", Control{NoStore: true, OnlyIfCached: true}},
		{"several lines", []string{"no-cache", "max-age=5"}, "", Control{NoCache: true, MaxAge: 5 * time.Second, HasMaxAge: true}},
		{"quoted", []string{`max-age="60"`}, "", Control{MaxAge: time.Minute, HasMaxAge: true}},
		{"invalid max-age is stale", []string{"max-age=soon"}, "", Control{HasMaxAge: true}},
		{"unknown directives", []string{"no-transform, max-stale, foo=bar"}, "", Control{}},
		{"TTL in seconds", nil, " 90 ", Control{TTL: 90 * time.Second, HasTTL: true}},
		{"TTL as a duration", nil, "10m", Control{TTL: 10 * time.Minute, HasTTL: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseControl(test.lines, test.ttl)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
	for _, ttl := range []string{"soon", "-1", "-5m", "1e3"} {
		if _, err := ParseControl(nil, ttl); err == nil {
			t.Errorf("the TTL %q is accepted", ttl)
		}
	}
}

func TestControlDecides(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		control         Control
		allows, accepts bool // any stored answer, and one that is a minute old
		storeFor        time.Duration
	}{
		{"nothing", Control{}, true, true, time.Hour},
		{"no-store", Control{NoStore: true}, false, false, 0},
		{"no-cache", Control{NoCache: true}, false, false, time.Hour},
		{"max-age, young enough", Control{HasMaxAge: true, MaxAge: time.Minute}, true, true, time.Hour},
		{"max-age, too old", Control{HasMaxAge: true, MaxAge: time.Second}, true, false, time.Hour},
		{"max-age=0", Control{HasMaxAge: true}, false, false, time.Hour},
		{"shorter TTL", Control{HasTTL: true, TTL: time.Second}, true, true, time.Second},
		{"longer TTL", Control{HasTTL: true, TTL: 2 * time.Hour}, true, true, 2 * time.Hour},
		{"TTL above the longest", Control{HasTTL: true, TTL: 9 * time.Hour}, true, true, 3 * time.Hour},
		{"TTL 0", Control{HasTTL: true}, true, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := test.control
			if got := c.AllowsStored(); got != test.allows {
				t.Errorf("AllowsStored: %v", got)
			}
			if got := c.AcceptsAge(time.Minute); got != test.accepts {
				t.Errorf("AcceptsAge: %v", got)
			}
			if got := c.StoreFor(time.Hour, 3*time.Hour); got != test.storeFor {
				t.Errorf("StoreFor: %s, want %s", got, test.storeFor)
			}
		})
	}
	if c := (Control{HasTTL: true, TTL: 2 * time.Hour}); c.StoreFor(time.Hour, 0) != time.Hour {
		t.Error("a client can ask for more than the usual duration though no longest one is configured")
	}
}
