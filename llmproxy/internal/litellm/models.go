package litellm

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A modelBlock is a model of the Caddyfile: a name that clients use.
type modelBlock struct {
	name     string
	comments []string
	pools    []pool   // at least one, unless it is an alias
	alias    string   // another model, which this one names
	limits   []string // words of lines
}

// A pool is targets that are equals, or another model.
type pool struct {
	targets []string
	weights []int
	policy  string
	comment string
}

// newModels makes the names that clients use, patterns last and the narrower ones first, as LiteLLM tries them.
func (c *converter) newModels(all []*deployment, s *settings) (blocks []*modelBlock) {
	groups := map[string][]*deployment{}
	var names []string
	for _, d := range all {
		if groups[d.name] == nil {
			names = append(names, d.name)
		}
		groups[d.name] = append(groups[d.name], d)
	}
	m := &modelMaker{c: c, s: s, groups: groups, aliases: map[string]string{}}
	for _, a := range s.aliases {
		if a[0] != "" && groups[a[0]] == nil && !strings.ContainsAny(a[0], " \t\r\n{}`\"*") {
			m.aliases[a[0]] = a[1]
		}
	}
	for _, name := range names {
		blocks = append(blocks, m.block(name))
	}
	for _, a := range s.aliases {
		if b := m.aliasBlock(a[0], a[1]); b != nil && !slices.ContainsFunc(blocks, func(other *modelBlock) bool { return other.name == b.name }) {
			blocks = append(blocks, b)
		}
	}
	slices.SortStableFunc(blocks, func(a, b *modelBlock) int {
		return cmp.Or(cmp.Compare(strings.Count(a.name, "*"), strings.Count(b.name, "*")), narrower(a.name, b.name))
	})
	m.checkFallbacks()
	return blocks
}

// narrower compares patterns, so that one that matches less comes first. Names are equal.
func narrower(a, b string) int {
	if !router.IsPattern(a) || !router.IsPattern(b) {
		return 0
	}
	return cmp.Compare(len(b), len(a))
}

// A modelMaker makes the blocks of models.
type modelMaker struct {
	c       *converter
	s       *settings
	groups  map[string][]*deployment
	aliases map[string]string
}

func (m *modelMaker) block(name string) *modelBlock {
	group := m.groups[name]
	b := &modelBlock{name: name, pools: m.tiers(group)}
	for _, d := range group {
		if d.id != "" {
			b.comments = append(b.comments, fmt.Sprintf("%s: model_info.id %s", d.target(name), d.id))
		}
	}
	if m.s.enforced {
		b.limits = m.limits(group)
	} else if len(group) == 1 && (group[0].rpm != nil || group[0].tpm != nil) {
		b.comments = append(b.comments, "LiteLLM uses rpm and tpm only to choose among several deployments. `limit` would enforce them.")
	}
	b.pools = append(b.pools, m.fallbacks(name)...)
	return b
}

// aliasBlock returns the block of an alias, or nil if the alias leads nowhere.
func (m *modelMaker) aliasBlock(alias, name string) *modelBlock {
	if m.aliases[alias] == "" {
		m.c.noteAt(m.s.router.at, "model_group_alias", Ignored, fmt.Sprintf("the alias %q is the name of a model, or no valid name", plainName(alias)))
		return nil
	}
	if m.resolve(name) != "" {
		return &modelBlock{name: alias, alias: name}
	}
	if targets := m.targetsByPattern(name); targets != nil {
		return &modelBlock{name: alias, pools: []pool{{targets: targets}}}
	}
	m.c.noteAt(m.s.router.at, "model_group_alias", Ignored, fmt.Sprintf("the alias %q is left out: there is no model %q", plainName(alias), plainName(name)))
	return nil
}

// resolve follows aliases from a name to its group. It returns an empty string if the name leads to no group.
func (m *modelMaker) resolve(name string) string {
	for range len(m.aliases) + 1 {
		if m.groups[name] != nil {
			return name
		}
		if name = m.aliases[name]; name == "" {
			return ""
		}
	}
	return ""
}

// maxPool is how many targets fit into a pool.
const maxPool = 64

// tiers returns the pools of a group, by the order of its deployments.
func (m *modelMaker) tiers(group []*deployment) (pools []pool) {
	byOrder := slices.Clone(group)
	slices.SortStableFunc(byOrder, func(a, b *deployment) int { return cmp.Compare(a.tier(), b.tier()) })
	for len(byOrder) > 0 {
		n := 1
		for n < len(byOrder) && n < maxPool && byOrder[n].tier() == byOrder[0].tier() {
			n++
		}
		p := m.pool(byOrder[:n])
		if len(pools) > 0 {
			p = p.asFallback()
		}
		pools = append(pools, p)
		byOrder = byOrder[n:]
	}
	return pools
}

