package router

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func poolOf(t *testing.T, policy Policy, weights []int, names ...string) *Pool {
	t.Helper()
	var targets []Target
	for _, u := range upstreams(names...) {
		targets = append(targets, Target{Upstream: u, Model: "m"})
	}
	p, err := NewPool(policy, targets, weights)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoundRobinTakesTurns(t *testing.T) {
	t.Parallel()
	p := poolOf(t, RoundRobin, nil, "a", "b", "c")
	var got []int
	for range 6 {
		got = append(got, p.pick(0))
	}
	if diff := cmp.Diff([]int{0, 1, 2, 0, 1, 2}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLeastBusyTakesTheIdlest(t *testing.T) {
	t.Parallel()
	p := poolOf(t, LeastBusy, nil, "a", "b", "c")
	p.candidates[0].Replica.take(0)
	p.candidates[1].Replica.take(0)
	for range 20 {
		if got := p.pick(0); got != 2 {
			t.Fatalf("picked %d, which is busy", got)
		}
	}
	p.candidates[2].Replica.take(0)
	p.candidates[2].Replica.take(0)
	p.candidates[1].Replica.End()
	if got := p.pick(0); got != 1 {
		t.Errorf("picked %d, want the one that became idle", got)
	}
}

func TestWeightsAreProportionsAndSharedByReplicas(t *testing.T) {
	t.Parallel()
	many := &Upstream{Name: "many", Replicas: []*Replica{{}, {}, {}, {}}}
	lone := &Upstream{Name: "lone", Replicas: []*Replica{{}}}
	p, err := NewPool(Weighted, []Target{{Upstream: many}, {Upstream: lone}}, []int{1, 3})
	if err != nil {
		t.Fatal(err)
	}
	const draws = 20_000
	loneDrawn := 0
	for range draws {
		if p.pick(0) == 4 {
			loneDrawn++
		}
	}
	// Six standard deviations around 3/4: a sound draw fails once in a billion runs.
	if share := float64(loneDrawn) / draws; share < 0.73 || share > 0.77 {
		t.Errorf("the target with weight 3 of 4 was drawn in %.3f of the cases", share)
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for _, p := range Policies {
		if got, err := ParsePolicy(string(p)); err != nil || got != p {
			t.Errorf("ParsePolicy(%q) = %q, %v", p, got, err)
		}
	}
	if got, err := ParsePolicy(""); err != nil || got != LeastBusy {
		t.Errorf("the default is %q, %v", got, err)
	}
	if _, err := ParsePolicy("least_conn"); err == nil {
		t.Error("an unknown policy passes")
	}
}

func BenchmarkWalk(b *testing.B) {
	var targets []Target
	for _, u := range upstreams("a", "b") {
		targets = append(targets, Target{Upstream: u})
	}
	pool, _ := NewPool(LeastBusy, targets, nil)
	plan := &Plan{Pools: []*Pool{pool}}
	b.ReportAllocs()
	for b.Loop() {
		w := Walk{Plan: plan}
		turn, _ := w.Next()
		c, _ := w.Take(turn)
		c.Replica.End()
	}
}
