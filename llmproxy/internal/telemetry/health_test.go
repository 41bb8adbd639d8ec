package telemetry

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// The first changes have a line each, and what follows too soon has one line that says how it ended.
func TestHealthLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		changes []time.Duration // when one replica changes: down, up, down, …
		want    []string
	}{
		{"a restart", []time.Duration{0, 5 * time.Second}, []string{"0s a false 1", "5s a true 1"}},
		{"two restarts", []time.Duration{0, time.Second, time.Minute, 61 * time.Second}, []string{"0s a false 1", "1s a true 1", "1m0s a false 1", "1m1s a true 1"}},
		{"up and down", []time.Duration{0, 1, 2, 3, time.Second, 2 * time.Second, 3 * time.Second}, []string{"0s a false 1", "1ns a true 1", "2ns a false 1", "3ns a true 1", "2m0s a false 3"}},
		{"again later", []time.Duration{0, 1, 2, 3, 4 * time.Minute, 4*time.Minute + 1}, []string{"0s a false 1", "1ns a true 1", "2ns a false 1", "3ns a true 1", "4m0s a false 1", "4m0.000000001s a true 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var got []string
				h := newHealthLog(func(c delivery.Change, changes int) {
					got = append(got, fmt.Sprint(time.Since(began), " ", c.Address, " ", c.Healthy, " ", changes))
				})
				for i, at := range tt.changes {
					time.Sleep(at - time.Since(began))
					h.note(delivery.Change{Address: "a", Change: replica.Change{Healthy: i%2 == 1}})
				}
				time.Sleep(time.Hour)
				h.close() // nothing writes any more
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestHealthLogOfTwoReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := map[string]int{}
		h := newHealthLog(func(c delivery.Change, _ int) { lines[c.Address]++ })
		for range 100 {
			h.note(delivery.Change{Address: "a"})
		}
		h.note(delivery.Change{Address: "b"})
		h.close()
		h.note(delivery.Change{Address: "b"})
		time.Sleep(time.Hour)
		if lines["a"] != healthLines || lines["b"] != 1 {
			t.Errorf("lines: %v", lines)
		}
	})
}
