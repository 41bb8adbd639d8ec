package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

func anyCandidate(Candidate) bool { return true }

// walk lists the steps of a walk whose attempts end with the given outcomes, in order; the last outcome is repeated.
func walk(outcomes []Outcome, pools ...*Pool) []string {
	w := Walk{Plan: &Plan{Pools: pools}}
	var got []string
	for {
		step, ok := w.Next()
		if !ok {
			return got
		}
		c, _ := w.Take(step, anyCandidate)
		at := fmt.Sprintf("%d:%s", step.Pool, c.Target.Upstream.Name)
		if step.Wait > 0 {
			at += " later"
		}
		if step.Loading {
			at += " when loaded"
		}
		got = append(got, at)
		w.Failed(outcomes[min(len(got), len(outcomes))-1])
	}
}

// A pool that was left only because another one was expected to be quicker is tried when the others have failed.
func TestDeferredPool(t *testing.T) {
	t.Parallel()
	spill := &admission.Spill{After: time.Second}
	a, b, c := poolOf(t, First, nil, "a"), poolOf(t, First, nil, "b"), poolOf(t, First, nil, "c")
	a.spill, b.spill, c.spill = spill, spill, spill
	w := Walk{Plan: &Plan{Pools: []*Pool{a, b, c}}}
	var got []string
	for {
		step, ok := w.Next()
		if !ok || step.Wait > 0 {
			break
		}
		next := "nowhere"
		if decides, candidates := w.Spill(step); decides == spill {
			next = candidates[0].Target.Upstream.Name
		}
		if step.Pool == 0 && !step.Final {
			w.Defer(step)
			got = append(got, "0 deferred to "+next)
			continue
		}
		w.Take(step, anyCandidate)
		got = append(got, fmt.Sprintf("%d, then %s, final %v, last %v", step.Pool, next, step.Final, w.Last()))
		w.Failed(Outcome{Verdict: Timeout})
	}
	want := []string{"0 deferred to b", "1, then nowhere, final false, last false", "2, then nowhere, final false, last false", "0, then nowhere, final true, last true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWalk(t *testing.T) {
	t.Parallel()
	on := func(verdicts ...Verdict) []Outcome {
		var list []Outcome
		for _, v := range verdicts {
			list = append(list, Outcome{Verdict: v})
		}
		return list
	}
	for _, test := range []struct {
		name     string
		pools    string // names, with "|" between pools
		outcomes []Outcome
		want     string
	}{
		{"each once in order, then retries", "a b | c", on(Failed), "0:a 0:b 1:c + three of them later"},
		{"only target three times", "a", on(Failed), "0:a, 0:a later, 0:a later"},
		{"no retry after a timeout", "a", on(Timeout), "0:a"},
		{"no retry if misconfigured", "a | b", on(Misconfigured), "0:a, 1:b"},
		{"no retry if unsupported", "a | b", on(Unsupported), "0:a, 1:b"},
		{"adjusted once, at once", "a | b", on(Adjustable, Adjustable, ClientError), "0:a, 0:a, 1:b"},
		{"two adjustments", "a | b", []Outcome{{Verdict: Adjustable, Adjust: "x"}, {Verdict: Adjustable, Adjust: "y"}, {Verdict: Adjustable, Adjust: "x"}, {Verdict: ClientError}}, "0:a, 0:a, 0:a, 1:b"},
		{"long Retry-After", "a", []Outcome{{Verdict: Overloaded, RetryAfter: 11 * time.Second}}, "0:a"},
		{"short Retry-After", "a", []Outcome{{Verdict: Overloaded, RetryAfter: 10 * time.Second}}, "0:a, 0:a later, 0:a later"},
		{"shortest Retry-After first", "a | b", []Outcome{{Verdict: Overloaded, RetryAfter: 9 * time.Second}, {Verdict: Overloaded, RetryAfter: time.Millisecond}, {Verdict: Timeout}}, "0:a, 1:b, 1:b later, 0:a later"},
		{"wait for a loading one", "a", []Outcome{{Verdict: Unreachable, Loading: true}, {Verdict: Timeout}}, "0:a, 0:a later when loaded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var pools []*Pool
			for names := range strings.SplitSeq(test.pools, "|") {
				pools = append(pools, poolOf(t, First, nil, strings.Fields(names)...))
			}
			got := walk(test.outcomes, pools...)
			if test.want == "0:a 0:b 1:c + three of them later" { // in the order of their waits, which are random
				test.want = "0:a, 0:b, 1:c"
				for _, again := range got[3:] {
					if !strings.HasSuffix(again, " later") {
						t.Errorf("%s is tried again at once", again)
					}
				}
				if len(got) != maxAttempts {
					t.Errorf("%d attempts, want %d", len(got), maxAttempts)
				}
				got = got[:3]
			}
			if diff := cmp.Diff(test.want, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The other replicas of a target that cannot take the request are not tried, and a target in two pools is not tried twice in a row.
func TestWalkDoesNotRepeat(t *testing.T) {
	t.Parallel()
	many := &Upstream{Name: "many", Replicas: replicas(3)}
	pool := func(us ...*Upstream) *Pool {
		var targets []Target
		for _, u := range us {
			targets = append(targets, Target{Upstream: u, Model: "m"})
		}
		p, err := NewPool(First, targets, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	other := upstreams("other")[0]
	if diff := cmp.Diff([]string{"0:many", "1:other"}, walk([]Outcome{{Verdict: Unsupported}}, pool(many), pool(many, other))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0:other", "1:many", "1:many", "1:many"}, walk([]Outcome{{Verdict: Timeout}}, pool(other), pool(other, many))); diff != "" {
		t.Error(diff)
	}
}

func TestEveryPolicyTriesEachOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			seen := map[string]int{}
			for _, at := range walk([]Outcome{{Verdict: Misconfigured}}, poolOf(t, Policy(policy), []int{3, 0, 1}, "a", "b", "c")) {
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
	if got := len(walk([]Outcome{{Verdict: Misconfigured}}, poolOf(t, First, nil, "a", "b", "c", "d", "e"), poolOf(t, First, nil, "f", "g", "h"))); got != maxAttempts {
		t.Errorf("%d attempts, want %d", got, maxAttempts)
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	w := Walk{Plan: &Plan{Pools: []*Pool{poolOf(t, First, nil, "a", "b"), poolOf(t, First, nil, "c")}}}
	for _, want := range []bool{false, false, true, true} {
		step, ok := w.Next()
		if !ok {
			t.Fatal("the walk ended early")
		}
		w.Take(step, anyCandidate)
		if w.Last() != want {
			t.Errorf("Last() = %v, want %v", !want, want)
		}
		w.Failed(Outcome{Verdict: Failed})
	}
}

// A replica that is not ready is the last resort: it is tried after everything else has failed, or at once if it is the only one.
func TestNotReadyIsTheLastResort(t *testing.T) {
	t.Parallel()
	down, up := poolOf(t, First, nil, "a"), poolOf(t, First, nil, "b")
	down.candidates[0].replica().(*testReplica).reason = Unreachable
	if diff := cmp.Diff([]string{"1:b", "0:a"}, walk([]Outcome{{Verdict: Timeout}}, down, up)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0:a"}, walk([]Outcome{{Verdict: Timeout}}, down)); diff != "" {
		t.Error(diff)
	}
	w := Walk{Plan: &Plan{Pools: []*Pool{down}}}
	step, _ := w.Next()
	if w.Take(step, anyCandidate); !step.Force || !w.Last() || w.Reason(0) != Unreachable {
		t.Errorf("forced: %v, last: %v, passed over as %s", step.Force, w.Last(), w.Reason(0))
	}
}

// With every policy, Take offers each candidate exactly once before a request is queued.
func TestTakeAsksEachOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range policies {
		pool := poolOf(t, Policy(policy), []int{1, 0, 2}, "a", "b", "c")
		w := Walk{Plan: &Plan{Pools: []*Pool{pool}}}
		step, _ := w.Next()
		asked := map[string]int{}
		_, ok := w.Take(step, func(c Candidate) bool { asked[c.Target.Upstream.Name]++; return false })
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1}, asked); diff != "" || ok || len(w.attempts) != 0 {
			t.Errorf("%s: Take = %v after %d attempts, offered (-want +got):\n%s", policy, ok, len(w.attempts), diff)
		}
		queued := w.Candidates(step)
		if w.Begin(step, queued[2]); len(queued) != 3 || w.attempts[0].at.Target.Upstream.Name != "c" {
			t.Errorf("%s: %d candidates, attempt at %v", policy, len(queued), w.attempts[0].at)
		}
	}
}

func TestBackoffDoublesAndJitters(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 3: time.Second, 7: 10 * time.Second, 20: 10 * time.Second} {
		low, high := time.Hour, time.Duration(0)
		for range 2000 {
			d := backoff(n)
			low, high = min(low, d), max(high, d)
		}
		if low < want*4/5 || high > want*6/5 || high-low < want/3 {
			t.Errorf("backoff(%d) is between %s and %s, want %s by a fifth more or less", n, low, high, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for v, want := range map[Verdict]string{
		OK: "", Unreachable: "next again", Overloaded: "next again", Unsupported: "next", Adjustable: "next", Misconfigured: "next",
		ClientError: "", Timeout: "next failure", Failed: "next again failure", ClientClosed: "",
	} {
		got := []string{}
		for word, is := range map[string]bool{"next": v.TryNext(), "again": v.retryable(), "failure": v.IsFailure()} {
			if is {
				got = append(got, word)
			}
		}
		if diff := cmp.Diff(sorted(strings.Fields(want)), sorted(got)); diff != "" {
			t.Errorf("%s: %s", v, diff)
		}
	}
}

func TestMoreInformative(t *testing.T) {
	t.Parallel()
	order := []Verdict{ClientError, Overloaded, Timeout, Failed, Unreachable, Unsupported, Adjustable, Misconfigured}
	for i, more := range order {
		for j, less := range order {
			if got := more.MoreInformative(less); got != (i < j) {
				t.Errorf("%s.MoreInformative(%s) = %v", more, less, got)
			}
		}
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// A candidate that has the model in memory comes before the pool's policy. If there is one, a candidate that would unload another model
// is tried only after it has failed, and no request waits for it.
func TestResidentFirst(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		prefer [3]Preference
		offers []string // in the order of the policy First
		queued int      // candidates to wait for
	}{
		{"all have it", [3]Preference{}, []string{"a", "b", "c"}, 3},
		{"the last has it", [3]Preference{Loadable, Loadable, Resident}, []string{"c", "a", "b"}, 3},
		{"one would unload another", [3]Preference{InUse, Loadable, Resident}, []string{"c", "b"}, 2},
		{"none has it", [3]Preference{InUse, Loadable, InUse}, []string{"a", "b", "c"}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := poolOf(t, First, nil, "a", "b", "c")
			w := Walk{Plan: &Plan{Pools: []*Pool{pool}}, Prefer: func(c Candidate, _ string) Preference { return test.prefer[c.index] }}
			step, _ := w.Next()
			var offers []string
			w.Take(step, func(c Candidate) bool { offers = append(offers, c.Target.Upstream.Name); return false })
			if diff := cmp.Diff(test.offers, offers); diff != "" {
				t.Errorf("offered (-want +got):\n%s", diff)
			}
			if n := len(w.Candidates(step)); n != test.queued {
				t.Errorf("waits for %d candidates, want %d", n, test.queued)
			}
			if test.queued < 3 {
				w.Skip(step)
				spared, _ := w.Next()
				if left := w.Candidates(spared); len(left) != 3-test.queued || test.prefer[left[0].index] != InUse {
					t.Errorf("after no slot was free in time, %d others are next", len(left))
				}
				if w.Skip(spared); len(w.Plan.Pools) != w.pool {
					t.Errorf("no pool is left, and the walk is in pool %d", w.pool)
				}
				w = Walk{Plan: w.Plan, Prefer: w.Prefer}
			}
			tried := 0
			for step, ok := w.Next(); ok && tried < 6; step, ok = w.Next() {
				w.Take(step, anyCandidate)
				w.Failed(Outcome{Verdict: Timeout})
				tried++
			}
			if tried != 3 {
				t.Errorf("%d of 3 were tried", tried)
			}
		})
	}
}
