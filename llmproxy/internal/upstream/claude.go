package upstream

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// How Anthropic's API is told how much a model should think depends on the generation of the model: it refuses what the others take.

// A generation is how the models of Anthropic's API think.
type generation struct {
	from version // of Claude
	// never means that the model does not think.
	never bool
	// budget means that thinking has a number of tokens, and adaptive that the model decides, by the effort.
	budget, adaptive bool
}

// generations are those of Claude, the newest first.
var generations = []generation{
	{from: version{4, 7}, adaptive: true},
	{from: version{4, 6}, adaptive: true, budget: true},
	{from: version{3, 7}, budget: true},
	{never: true},
}

// otherModels is the generation of models that only share the API. They know both an effort and a budget, or ignore what they do not know.
var otherModels = generation{budget: true}

// claudeVersion finds the version in a name such as claude-sonnet-4-5-20250929, claude-3-7-sonnet or anthropic/claude-opus-4.6.
var claudeVersion = regexp.MustCompile(`claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?:\D|$)`)

func generationOf(model string) generation {
	m := claudeVersion.FindStringSubmatch(model)
	if m == nil {
		return otherModels
	}
	major, _ := strconv.Atoi(m[1]) // digits
	minor, _ := strconv.Atoi(m[2]) // or nothing
	v := version{major, minor}
	return generations[slices.IndexFunc(generations, func(g generation) bool { return !v.before(g.from) })]
}

// Budgets of thinking, in tokens.
var budgets = [...]int{low: 2 << 10, medium: 8 << 10, high: 16 << 10, xhigh: 32 << 10, highest: 32 << 10, thinks: 8 << 10}

// minBudget is the smallest one that the API takes.
const minBudget = 1024

// A claudeTelling is what the gateway knows before it tells Anthropic's API about a wish.
type claudeTelling struct {
	wished       effort
	takes        efforts // of the model
	noThinking   bool    // the model refused the thinking that the gateway added
	limited      bool    // the client, or the configuration, bounds the answer
	defaultLimit int     // of the others
}

// tell makes a request say what its client wishes in the way of the generation. It returns the effort, and whether it turned thinking on.
func (g generation) tell(e *jsonspan.Edit, about claudeTelling) (said effort, on bool) {
	said = about.takes.nearest(about.wished)
	e.Drop("thinking")
	dropInside(e, "output_config", "effort")
	switch {
	case g.never, said == minimal && !g.adaptive:
		return unsaid, false
	case said == none:
		e.Set("thinking", []byte(`{"type":"disabled"}`))
		return said, false
	case said == minimal:
		said = low
	}
	if (g.adaptive || g == otherModels) && said != unsaid && about.wished != thinks {
		setInside(e, "output_config", `"effort":"`+effortNames[said]+`"`)
	}
	if about.wished.off() || about.noThinking {
		return said, false
	}
	thinking := g.thinking(e, max(said, low), about)
	if thinking != "" {
		e.Set("thinking", []byte(thinking))
	}
	return said, thinking != ""
}

// thinking returns the member that turns thinking on, or "" if the rest of the request forbids that.
func (g generation) thinking(e *jsonspan.Edit, said effort, about claudeTelling) string {
	temperature, sampled := e.Get("temperature")
	choice, _ := e.Get("tool_choice")
	kind := member(choice, "type")
	switch {
	case sampled && string(temperature) != "1" && string(temperature) != "1.0", e.Has("top_k"), e.Has("top_p"):
		return ""
	case jsonspan.EqualString(kind, "any"), jsonspan.EqualString(kind, "tool"):
		return ""
	case g.adaptive:
		return `{"type":"adaptive"}`
	}
	messages, _ := e.Get("messages")
	if bytes.Contains(messages, []byte(`"tool_use"`)) && !bytes.Contains(messages, []byte(`thinking"`)) {
		return "" // with a budget, a call must come after the thinking that led to it
	}
	budget := budgets[said]
	if about.limited {
		budget = fitBudget(e, budget)
	} else {
		e.Set("max_tokens", strconv.AppendInt(nil, int64(about.defaultLimit+budget), 10))
	}
	return enabled(budget)
}

// fitBudget returns as much of a budget as the limit of the answer leaves.
func fitBudget(e *jsonspan.Edit, budget int) int {
	value, _ := e.Get("max_tokens")
	limit, _ := strconv.Atoi(string(value)) // the service reports what is not a number
	return min(budget, limit/2)
}

// enabled returns the member that turns thinking on with a budget, or "" if it is too small.
func enabled(budget int) string {
	if budget < minBudget {
		return ""
	}
	return `{"type":"enabled","budget_tokens":` + strconv.Itoa(budget) + `}`
}

// fit makes the thinking of a client of Anthropic's API one that the generation knows. The client cannot know which model a name of this
// gateway stands for. If it named the model itself, it gets the service's own answer.
func (g generation) fit(e *jsonspan.Edit, takes efforts) {
	if g == otherModels {
		return
	}
	thinking, _ := e.Get("thinking")
	output, _ := e.Get("output_config")
	kind, wished := member(thinking, "type"), effortNamed(member(output, "effort"))
	adaptive, budget := jsonspan.EqualString(kind, "adaptive"), jsonspan.EqualString(kind, "enabled")
	if !g.adaptive {
		dropInside(e, "output_config", "effort")
	}
	switch {
	case jsonspan.EqualString(kind, "disabled") && !takes.has(none):
		e.Drop("thinking")
	case g.adaptive && !g.budget && budget:
		e.Set("thinking", []byte(`{"type":"adaptive"}`))
	case !g.adaptive && adaptive || g.never && budget:
		if thinking := enabled(fitBudget(e, budgets[max(wished, medium)])); thinking != "" && !g.never {
			e.Set("thinking", []byte(thinking))
			return
		}
		e.Drop("thinking")
		if edits, _ := e.Get("context_management"); bytes.Contains(edits, []byte("clear_thinking")) { // it is refused without thinking
			e.Drop("context_management")
		}
	}
}
