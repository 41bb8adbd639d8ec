package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A target is a model at an upstream.
type target struct {
	at    *Upstream
	model string
}

func (t target) String() string { return t.at.Name + "/" + t.model }

// upstream returns the upstream that the router knows by its name.
func (s *Site) upstream(name string) *Upstream {
	i := slices.IndexFunc(s.Upstreams, func(u *Upstream) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	return s.Upstreams[i]
}

// target returns a target of a model, if its name is known: that of a pattern's target may be any.
func (s *Site) target(m *Model, t router.Target) (target, bool) {
	at := s.upstream(t.Upstream.Name)
	if at == nil || router.IsPattern(m.Name) && (t.Model == "" || t.Pattern != "") {
		return target{}, false
	}
	return target{at, t.ModelFor(m.Name)}, true
}

// targets returns all targets of a model whose names are known.
func (s *Site) targets(m *Model) (list []target) {
	m.Plan.Targets(func(t router.Target) {
		if known, ok := s.target(m, t); ok && !slices.Contains(list, known) {
			list = append(list, known)
		}
	})
	return list
}

// missing reports whether a replica does not have a model.
func missing(r *upstream.Inspection, model string) bool {
	if !r.Listed || len(r.Models) == 0 || r.KeyRefused || r.Loading {
		return false
	}
	_, found := r.Find(model)
	return !found && r.OneModel == ""
}

// checkModels looks for the models at their upstreams.
func (s *Site) checkModels() (list []Finding) {
	for i := range s.Models {
		m := &s.Models[i]
		for _, t := range s.targets(m) {
			for _, r := range t.at.Replicas {
				_, found := r.Find(t.model)
				switch {
				case missing(r, t.model):
					list = append(list, Finding{Error, "model-missing", part("model", m.Name), m.Line, fmt.Sprintf("The target %s leads nowhere: %s has no model of that name.%s", t, r.Address, similar(r, t.model)), t.at.obtain(t.model)})
				case r.OneModel != "" && !found && !r.KeyRefused:
					list = append(list, Finding{Note, "other-model", part("model", m.Name), m.Line, fmt.Sprintf("The target %s is answered by %s: %s has that model only, and answers to any name.", t, r.OneModel, r.Address),
						fmt.Sprintf("Write `%s/%s`, or start the server with `--alias %s`.", t.at.Name, r.OneModel, t.model)})
				}
			}
		}
	}
	return list
}

// similar names models that may have been meant.
func similar(r *upstream.Inspection, model string) string {
	base, _, _ := strings.Cut(strings.ToLower(model), ":")
	if at := strings.LastIndexByte(base, '/'); at >= 0 {
		base = base[at+1:]
	}
	var near []string
	for _, m := range r.Models {
		id := strings.ToLower(m.ID)
		if at := strings.LastIndexByte(id, '/'); at >= 0 {
			id = id[at+1:]
		}
		name, _, _ := strings.Cut(id, ":")
		if base != "" && (strings.Contains(id, base) || name != "" && strings.Contains(base, name)) && len(near) < 3 {
			near = append(near, m.ID)
		}
	}
	switch {
	case len(near) > 0:
		return " It has " + strings.Join(near, ", ") + "."
	case len(r.Models) <= 5:
		for _, m := range r.Models {
			near = append(near, m.ID)
		}
		return " It has " + strings.Join(near, ", ") + "."
	}
	return ""
}

const (
	// smallWindow is a context window that is too small for agents and for long conversations.
	smallWindow = 8192
	// usefulWindow is what is recommended instead, if the model was trained for so much.
	usefulWindow = 16384
	// ollamaWindow is what Ollama chooses on a small GPU.
	ollamaWindow = 4096
)

// checkContexts compares the context windows that are configured with those of the servers.
func (s *Site) checkContexts() (list []Finding) {
	for _, t := range s.allTargets() {
		configured := cmp.Or(t.at.ModelOverrides[t.model].ContextWindow, t.at.Override.ContextWindow)
		setting := t.at.ActualKind().ContextSetting
		for _, r := range t.at.Replicas {
			about, ok := r.Facts[t.model]
			if !ok || about.Embeds {
				continue
			}
			add := func(severity Severity, problem, fix string) {
				list = append(list, t.at.finding(severity, "context", r.Address, problem, fix))
			}
			possible := cmp.Or(about.Trained, usefulWindow)
			could := ""
			if about.Trained > 0 {
				could = fmt.Sprintf(" The model could take %d.", about.Trained)
			}
			larger := min(possible, usefulWindow)
			enlarge := fmt.Sprintf("Write `params num_ctx %d` in the block of the upstream, or start Ollama with %s.", larger, assign(setting, larger))
			switch {
			case configured > 0 && about.Window > 0 && configured > about.Window:
				add(Error, fmt.Sprintf("`context %d` of %s is larger than the server's window of %d tokens: longer prompts are sent there, and fail or are cut.", configured, t.model, about.Window), fmt.Sprintf("Remove `context`, or start the server with %s.", assign(cmp.Or(setting, "a context window of"), configured)))
			case t.at.ActualKind() != upstream.Ollama:
			case about.Unset && about.Window == 0 && possible > ollamaWindow:
				add(Note, fmt.Sprintf("Nothing sets the context window of %s, so that Ollama chooses it by the memory of the GPU: %d tokens below 24 GiB. It cuts longer prompts silently.%s", t.model, ollamaWindow, could), enlarge)
			case about.Window > 0 && about.Window < min(smallWindow, possible):
				add(Warning, fmt.Sprintf("The context window of %s has %d tokens. Ollama cuts longer prompts silently.%s", t.model, about.Window, could), enlarge)
			}
			if n := t.at.MaxConcurrent; n > 0 && r.CacheTokens > 0 && about.Window > 0 && int64(n)*int64(about.Window) > 2*int64(r.CacheTokens) {
				list = append(list, t.at.finding(Note, "cache-size", r.Address, fmt.Sprintf("The KV cache has %d tokens. Only %d requests can use the whole window of %d tokens at once, and max_concurrent is %d: long requests interrupt each other.", r.CacheTokens, max(r.CacheTokens/about.Window, 1), about.Window, n), fmt.Sprintf("If requests are long, lower `max_concurrent` and %s, or %s.", t.at.ActualKind().SlotsSetting, setting)))
			}
		}
	}
	return list
}

// allTargets returns the targets of all models, each once.
func (s *Site) allTargets() (list []target) {
	for i := range s.Models {
		for _, t := range s.targets(&s.Models[i]) {
			if !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return list
}

// window returns the context window of a target: the smallest of its replicas, or zero if it is unknown.
func (t target) window() (tokens int) {
	if n := cmp.Or(t.at.ModelOverrides[t.model].ContextWindow, t.at.Override.ContextWindow); n > 0 {
		return n
	}
	for _, r := range t.at.Replicas {
		if n := r.Facts[t.model].Window; n > 0 && (tokens == 0 || n < tokens) {
			tokens = n
		}
	}
	return tokens
}

// checkFallbacks looks for pools that cannot help.
func (s *Site) checkFallbacks() (list []Finding) {
	for i := range s.Models {
		m := &s.Models[i]
		for _, plan := range plans(m.Plan) {
			list = append(list, s.checkPools(m, plan)...)
		}
	}
	return list
}

// plans returns a plan, and those of its routes.
func plans(p *router.Plan) []*router.Plan {
	list := []*router.Plan{p}
	for _, r := range p.Routes {
		list = append(list, plans(r.Plan)...)
	}
	return list
}

// checkPools checks the pools of a plan, each against those before it.
func (s *Site) checkPools(m *Model, plan *router.Plan) (list []Finding) {
	add := func(severity Severity, check, problem, fix string) {
		list = append(list, Finding{severity, check, part("model", m.Name), m.Line, problem, fix})
	}
	localOnly := s.LocalOnly || plan.LocalOnly
	var before []target
	for n, pool := range plan.Pools {
		var here []target
		usable := false
		for _, t := range pool.Targets() {
			at := s.upstream(t.Upstream.Name)
			usable = usable || !localOnly || at != nil && at.IsLocal()
			if known, ok := s.target(m, t); ok {
				here = append(here, known)
			}
		}
		switch {
		case !usable:
			problem := "The target " + names(here) + " is never used: requests must stay local, and it is not local."
			if n == 0 && len(plan.Pools) == 1 {
				add(Error, "dead-fallback", problem, "Write a local target, or remove `local_only`.")
			} else {
				add(Warning, "dead-fallback", problem, "Remove it, or `local_only`.")
			}
		case n == 0 || len(here) == 0:
		case !slices.ContainsFunc(here, func(t target) bool { return !slices.Contains(before, t) }):
			add(Warning, "dead-fallback", "The fallback "+names(here)+" was tried before: it fails for the same reason again.", "Remove it, or write another target.")
		case !slices.ContainsFunc(here, func(t target) bool { return !sameServer(before, t) }):
			add(Note, "same-server", "The fallback "+names(here)+" is at the same server as the targets before it: if that is down, both are.", "Add a fallback at another server.")
		}
		if n > 0 {
			list = append(list, smallerWindow(m, before, here)...)
		}
		before = append(before, here...)
	}
	return list
}

func names(targets []target) string {
	var list []string
	for _, t := range targets {
		list = append(list, t.String())
	}
	return strings.Join(list, ", ")
}

// sameServer reports whether a target is at a single server of one's own that is an earlier target, too.
func sameServer(before []target, t target) bool {
	return len(t.at.Bases) == 1 && t.at.IsLocal() && slices.ContainsFunc(before, func(other target) bool {
		return len(other.at.Bases) == 1 && *other.at.Bases[0] == *t.at.Bases[0]
	})
}

// smallerWindow reports a fallback to targets with smaller context windows than those before them.
func smallerWindow(m *Model, before, here []target) []Finding {
	largest, fits := 0, 0
	for _, t := range before {
		largest = max(largest, t.window())
	}
	for _, t := range here {
		if t.window() == 0 {
			return nil
		}
		fits = max(fits, t.window())
	}
	if fits == 0 || fits >= largest {
		return nil
	}
	return []Finding{{Note, "fallback-context", part("model", m.Name), m.Line, fmt.Sprintf("The fallback %s has a context window of %d tokens, and the target before it one of %d: longer requests have no fallback.", names(here), fits, largest), "Add a fallback with a context window that is as large, if that matters."}}
}

// checkNames looks for names that hide models of the same name.
func (s *Site) checkNames() (list []Finding) {
	if !s.Discover {
		return nil
	}
	for i := range s.Models {
		m := &s.Models[i]
		for _, u := range s.Upstreams {
			for _, r := range u.Replicas {
				for _, has := range r.Models {
					if router.Match(m.Name, has.ID) && !s.leadsTo(m, u, has.ID) && (!router.IsPattern(m.Name) || s.byName(has.ID) == m) {
						list = append(list, Finding{Note, "hidden-model", part("model", m.Name), m.Line, fmt.Sprintf("It hides the model %s of upstream %q, which `discover` would serve under this name: clients get another one.", has.ID, u.Name), "Rename it if clients should reach both."})
					}
				}
			}
		}
	}
	return list
}

// byName returns the model that a name leads to, or nil.
func (s *Site) byName(name string) *Model {
	for i := range s.Models {
		if s.Models[i].Name == name {
			return &s.Models[i]
		}
	}
	for i := range s.Models {
		if router.Match(s.Models[i].Name, name) {
			return &s.Models[i]
		}
	}
	return nil
}

// leadsTo reports whether a model has the target of a name at an upstream.
func (s *Site) leadsTo(m *Model, u *Upstream, name string) (leads bool) {
	m.Plan.Targets(func(t router.Target) {
		leads = leads || t.Upstream.Name == u.Name && t.ModelFor(name) == name
	})
	return leads
}
