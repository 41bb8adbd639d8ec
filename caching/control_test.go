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
		{"unreadable age is stale", []string{"max-age=soon"}, "", Control{HasMaxAge: true}},
		{"unknown", []string{"no-transform, max-stale, foo=bar"}, "", Control{}},
		{"seconds", nil, " 90 ", Control{TTL: 90 * time.Second, HasTTL: true}},
		{"duration", nil, "10m", Control{TTL: 10 * time.Minute, HasTTL: true}},
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
			t.Errorf("%q was taken", ttl)
		}
	}
}

func TestControlDecides(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		control      Control
		looks, takes bool // an answer of a minute
		keep         time.Duration
	}{
		{"nothing", Control{}, true, true, time.Hour},
		{"no-store", Control{NoStore: true}, false, false, 0},
		{"no-cache", Control{NoCache: true}, false, false, time.Hour},
		{"young enough", Control{HasMaxAge: true, MaxAge: time.Minute}, true, true, time.Hour},
		{"too old", Control{HasMaxAge: true, MaxAge: time.Second}, true, false, time.Hour},
		{"never old", Control{HasMaxAge: true}, false, false, time.Hour},
		{"shorter", Control{HasTTL: true, TTL: time.Second}, true, true, time.Second},
		{"longer", Control{HasTTL: true, TTL: 2 * time.Hour}, true, true, 2 * time.Hour},
		{"too long", Control{HasTTL: true, TTL: 9 * time.Hour}, true, true, 3 * time.Hour},
		{"not at all", Control{HasTTL: true}, true, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if c := test.control; c.Looks() != test.looks || c.Takes(time.Minute) != test.takes || c.Keep(time.Hour, 3*time.Hour) != test.keep {
				t.Errorf("looks %v, takes %v, keeps %v", c.Looks(), c.Takes(time.Minute), c.Keep(time.Hour, 3*time.Hour))
			}
		})
	}
	if c := (Control{HasTTL: true, TTL: 2 * time.Hour}); c.Keep(time.Hour, 0) != time.Hour {
		t.Error("without a longest time the usual one is")
	}
}
