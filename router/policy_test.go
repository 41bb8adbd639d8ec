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
		got = append(got, p.pick(p.all()))
	}
	got = append(got, p.pick(0b110), p.pick(0b101), p.pick(0b011)) // among two of them
	if diff := cmp.Diff([]int{0, 1, 2, 0, 1, 2, 1, 2, 0}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLeastBusy(t *testing.T) {
	t.Parallel()
	p := poolOf(t, LeastBusy, nil, "a", "b", "c", "d")
	for i, inFlight := range []int{1, 0, 2, 0} {
		p.candidates[i].replica().(*testReplica).inFlight = inFlight
	}
	picked := map[int]bool{}
	for range 200 {
		picked[p.pick(p.all())] = true
		if got := p.pick(0b0101); got != 0 {
			t.Fatalf("picked %d among 0 and 2, which is busier", got)
		}
	}
	if diff := cmp.Diff(map[int]bool{1: true, 3: true}, picked); diff != "" {
		t.Error(diff)
	}
}

func TestWeightsAreProportionsAndSharedByReplicas(t *testing.T) {
	t.Parallel()
	many := &Upstream{Name: "many", Replicas: replicas(4)}
	lone := &Upstream{Name: "lone", Replicas: replicas(1)}
	p, err := NewPool(Weighted, []Target{{Upstream: many}, {Upstream: lone}}, []int{1, 3})
	if err != nil {
		t.Fatal(err)
	}
	const draws = 20_000
	loneDrawn := 0
	for range draws {
		if p.pick(p.all()) == 4 {
			loneDrawn++
		}
	}
	// Six standard deviations around 3/4: a correct draw fails once in a billion runs.
	if share := float64(loneDrawn) / draws; share < 0.73 || share > 0.77 {
		t.Errorf("the target with weight 3 of 4 was drawn in %.3f of the cases", share)
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for _, p := range policies {
		if got, err := ParsePolicy(p); err != nil || string(got) != p {
			t.Errorf("ParsePolicy(%q) = %q, %v", p, got, err)
		}
	}
	if got, err := ParsePolicy(""); err != nil || got != LeastBusy {
		t.Errorf("the default is %q, %v", got, err)
	}
	if _, err := ParsePolicy("least_conn"); err == nil {
		t.Error("ParsePolicy accepted an unknown policy")
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
		step, _ := w.Next()
		w.Take(step, anyCandidate)
	}
}
