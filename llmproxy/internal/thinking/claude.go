package thinking

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A Generation is how some models of Anthropic's API think. Each generation refuses what the others take.
type Generation struct {
	from version // of Claude; zero for other models and the oldest
	// never means that the model does not think.
	never bool
	// budget means that thinking has a number of tokens, and adaptive that the model decides, by the effort.
	budget, adaptive bool
}

// A version is the major and minor version of a model.
type version [2]int

// generations are those of Claude, the newest first.
var generations = []Generation{
	{from: version{4, 7}, adaptive: true},
	{from: version{4, 6}, adaptive: true, budget: true},
	{from: version{3, 7}, budget: true},
	{never: true},
}

// otherModels is the generation of models that only share the API. They know both an effort and a budget, or ignore what they do not know.
var otherModels = Generation{budget: true}

// claudeVersion finds the version in a name such as claude-sonnet-4-5-20250929, claude-3-7-sonnet or anthropic/claude-opus-4.6.
var claudeVersion = regexp.MustCompile(`claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?:\D|$)`)

// GenerationOf returns the generation of a model by its name.
func GenerationOf(model string) Generation {
	m := claudeVersion.FindStringSubmatch(model)
	if m == nil {
		return otherModels
	}
	major, _ := strconv.Atoi(m[1]) // digits
	minor, _ := strconv.Atoi(m[2]) // or nothing
	v := version{major, minor}
	return generations[slices.IndexFunc(generations, func(g Generation) bool { return slices.Compare(v[:], g.from[:]) >= 0 })]
}

// Budgets of thinking, in tokens.
var budgets = [...]int{Low: 2 << 10, Medium: 8 << 10, High: 16 << 10, XHigh: 32 << 10, Max: 32 << 10, On: 8 << 10}

// minBudget is the smallest one that the API takes.
const minBudget = 1024

// AboutClaude is what is known before Anthropic's API is told about a wish.
type AboutClaude struct {
	Wished Effort
	// Takes are the efforts that the model takes.
	Takes Efforts
	// NoThinking means that the model refused the thinking that the gateway added.
	NoThinking bool
	// Limited means that the client or the configuration bounds the answer, and DefaultLimit is the bound in tokens of one that they do not.
	Limited      bool
	DefaultLimit int
}

// Tell makes a request say what its client wishes in the way of the generation. It returns the effort, and whether it turned thinking on.
func (g Generation) Tell(e *jsonspan.Edit, about AboutClaude) (said Effort, on bool) {
	said = about.Takes.Nearest(about.Wished)
	e.Drop("thinking")
	dropInside(e, "output_config", "effort")
	switch {
	case g.never, said == Minimal && !g.adaptive:
		return Unsaid, false
	case said == None:
		e.Set("thinking", []byte(`{"type":"disabled"}`))
		return said, false
	case said == Minimal:
		said = Low
	}
	if (g.adaptive || g == otherModels) && said != Unsaid && about.Wished != On {
		setInside(e, "output_config", `"effort":"`+said.String()+`"`)
	}
	if about.Wished.off() || about.NoThinking {
		return said, false
	}
	thinking := g.thinking(e, max(said, Low), about)
	if thinking != "" {
		e.Set("thinking", []byte(thinking))
	}
	return said, thinking != ""
}

// thinking returns the member that turns thinking on, or "" if the rest of the request forbids that.
func (g Generation) thinking(e *jsonspan.Edit, said Effort, about AboutClaude) string {
	temperature, sampled := e.Get("temperature")
	choice, _ := e.Get("tool_choice")
	kind := jsonspan.MemberOf(choice, "type")
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
	if about.Limited {
		budget = fitBudget(e, budget)
	} else {
		e.Set("max_tokens", strconv.AppendInt(nil, int64(about.DefaultLimit+budget), 10))
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

// Fit makes the thinking of a client of Anthropic's API one that the generation knows. The client cannot know which model a name of this
// gateway stands for. If it named the model itself, it gets the service's own answer.
func (g Generation) Fit(e *jsonspan.Edit, takes Efforts) {
	if g == otherModels {
		return
	}
	thinking, _ := e.Get("thinking")
	output, _ := e.Get("output_config")
	kind, wished := jsonspan.MemberOf(thinking, "type"), Named(jsonspan.MemberOf(output, "effort"))
	adaptive, budget := jsonspan.EqualString(kind, "adaptive"), jsonspan.EqualString(kind, "enabled")
	if !g.adaptive {
		dropInside(e, "output_config", "effort")
	}
	switch {
	case jsonspan.EqualString(kind, "disabled") && !takes.Has(None):
		e.Drop("thinking")
	case g.adaptive && !g.budget && budget:
		e.Set("thinking", []byte(`{"type":"adaptive"}`))
	case !g.adaptive && adaptive || g.never && budget:
		if thinking := enabled(fitBudget(e, budgets[max(wished, Medium)])); thinking != "" && !g.never {
			e.Set("thinking", []byte(thinking))
			return
		}
		e.Drop("thinking")
		if edits, _ := e.Get("context_management"); bytes.Contains(edits, []byte("clear_thinking")) { // it is refused without thinking
			e.Drop("context_management")
		}
	}
}
