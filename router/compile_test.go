package router

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// A testReplica is a Replica in a fixed state.
type testReplica struct {
	reason   Verdict // why it is not ready; OK if it is
	inFlight int
	prefixes prefix.Index
}

func (r *testReplica) Ready(string) bool     { return r.reason == OK }
func (r *testReplica) Reason(string) Verdict { return r.reason }
func (r *testReplica) Cached(model string, h *prefix.Head) (int, bool) {
	return r.prefixes.Match(model, h)
}
func (r *testReplica) WillCache(model string, h *prefix.Head) { r.prefixes.Add(model, h) }
func (r *testReplica) Load() int                              { return r.inFlight }

// replicas returns n replicas that are ready and idle.
func replicas(n int) (list []Replica) {
	for range n {
		list = append(list, &testReplica{})
	}
	return list
}

// upstreams returns upstreams of one replica each.
func upstreams(names ...string) (list []*Upstream) {
	for _, n := range names {
		list = append(list, &Upstream{Name: n, Replicas: replicas(1)})
	}
	return list
}

func one(targets ...string) PoolConfig { return PoolConfig{Targets: targets, Policy: First} }

// names lists the targets of a plan, pool by pool.
func names(p *Plan, requested string) [][]string {
	var pools [][]string
	for _, pool := range p.Pools {
		var list []string
		for _, c := range pool.candidates {
			list = append(list, c.Target.Upstream.Name+"/"+c.Target.ModelFor(requested))
		}
		pools = append(pools, list)
	}
	return pools
}