// tier returns the order of a deployment. One without an order comes last.
func (d *deployment) tier() int {
	if d.order == 0 {
		return math.MaxInt
	}
	return d.order
}

// target returns the target of a deployment under the name of a model. Equal names need no model.
func (d *deployment) target(name string) string {
	if d.model == name && router.IsPattern(name) {
		return d.upstream
	}
	return d.upstream + "/" + d.model
}

// pool returns the pool of deployments.
func (m *modelMaker) pool(group []*deployment) pool {
	if m.s.strategy == "cost-based-routing" {
		group = slices.Clone(group)
		slices.SortStableFunc(group, func(a, b *deployment) int { return cmp.Compare(a.cost(), b.cost()) })
	}
	var p pool
	weights := weightsOf(group)
	var floats []float64
	for i, d := range group {
		target := d.target(d.name)
		if at := slices.Index(p.targets, target); at >= 0 { // the same twice
			if weights != nil {
				floats[at] += weights[i]
			}
			continue
		}
		p.targets = append(p.targets, target)
		if weights != nil {
			floats = append(floats, weights[i])
		}
	}
	if len(p.targets) < 2 {
		return p
	}
	switch m.s.strategy {
	case "", "simple-shuffle":
		p.policy = "random"
		if p.weights = whole(floats); p.weights != nil {
			p.policy = ""
		}
	case "cost-based-routing":
		p.policy = "first"
	default:
		p.policy = "least_busy"
	}
	return p
}

// weightsOf returns the weights by which LiteLLM's shuffle picks: the first deployment decides whether these are weight, rpm or tpm. It returns
// nil if all deployments are equal.
func weightsOf(group []*deployment) []float64 {
	for _, of := range []func(*deployment) *float64{
		func(d *deployment) *float64 { return d.weight },
		func(d *deployment) *float64 { return d.rpm },
		func(d *deployment) *float64 { return d.tpm },
	} {
		if of(group[0]) == nil {
			continue
		}
		weights := make([]float64, len(group))
		for i, d := range group {
			if n := of(d); n != nil {
				weights[i] = *n
			}
		}
		return weights
	}
	return nil
}

// whole returns weights as whole numbers in the same proportion, or nil if they are equal.
func whole(weights []float64) []int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	if sum <= 0 || math.IsInf(sum, 0) || slices.Max(weights) == slices.Min(weights) {
		return nil
	}
	best := make([]int, len(weights))
	for scale := 1.0; scale <= 1e6; scale *= 10 {
		exact := true
		for i, w := range weights {
			n := w * scale
			if slices.Max(weights) > 1e6 { // tokens a minute
				n = w / slices.Max(weights) * 1000 * scale
			}
			best[i] = int(math.Round(min(n, math.MaxInt32)))
			exact = exact && math.Abs(n-math.Round(n)) < 1e-9*max(1, n)
		}
		if exact || slices.Max(best) >= 1_000_000 {
			break
		}
	}
	divisor := 0
	for _, n := range best {
		for a, b := divisor, n; ; a, b = b, a%b {
			if b == 0 {
				divisor = a
				break
			}
		}
	}
	for i := range best {
		best[i] /= max(divisor, 1)
	}
	return best
}

// limits returns the limits of a model whose deployments all have one.
func (m *modelMaker) limits(group []*deployment) (lines []string) {
	for _, l := range []struct {
		name string
		of   func(*deployment) *float64
	}{{"rate", func(d *deployment) *float64 { return d.rpm }}, {"tokens", func(d *deployment) *float64 { return d.tpm }}} {
		sum, complete := 0.0, true
		for _, d := range group {
			if n := l.of(d); n != nil {
				sum += *n
			} else {
				complete = false
			}
		}
		if complete && sum >= 1 && sum < math.MaxInt32 {
			lines = append(lines, fmt.Sprintf("%s %d/m", l.name, int(sum)))
		}
	}
	return lines
}

// fallbacks returns the pools after those of a model itself. Each group comes once, so that nothing leads back.
func (m *modelMaker) fallbacks(name string) (pools []pool) {
	visited := map[string]bool{name: true}
	for _, to := range m.s.fallbacksOf(name) {
		pools = append(pools, m.fallback(to, visited)...)
	}
	for _, to := range m.s.longContextOf(name) {
		more := m.fallback(to, visited)
		if len(more) > 0 {
			more[0].comment = "LiteLLM asks this model only if a prompt is too long. Here, it is also a fallback if the models above fail."
		}
		pools = append(pools, more...)
	}
	return pools
}

