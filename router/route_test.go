package router

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func local(is bool) func() bool { return func() bool { return is } }

func TestRoutes(t *testing.T) {
	t.Parallel()
	ups := upstreams("gpu", "openai")
	ups[0].Local = local(true)
	table, err := Compile(ups, []Model{
		{Name: "local", Pools: []PoolConfig{one("gpu/llama"), one("openai/mini")}},
		{Name: "gpt-*", Pools: []PoolConfig{one("openai")}},
		{Name: "kept", Pools: []PoolConfig{one("openai")}},
		{Name: "alias", Pools: []PoolConfig{one("kept")}},
		{Name: "secret", LocalOnly: true, Pools: []PoolConfig{one("gpu/llama"), one("openai/mini")}},
		{Name: "auto", Routes: []RouteConfig{
			{Name: "@private", Matcher: "@private", Targets: []string{"secret"}},
			{Name: "@hard", Matcher: "@hard", Targets: []string{"gpt-4o"}},
			{Name: "@new", Matcher: "@new", Targets: []string{"gpu/a", "gpu/b"}, Shadow: true},
			{Name: "@kept", Matcher: "@kept", Targets: []string{"kept"}},
			{Targets: []string{"local"}},
		}},
		{Name: "outer", Routes: []RouteConfig{{Name: "@x", Matcher: "@x", Targets: []string{"auto"}}}, Pools: []PoolConfig{one("gpu/llama")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	plan, _ := table.Lookup("auto")
	for i, want := range []struct {
		rule        string
		targets     [][]string
		stays, shad bool
	}{
		{"auto/@private", [][]string{{"gpu/llama"}, {"openai/mini"}}, true, false},
		{"auto/@hard", [][]string{{"openai/gpt-4o"}}, false, false},
		{"auto/@new", [][]string{{"gpu/a", "gpu/b"}}, true, true},
		{"auto/@kept", [][]string{{"openai/kept"}}, false, false},
		{"auto", [][]string{{"gpu/llama"}, {"openai/mini"}}, false, false},
	} {
		r := plan.Routes[i]
		if r.Rule != want.rule || r.Shadow != want.shad || r.Plan.StaysLocal() != want.stays || (r.Matcher == nil) != (i == 4) {
			t.Errorf("route %d is %+v, stays local: %v", i, r, r.Plan.StaysLocal())
		}
		if diff := cmp.Diff(want.targets, names(r.Plan, "auto")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Rule, diff)
		}
	}
	if len(plan.Pools) != 0 || plan.Default().Name != "gpu" || plan.StaysLocal() {
		t.Errorf("auto has %d pools, first %s, stays local: %v", len(plan.Pools), plan.Default().Name, plan.StaysLocal())
	}
	outer, _ := table.Lookup("outer")
	if len(outer.Pools) != 0 || len(outer.Routes) != 2 || len(outer.Routes[0].Plan.Routes) != 5 || outer.Routes[1].Matcher != nil {
		t.Errorf("outer is %+v", outer)
	}
	alias, _ := table.Lookup("alias")
	if diff := cmp.Diff([][]string{{"openai/kept"}}, names(alias, "alias")); diff != "" {
		t.Errorf("the targets of an alias (-want +got):\n%s", diff)
	}
}

func TestRoutesReject(t *testing.T) {
	t.Parallel()
	to := func(name string, targets ...string) RouteConfig {
		config := RouteConfig{Name: name, Targets: targets}
		if name != "" {
			config.Matcher = name
		}
		return config
	}
	pool := []PoolConfig{one("gpu/x")}
	for _, test := range []struct {
		name   string
		models []Model
		want   string
	}{
		{"no target for other requests", []Model{{Name: "m", Routes: []RouteConfig{to("@x", "gpu/x")}}}, "no target for a request that no route matches"},
		{"only a shadow", []Model{{Name: "m", Routes: []RouteConfig{{Name: "@x", Matcher: "@x", Targets: []string{"gpu/x"}, Shadow: true}}}}, "no target for a request"},
		{"a shadow that always matches", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{{Targets: []string{"gpu/x"}, Shadow: true}}}}, "cannot be a shadow"},
		{"after one that always matches", []Model{{Name: "m", Routes: []RouteConfig{to("", "gpu/x"), to("@x", "gpu/y")}}}, "are never reached"},
		{"to after one that always matches", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("", "gpu/x")}}}, "`to` is never reached"},
		{"duplicate route", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("@x", "gpu/x"), to("@x", "gpu/y")}}}, "duplicate route @x"},
		{"no target", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("@x")}}}, "route @x has no target"},
		{"unknown upstream", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("@x", "nowhere/x")}}}, `unknown upstream "nowhere"`},
		{"unknown name", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("@x", "nobody")}}}, `unknown upstream "nobody"`},
		{"route to itself", []Model{{Name: "m", Pools: pool, Routes: []RouteConfig{to("@x", "m")}}}, "m → m"},
		{"loop", []Model{
			{Name: "a", Pools: pool, Routes: []RouteConfig{to("@x", "b")}},
			{Name: "b", Pools: []PoolConfig{one("gpu/y")}, Routes: []RouteConfig{to("@y", "a")}},
		}, "a → b → a"},
		{"loop through a pattern", []Model{{Name: "gpt-*", Pools: []PoolConfig{one("gpt-4")}}}, "gpt-4 → gpt-4"},
		{"fallback to a model with routes", []Model{
			{Name: "a", Pools: []PoolConfig{one("gpu/x"), one("b")}},
			{Name: "b", Pools: pool, Routes: []RouteConfig{to("@y", "gpu/z")}},
		}, "only a route may lead there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(upstreams("gpu"), test.models)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Compile = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// A walk for a request that must stay local never yields a target that is not local.
func TestWalkStaysLocal(t *testing.T) {
	t.Parallel()
	ups := upstreams("near", "far", "unknown", "near2")
	ups[0].Local, ups[1].Local, ups[3].Local = local(true), local(false), local(true)
	for verdict := range ClientClosed {
		for _, policy := range policies {
			pool := func(names ...int) *Pool {
				var targets []Target
				for _, i := range names {
					targets = append(targets, Target{Upstream: ups[i]})
				}
				p, err := NewPool(Policy(policy), targets, nil)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			only := pool(0, 1)
			only.localOnly = true
			for name, w := range map[string]*Walk{
				"the request": {Plan: &Plan{Pools: []*Pool{pool(0, 1), pool(2), pool(1), pool(3)}}, LocalOnly: true},
				"a pool":      {Plan: &Plan{Pools: []*Pool{only}}},
				"none":        {Plan: &Plan{Pools: []*Pool{pool(1, 2)}}, LocalOnly: true},
			} {
				taken := 0
				for step, ok := w.Next(); ok; step, ok = w.Next() {
					c, ok := w.Take(step, anyCandidate)
					if !ok || c.Target.Upstream != ups[0] && c.Target.Upstream != ups[3] {
						t.Fatalf("%s, %s, %v: took %q", name, policy, verdict, c.Target.Upstream.Name)
					}
					w.Failed(Outcome{Verdict: verdict})
					taken++
				}
				if want := map[string]bool{"the request": true, "a pool": true}[name]; taken > 0 != want {
					t.Errorf("%s, %s, %v: %d attempts", name, policy, verdict, taken)
				}
			}
		}
	}
}

func TestWalkLeavesOutWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	ups := upstreams("small", "large", "other")
	var pools []*Pool
	for _, u := range ups {
		p, err := NewPool(First, []Target{{Upstream: u}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		pools = append(pools, p)
	}
	w := Walk{Plan: &Plan{Pools: pools}, Fits: func(t Target) bool { return t.Upstream.Name != "small" }}
	var got []string
	for step, ok := w.Next(); ok; step, ok = w.Next() {
		c, _ := w.Take(step, anyCandidate)
		got = append(got, c.Target.Upstream.Name)
		w.Failed(Outcome{Verdict: Misconfigured})
	}
	if diff := cmp.Diff([]string{"large", "other"}, got); diff != "" || !w.Last() {
		t.Errorf("Last = %v, tried (-want +got):\n%s", w.Last(), diff)
	}
}

func TestNeedsFitIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		needs Needs
		has   Capabilities
		want  bool
	}{
		{"unknown capabilities", Needs{Prompt: 1 << 30, Features: Tools | Images}, Capabilities{}, true},
		{"fits", Needs{Prompt: 1000}, Capabilities{ContextWindow: 2048}, true},
		{"does not fit if the estimate is 10 % too low", Needs{Prompt: 1400}, Capabilities{ContextWindow: 2048}, false},
		{"no space for the usual answer", Needs{Prompt: 1500}, Capabilities{ContextWindow: 2048}, false},
		{"space for a short answer", Needs{Prompt: 1800, Output: 10}, Capabilities{ContextWindow: 2048}, true},
		{"a long answer is shortened", Needs{Prompt: 1000, Output: 100_000}, Capabilities{ContextWindow: 2048}, true},
		{"a small window needs a quarter for the answer", Needs{Prompt: 300}, Capabilities{ContextWindow: 512}, true},
		{"lacks what is needed", Needs{Features: Tools | Images}, Capabilities{Lacks: Images}, false},
		{"lacks something else", Needs{Features: Tools}, Capabilities{Lacks: Images | Audio}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.needs.FitIn(test.has); got != test.want {
				t.Errorf("%+v fit in %+v = %v", test.needs, test.has, got)
			}
		})
	}
	for i, name := range FeatureNames {
		if a, ok := ParseFeature(name); !ok || a != 1<<i {
			t.Errorf("ParseFeature(%q) = %v, %v", name, a, ok)
		}
	}
	if _, ok := ParseFeature("sight"); ok {
		t.Error("ParseFeature accepted an unknown feature")
	}
}

