package thinking

import (
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// EffortMember is OpenAI's member for the effort, which most servers know, and TemplateMember the one with the arguments of a chat template.
const (
	EffortMember   = "reasoning_effort"
	TemplateMember = "chat_template_kwargs"
)

// wishMembers are the members that may have a wish.
var wishMembers = []string{EffortMember, "reasoning", "thinking", "think", "enable_thinking", TemplateMember}

// MayWish reports whether a request may have a wish. It is asked of every request.
func MayWish(o *jsonspan.Object) bool {
	for i := range o.Members {
		key := o.Members[i].Key.Of(o.Body)
		switch len(key) {
		case len("think"), len("thinking"), len("reasoning"), len("enable_thinking"), len(EffortMember), len(TemplateMember):
			if slices.Contains(wishMembers, string(key)) {
				return true
			}
		}
	}
	return false
}

// A Wish is what a request says about thinking.
type Wish struct {
	// Effort is Unsaid if the request leaves it to the model.
	Effort Effort
	// members are those of wishMembers that say it.
	members []string
}

// Said reports whether the request has a member about thinking, even if it leaves the effort to the model.
func (w Wish) Said() bool { return len(w.members) > 0 }

// WishIn reads the wish of a request in OpenAI's format, with members of any API.
func WishIn(e *jsonspan.Edit) (w Wish) {
	var budget, off, on bool
	var byBudget Effort
	for _, name := range wishMembers {
		value, ok := e.Get(name)
		if !ok || jsonspan.IsNull(value) {
			continue
		}
		said := true
		switch name {
		case EffortMember:
			if w.Effort = Named(value); w.Effort == Unsaid { // the server reports what it does not know
				continue
			}
			off = w.Effort == None
		case "reasoning": // OpenRouter
			level, enabled := Named(jsonspan.MemberOf(value, "effort")), string(jsonspan.MemberOf(value, "enabled"))
			off, on = off || enabled == "false" || level == None, on || enabled == "true"
			if byBudget, budget = effortOfBudget(jsonspan.MemberOf(value, "max_tokens")); w.Effort == Unsaid {
				w.Effort = level
			}
			said = level != Unsaid || enabled != "" || budget
		case "thinking": // Anthropic, DeepSeek
			kind, _ := jsonspan.String(jsonspan.MemberOf(value, "type"))
			off, on = off || kind == "disabled", on || kind == "enabled"
			byBudget, budget = effortOfBudget(jsonspan.MemberOf(value, "budget_tokens"))
		case "think": // Ollama
			off, on = off || string(value) == "false", on || string(value) == "true"
			if w.Effort == Unsaid {
				w.Effort = Named(value)
			}
		case "enable_thinking": // Alibaba
			off, on = off || string(value) == "false", on || string(value) == "true"
		case TemplateMember:
			said = false
			for _, name := range []string{"enable_thinking", "thinking"} {
				if v := jsonspan.MemberOf(value, name); v != nil {
					said, off, on = true, off || string(v) == "false", on || string(v) == "true"
				}
			}
			if level := Named(jsonspan.MemberOf(value, EffortMember)); level != Unsaid {
				if said = true; w.Effort == Unsaid {
					w.Effort = level
				}
			}
		}
		if said {
			w.members = append(w.members, name)
		}
	}
	switch {
	case off:
		w.Effort = None
	case w.Effort != Unsaid:
	case budget:
		w.Effort = byBudget
	case on:
		w.Effort = On
	}
	return w
}

// effortOfBudget returns the effort for a budget of tokens.
func effortOfBudget(tokens []byte) (Effort, bool) {
	budget, err := strconv.Atoi(string(tokens))
	switch {
	case err != nil:
		return Unsaid, false
	case budget <= 0:
		return None, true
	case budget < 4<<10:
		return Low, true
	case budget < 16<<10:
		return Medium, true
	}
	return High, true
}
