package router

import (
	"fmt"
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

// walk lists what a walk gives, in order.
func walk(pools ...*Pool) []string {
	w := Walk{Plan: &Plan{Pools: pools}}
	var got []string
	for {
		c, pool, ok := w.Next()
		if !ok {
			return got
		}
		got = append(got, fmt.Sprintf("%d:%s", pool, c.Target.Upstream.Name))
	}
}

func TestWalkTriesEachOnceInOrder(t *testing.T) {
	t.Parallel()
	got := walk(poolOf(t, First, nil, "a", "b"), poolOf(t, First, nil, "c"))
	if diff := cmp.Diff([]string{"0:a", "0:b", "1:c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryPolicyTriesEachOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range Policies {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			seen := map[string]int{}
			for _, at := range walk(poolOf(t, policy, []int{3, 0, 1}, "a", "b", "c")) {
				seen[at]++
			}
			if diff := cmp.Diff(map[string]int{"0:a": 1, "0:b": 1, "0:c": 1}, seen); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWalkIsBounded(t *testing.T) {
	t.Parallel()
	if got := len(walk(poolOf(t, First, nil, "a", "b", "c", "d", "e"), poolOf(t, First, nil, "f", "g", "h"))); got != MaxAttempts {
		t.Errorf("%d attempts, want %d", got, MaxAttempts)
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	w := Walk{Plan: &Plan{Pools: []*Pool{poolOf(t, First, nil, "a", "b"), poolOf(t, First, nil, "c")}}}
	for _, want := range []bool{false, false, true} {
		if _, _, ok := w.Next(); !ok {
			t.Fatal("the walk ended early")
		}
		if w.Last() != want {
			t.Errorf("Last() = %v, want %v", !want, want)
		}
	}
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
	p.candidates[0].Replica.Begin()
	p.candidates[1].Replica.Begin()
	for range 20 {
		if got := p.pick(0); got != 2 {
			t.Fatalf("picked %d, which is busy", got)
		}
	}
	p.candidates[2].Replica.Begin()
	p.candidates[2].Replica.Begin()
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

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for v, next := range map[Verdict]bool{OK: false, NotUp: true, Busy: true, FitsElsewhere: true, Config: true, Caller: false, Slow: true, Broken: true, Gone: false} {
		if v.TryNext() != next {
			t.Errorf("%s: TryNext() = %v", v, !next)
		}
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
		w.Next()
	}
}