// fallback returns the pools of a fallback and, after them, of its own fallbacks: a reference to a model that has none, otherwise targets.
func (m *modelMaker) fallback(name string, visited map[string]bool) (pools []pool) {
	group := m.resolve(name)
	if group == "" {
		if targets := m.targetsByPattern(name); targets != nil && !visited[name] {
			visited[name] = true
			return []pool{{targets: targets}}
		}
		return nil // checkFallbacks reports it
	}
	if visited[group] || router.IsPattern(group) {
		return nil
	}
	visited[group] = true
	next := slices.Concat(m.s.fallbacksOf(group), m.s.longContextOf(group))
	if !slices.ContainsFunc(next, func(to string) bool { return m.resolve(to) != group }) {
		return []pool{{targets: []string{name}}}
	}
	for _, p := range m.tiers(m.groups[group]) {
		pools = append(pools, p.asFallback())
	}
	for _, to := range next {
		pools = append(pools, m.fallback(to, visited)...)
	}
	return pools
}

// asFallback returns the pool without weights and policy, which fallback pools do not have.
func (p pool) asFallback() pool {
	if p.weights != nil || p.policy == "first" {
		p.comment = "LiteLLM balances these by weight or cost; a fallback is balanced by the number of open requests."
	}
	p.weights, p.policy = nil, ""
	return p
}

// targetsByPattern returns the targets of a name that is not configured, but matched by a pattern.
func (m *modelMaker) targetsByPattern(name string) (targets []string) {
	var patterns []string
	for pattern := range m.groups {
		if router.IsPattern(pattern) && router.Match(pattern, name) {
			patterns = append(patterns, pattern)
		}
	}
	slices.SortFunc(patterns, func(a, b string) int { return cmp.Or(narrower(a, b), strings.Compare(a, b)) })
	if len(patterns) == 0 || router.IsPattern(name) || strings.ContainsAny(name, " \t\r\n{}`\"") {
		return nil
	}
	for _, d := range m.groups[patterns[0]] {
		model := d.model
		if router.IsPattern(model) {
			model = router.Target{Model: model, Pattern: d.name}.ModelFor(name)
		}
		if target := d.upstream + "/" + model; !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return targets
}

// checkFallbacks reports fallbacks of and to models that do not exist.
func (m *modelMaker) checkFallbacks() {
	report := func(key, name string) {
		from := m.s.either(m.c, key)
		if m.resolve(name) == "" && m.targetsByPattern(name) == nil && name != "*" {
			at := from.at
			if f := from.find(key); f != nil {
				at = f.at
			}
			m.c.noteAt(at, from.pathOf(key), Ignored, fmt.Sprintf("there is no model %q", plainName(name)))
		}
	}
	for key, all := range map[string][]fallback{"fallbacks": m.s.fallbacks, "context_window_fallbacks": m.s.longContext} {
		for _, f := range all {
			for _, name := range append(f.to[:len(f.to):len(f.to)], f.name) {
				report(key, name)
			}
		}
	}
	for _, name := range m.s.defaultFallbacks {
		report("default_fallbacks", name)
	}
}

// write writes the model.
func (b *modelBlock) write(to *draft.Block) {
	for _, text := range b.comments {
		to.Comment(text)
	}
	if b.alias != "" {
		to.Line("model", b.name, b.alias)
		return
	}
	first := b.pools[0]
	if len(b.pools) == 1 && first.policy == "" && first.weights == nil && first.comment == "" && len(b.limits) == 0 {
		to.Line(append([]string{"model", b.name}, first.targets...)...)
		return
	}
	block := to.Block("model", b.name)
	for i, p := range b.pools {
		if p.comment != "" {
			block.Comment(p.comment)
		}
		name := "fallback"
		if i == 0 {
			name = "to"
		}
		block.Line(append([]string{name}, p.targets...)...)
		if p.policy != "" {
			block.Line("lb_policy", p.policy)
		}
		if p.weights != nil {
			words := []string{"weight"}
			for _, n := range p.weights {
				words = append(words, fmt.Sprint(n))
			}
			block.Line(words...)
		}
	}
	if len(b.limits) > 0 {
		limit := block.Block("limit")
		for _, line := range b.limits {
			limit.Line(strings.Fields(line)...)
		}
	}
}