// A model that must stay local is not ready if only a remote target is, even if a route leads there through another model.
func TestReadyStaysLocal(t *testing.T) {
	t.Parallel()
	ups := upstreams("gpu", "openai")
	ups[0].Local = local(true)
	ups[0].Replicas[0].(*testReplica).reason = Unreachable
	both := []PoolConfig{one("gpu/llama"), one("openai/mini")}
	table, err := Compile(ups, []Model{
		{Name: "anywhere", Pools: both},
		{Name: "secret", LocalOnly: true, Pools: both},
		{Name: "auto", LocalOnly: true, Routes: []RouteConfig{{Targets: []string{"anywhere"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"anywhere": true, "secret": false, "auto": false} {
		if plan, _ := table.Lookup(name); plan.Ready(name) != want {
			t.Errorf("%s: Ready() = %v", name, !want)
		}
	}
}

// A name is described by the first pool that its requests may reach.
func TestFirstPool(t *testing.T) {
	t.Parallel()
	ups := upstreams("gpu", "openai")
	ups[0].Local, ups[1].Local = local(true), local(false)
	ups[0].Replicas = append(ups[0].Replicas, ups[0].Replicas[0])
	table, err := Compile(ups, []Model{
		{Name: "far-first", Pools: []PoolConfig{one("openai/mini"), one("gpu/llama")}},
		{Name: "both", Pools: []PoolConfig{one("gpu/llama", "openai/mini")}},
		{Name: "near", LocalOnly: true, Pools: []PoolConfig{one("openai/mini"), one("gpu/llama")}},
		{Name: "far", Pools: []PoolConfig{one("openai/mini")}},
		{Name: "auto", Routes: []RouteConfig{{Matcher: "x", Targets: []string{"far"}}, {Targets: []string{"far-first"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		localOnly bool
		want      string
	}{
		{"far-first", false, "openai/mini"}, {"far-first", true, "gpu/llama"},
		{"both", false, "gpu/llama openai/mini"}, {"both", true, "gpu/llama"},
		{"near", false, "gpu/llama"}, {"far", true, ""},
		{"auto", false, "openai/mini"}, {"auto", true, "gpu/llama"},
	} {
		plan, _ := table.Lookup(tt.name)
		var got []string
		for _, target := range plan.FirstPool(tt.localOnly) {
			got = append(got, target.Upstream.Name+"/"+target.Model)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s, local only %v: %q, want %s", tt.name, tt.localOnly, got, tt.want)
		}
	}
}