func TestCompile(t *testing.T) {
	t.Parallel()
	models := []Model{
		{Name: "local", Pools: []PoolConfig{one("gpu/llama3.1:8b", "big/meta-llama/Llama-3.1-8B"), one("openai/gpt-4o-mini")}},
		{Name: "alias", Pools: []PoolConfig{one("local"), one("claude/claude-sonnet")}},
		{Name: "claude", Pools: []PoolConfig{one("claude/claude-sonnet-4-5")}},
		{Name: "gpt-4*", Pools: []PoolConfig{one("openai")}},
		{Name: "gpt-*", Pools: []PoolConfig{one("openai/gpt-4o-mini")}},
		{Name: "openai/*", Pools: []PoolConfig{one("openai/*"), one("gpu/gpt-oss:*b")}},
		{Name: "big/qwen", Pools: []PoolConfig{one("big/qwen")}},
		{Name: "*-local", Pools: []PoolConfig{one("gpu/*")}},
		{Name: "small", Pools: []PoolConfig{one("qwen3-local")}},
	}
	table, err := Compile(upstreams("gpu", "big", "openai", "claude"), models)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ask, rule string
		want      [][]string
	}{
		{"local", "local", [][]string{{"gpu/llama3.1:8b", "big/meta-llama/Llama-3.1-8B"}, {"openai/gpt-4o-mini"}}},
		{"alias", "alias", [][]string{{"gpu/llama3.1:8b", "big/meta-llama/Llama-3.1-8B"}, {"openai/gpt-4o-mini"}, {"claude/claude-sonnet"}}},
		{"claude", "claude", [][]string{{"claude/claude-sonnet-4-5"}}},
		{"gpt-4o", "gpt-4*", [][]string{{"openai/gpt-4o"}}},
		{"gpt-3.5", "gpt-*", [][]string{{"openai/gpt-4o-mini"}}},
		{"openai/20", "openai/*", [][]string{{"openai/20"}, {"gpu/gpt-oss:20b"}}},
		{"openai/", "openai/*", [][]string{{"openai/"}, {"gpu/gpt-oss:b"}}},
		{"qwen3:4b-local", "*-local", [][]string{{"gpu/qwen3:4b"}}},
		{"small", "small", [][]string{{"gpu/qwen3"}}},
		{"big/qwen", "big/qwen", [][]string{{"big/qwen"}}},
	} {
		t.Run(test.ask, func(t *testing.T) {
			t.Parallel()
			plan, ok := table.Lookup(test.ask)
			if !ok {
				t.Fatal("no plan")
			}
			if plan.Rule != test.rule {
				t.Errorf("rule %q, want %q", plan.Rule, test.rule)
			}
			if diff := cmp.Diff(test.want, names(plan, test.ask)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, ok := table.Lookup("unknown"); ok {
		t.Error("a name that matches nothing has a plan")
	}
	if diff := cmp.Diff([]string{"local", "alias", "claude", "big/qwen", "small"}, table.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestCompileRejects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		models []Model
		want   string
	}{
		{"unknown upstream", []Model{{Name: "m", Pools: []PoolConfig{one("nowhere/x")}}}, `unknown upstream "nowhere"; the upstreams are gpu, openai`},
		{"no target", []Model{{Name: "m", Pools: nil}}, `model "m" has no target`},
		{"empty model after the slash", []Model{{Name: "m", Pools: []PoolConfig{one("gpu/")}}}, "missing model name after the slash"},
		{"reference to itself", []Model{{Name: "m", Pools: []PoolConfig{one("m")}}}, "m → m"},
		{"loop through fallbacks", []Model{
			{Name: "a", Pools: []PoolConfig{one("gpu/x"), one("b")}}, {Name: "b", Pools: []PoolConfig{one("gpu/y"), one("c")}}, {Name: "c", Pools: []PoolConfig{one("a")}},
		}, "a → b → c → a"},
		{"duplicate", []Model{{Name: "m", Pools: []PoolConfig{one("gpu/x")}}, {Name: "m", Pools: []PoolConfig{one("gpu/y")}}}, `duplicate model "m"`},
		{"pattern never reached", []Model{{Name: "gpt-*", Pools: []PoolConfig{one("openai")}}, {Name: "gpt-4*", Pools: []PoolConfig{one("openai")}}}, "never reached"},
		{"model and upstream with the same name", []Model{{Name: "gpu", Pools: []PoolConfig{one("gpu/x")}}, {Name: "m", Pools: []PoolConfig{one("gpu")}}}, "is both a model and an upstream"},
		{"model among other targets", []Model{{Name: "a", Pools: []PoolConfig{one("gpu/x")}}, {Name: "m", Pools: []PoolConfig{one("gpu/y", "a")}}}, "must be the only target"},
		{"* in a target of a name", []Model{{Name: "m", Pools: []PoolConfig{one("gpu/*")}}}, "this model is no pattern"},
		{"several * in a target", []Model{{Name: "m*", Pools: []PoolConfig{one("gpu/*-*")}}}, "only one * in both"},
		{"* for several in the pattern", []Model{{Name: "m*-*", Pools: []PoolConfig{one("gpu/*")}}}, "only one * in both"},
		{"reference to a pattern with * in its target", []Model{{Name: "m*", Pools: []PoolConfig{one("gpu/*")}}, {Name: "n", Pools: []PoolConfig{one("m*")}}}, "let it refer to a name that the pattern matches"},
		{"too few weights", []Model{{Name: "m", Pools: []PoolConfig{{Targets: []string{"gpu/x", "openai/y"}, Weights: []int{1}}}}}, "1 weights for 2 targets"},
		{"negative weight", []Model{{Name: "m", Pools: []PoolConfig{{Targets: []string{"gpu/x"}, Weights: []int{-1}}}}}, "below zero"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(upstreams("gpu", "openai"), test.models)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Compile = %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"gpt-*", "gpt-4o", true},
		{"gpt-*", "gpt-", true},
		{"gpt-*", "my-gpt-4", false},
		{"*", "meta-llama/Llama-3.1:8b", true},
		{"*/Llama-*", "meta-llama/Llama-3.1", true},
		{"*-mini", "gpt-4o-mini", true},
		{"*-mini", "gpt-4o-mini-high", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"a*a", "a", false},
		{"plain", "plain", true},
		{"plain", "plain2", false},
	} {
		if got := Match(test.pattern, test.name); got != test.want {
			t.Errorf("Match(%q, %q) = %v", test.pattern, test.name, got)
		}
	}
}

func TestRequestedAs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		target      Target
		model, want string
	}{
		{Target{}, "gpt-4o", "gpt-4o"},
		{Target{Model: "gpt-4o"}, "gpt-4o", ""},
		{Target{Model: "*", Pattern: "openai/*"}, "gpt-4o", "openai/gpt-4o"},
		{Target{Model: "org/*-it", Pattern: "my-*"}, "org/gemma-it", "my-gemma"},
		{Target{Model: "org/*-it", Pattern: "my-*"}, "other/gemma-it", ""},
	} {
		got, ok := test.target.RequestedAs(test.model)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%+v: %q is requested as %q, %v; want %q", test.target, test.model, got, ok, test.want)
		}
		if ok && test.target.ModelFor(got) != test.model {
			t.Errorf("%+v: %q leads to %q, want %q", test.target, got, test.target.ModelFor(got), test.model)
		}
	}
	if got := (Target{Model: "*", Pattern: "openai/*"}).ModelFor("x"); got != "x" {
		t.Errorf("a name that the pattern does not match becomes %q", got)
	}
}

// Targets visits a target once, however many replicas it has.
func TestTargets(t *testing.T) {
	t.Parallel()
	one, two := &Upstream{Name: "one", Replicas: make([]Replica, 1)}, &Upstream{Name: "two", Replicas: make([]Replica, 3)}
	pool, err := NewPool(LeastBusy, []Target{{Upstream: two, Model: "a"}, {Upstream: one, Model: "b"}, {Upstream: two, Model: "c"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	(&Plan{Pools: []*Pool{pool, pool}}).Targets(func(t Target) { got = append(got, t.Upstream.Name+"/"+t.Model) })
	if want := "two/a one/b two/c two/a one/b two/c"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}
