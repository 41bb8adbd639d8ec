package router

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
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

// The policy prefix continues a conversation where its beginning is cached, as long as that replica is not too busy.
func TestPrefix(t *testing.T) {
	t.Parallel()
	const system, block = 4096, 512
	prompt := func(conversation byte, n int) []byte {
		return append(bytes.Repeat([]byte("s"), system), bytes.Repeat([]byte{conversation}, n)...)
	}
	a, b, unknown := prompt('a', 10*block), prompt('b', 10*block), bytes.Repeat([]byte("u"), system)
	for _, test := range []struct {
		name     string
		prompt   []byte
		session  string
		inFlight [3]int
		ready    candidates
		want     []int // any of these
	}{
		{"where the conversation is", prompt('a', 20*block), "", [3]int{}, 0b111, []int{0}},
		{"where another conversation is", b, "", [3]int{}, 0b111, []int{1}},
		{"there, although others are idle", a, "", [3]int{1, 0, 0}, 0b111, []int{0}},
		{"the second best, because the best is too busy", a, "", [3]int{3, 0, 0}, 0b111, []int{1}},
		{"an idle one, because both are too busy", a, "", [3]int{10, 10, 0}, 0b111, []int{2}},
		{"there, because all are busy", a, "", [3]int{5, 5, 4}, 0b111, []int{0}},
		{"the second best, because the best is not ready", a, "", [3]int{}, 0b110, []int{1}},
		{"a new conversation where the instructions are", prompt('n', 5*block), "", [3]int{1, 0, 0}, 0b111, []int{1}},
		{"a shortened conversation, by its session", prompt('n', 5*block), "A", [3]int{}, 0b111, []int{0}},
		{"another prompt of a session", unknown, "B", [3]int{}, 0b111, []int{1}},
		{"the longer beginning rather than the session", b, "A", [3]int{}, 0b111, []int{1}},
		{"an unknown prompt at the least busy one", unknown, "", [3]int{1, 1, 0}, 0b111, []int{2}},
		{"a short prompt", []byte("Hi"), "", [3]int{0, 1, 0}, 0b111, []int{0, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := poolOf(t, Prefix, nil, "x", "y", "z")
			p.candidates[0].replica().WillCache("m", prefix.NewHead("A", a))
			p.candidates[1].replica().WillCache("m", prefix.NewHead("B", b))
			for i, n := range test.inFlight {
				p.candidates[i].replica().(*testReplica).inFlight = n
			}
			for i := range p.candidates {
				if test.ready&(1<<i) == 0 {
					p.candidates[i].replica().(*testReplica).reason = Unreachable
				}
			}
			w := Walk{Plan: &Plan{Pools: []*Pool{p}}, Head: func() *prefix.Head { return prefix.NewHead(test.session, test.prompt) }}
			step, _ := w.Next()
			got, _ := w.Take(step, func(Candidate) bool { return true })
			if !slices.Contains(test.want, got.index) {
				t.Errorf("picked %d, want one of %d", got.index, test.want)
			}
		})
	}
}

// A conversation stays where its first request went, under every name of the model, until that replica takes no more requests.
func TestConversationStaysAtReplica(t *testing.T) {
	t.Parallel()
	u := upstreams("x")[0]
	u.Replicas = replicas(4)
	table, err := Compile([]*Upstream{u}, []Model{
		{Name: "one", Pools: []PoolConfig{{Targets: []string{"x/m"}, Policy: Prefix}}},
		{Name: "two", Pools: []PoolConfig{{Targets: []string{"x/m"}, Policy: Prefix}}},
		{Name: "m", Pools: []PoolConfig{{Targets: []string{"x"}, Policy: Prefix}}},
		{Name: "other", Pools: []PoolConfig{{Targets: []string{"x/other"}, Policy: Prefix}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(model string, turns int, full int) int {
		plan, _ := table.Lookup(model)
		w := Walk{Plan: plan, Model: model, Head: func() *prefix.Head { return prefix.NewHead("", bytes.Repeat([]byte("turn"), 200*turns)) }}
		step, _ := w.Next()
		got, _ := w.Take(step, func(c Candidate) bool { return c.Replica != full })
		return got.Replica
	}
	first := ask("one", 1, -1)
	for turns := 2; turns < 20; turns++ {
		for _, model := range []string{"one", "two", "m"} {
			if got := ask(model, turns, -1); got != first {
				t.Fatalf("turn %d of %s went to replica %d, the first to %d", turns, model, got, first)
			}
		}
	}
	moved := ask("one", 20, first)
	if moved == first {
		t.Fatal("a replica without a free slot got a request")
	}
	if got := ask("two", 21, -1); got != moved {
		t.Errorf("after it has moved to %d, the conversation goes to %d", moved, got)
	}
	elsewhere := false
	for range 100 {
		elsewhere = elsewhere || ask("other", 1, -1) != first
		for _, r := range u.Replicas {
			r.(*testReplica).prefixes.Clear()
		}
	}
	if !elsewhere {
		t.Error("another model's requests all go where this one's prompt is cached")
	}
}

// Only the policy prefix asks for the head of a prompt, and only if it has a choice.
func TestHeadIsNeededOnlyByPrefix(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		policy Policy
		names  []string
		want   bool
	}{{LeastBusy, []string{"a", "b"}, false}, {Prefix, []string{"a"}, false}, {Prefix, []string{"a", "b"}, true}} {
		p := poolOf(t, test.policy, nil, test.names...)
		asked := false
		w := Walk{Plan: &Plan{Pools: []*Pool{p}}, Head: func() *prefix.Head { asked = true; return new(prefix.Head) }}
		step, _ := w.Next()
		w.Take(step, func(Candidate) bool { return true })
		if asked != test.want || w.Plan.NeedsHead() != test.want {
			t.Errorf("%s among %d: asked %v, NeedsHead %v", test.policy, len(test.names), asked, w.Plan.NeedsHead())
		}
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

func BenchmarkTake(b *testing.B) {
	u := &Upstream{Name: "u", Replicas: replicas(4)}
	long := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for _, bm := range []struct {
		name   string
		policy Policy
		prompt []byte
	}{{"least busy", LeastBusy, long}, {"prefix 2 KiB", Prefix, long[:2<<10]}, {"prefix 1 MiB", Prefix, long}} {
		b.Run(bm.name, func(b *testing.B) {
			p, err := NewPool(bm.policy, []Target{{Upstream: u, Model: "m"}}, nil)
			if err != nil {
				b.Fatal(err)
			}
			plan := &Plan{Pools: []*Pool{p}}
			b.ReportAllocs()
			for b.Loop() {
				w := Walk{Plan: plan, Head: func() *prefix.Head { return prefix.NewHead("", bm.prompt) }}
				step, _ := w.Next()
				w.Take(step, func(Candidate) bool { return true })
			}
		})
	}
}
