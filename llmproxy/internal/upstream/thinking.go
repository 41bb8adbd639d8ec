package upstream

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A client may wish that the model thinks much, little or not at all. Each API has members of its own for that, and so has each kind of
// server. The wish is one; a knob, a row on the kind, says how its servers are told. What nobody wished for is not changed, and a server
// that refuses a wish is asked for the nearest one that it takes, because the answer matters more.

// An effort is how much a model should think.
type effort uint8

const (
	unsaid effort = iota
	none
	minimal
	low
	medium
	high
	xhigh
	highest
	thinks // as much as the model likes
)

// effortNames are the names of efforts at OpenAI and, for the last one, at Groq.
var effortNames = [...]string{none: "none", minimal: "minimal", low: "low", medium: "medium", high: "high", xhigh: "xhigh", highest: "max", thinks: "default"}

// effortNamed returns the effort that a JSON string names at OpenAI, or unsaid.
func effortNamed(value []byte) effort {
	name, _ := jsonspan.String(value)
	return effort(max(slices.Index(effortNames[:thinks], name), 0))
}

func (e effort) off() bool { return e == none || e == minimal }

// Efforts are a set of efforts. The zero value means that nothing is known of what a model takes.
type efforts uint16

// known marks a set that is known, and may be empty.
const known efforts = 1

func effortsOf(list ...effort) efforts {
	set := known
	for _, e := range list {
		set |= 1 << e
	}
	return set
}

func (s efforts) has(e effort) bool { return s == 0 || s>>e&1 == 1 }

// nearest returns the effort of the set that comes closest to a wish, or unsaid if none does. Who wishes that the model thinks never gets
// one that does not, and who wishes that it does not gets as little as possible.
func (s efforts) nearest(wish effort) effort {
	switch {
	case wish == thinks && s&effortsOf(thinks) == effortsOf(thinks):
		return thinks
	case wish == thinks:
		wish = medium
	}
	if s.has(wish) {
		return wish
	}
	if wish.off() {
		for e := none; e <= highest; e++ {
			if s.has(e) {
				return e
			}
		}
		return unsaid
	}
	for e := wish - 1; e >= low; e-- {
		if s.has(e) {
			return e
		}
	}
	for e := wish + 1; e <= thinks; e++ {
		if s.has(e) {
			return e
		}
	}
	return unsaid
}

// modelEfforts are what models take, whichever server runs them. What is not here is learned from errors.
var modelEfforts = []struct {
	part  string // of the name
	takes efforts
}{
	{"gpt-oss", effortsOf(low, medium, high)}, // always thinks
	{"gemini-2.5-pro", effortsOf(minimal, low, medium, high)},
	{"gemini-3", effortsOf(minimal, low, medium, high)},
	{"claude-fable", effortsOf(low, medium, high, xhigh, highest)}, // always think
	{"claude-mythos", effortsOf(low, medium, high, xhigh, highest)},
}

// A knob is how the servers of a kind are told how much their models should think.
type knob struct {
	// places are the members that name the effort. With a dot, it is a member of an object.
	places []place
	// takes are the efforts that the servers know; zero for all.
	takes efforts
	// toggle turns thinking on and off, beside the effort.
	toggle *toggle
	// also are more members that say it. A client that sends one of them, or the toggle, speaks the server's own language, and is not
	// corrected.
	also []string
}

// A place is a member that names the effort.
type place struct {
	path string
	// values are the JSON values that differ from the names in effortNames. An empty one leaves the member out.
	values map[effort]string
}

// value returns the JSON value of an effort, or "" if it is left out.
func (p *place) value(e effort) string {
	if v, ok := p.values[e]; ok {
		return v
	}
	return `"` + effortNames[e] + `"`
}

// A toggle is an object that turns thinking on or off.
type toggle struct{ member, on, off string }

const effortMember = "reasoning_effort"

// openAIKnob is the knob of OpenAI's API. Every service that imitates it may have members of its own, so they all pass.
var openAIKnob = &knob{places: []place{{path: effortMember}}, also: wishMembers[1:]}

// The knobs of the others.
var (
	// A template knows enable_thinking (Qwen, GLM, Gemma), thinking (DeepSeek, Granite, Kimi), reasoning_effort (gpt-oss), or none of
	// them; it ignores what it does not know. vLLM before 0.17 turns thinking off only by this.
	vllmKnob = &knob{places: []place{{path: effortMember, values: map[effort]string{thinks: ""}}}, toggle: &toggle{templateMember, `"enable_thinking":true,"thinking":true`, `"enable_thinking":false,"thinking":false`}}
	// llama.cpp takes an effort out of the template's arguments if reasoning_effort is none, so that gpt-oss would think more. Older
	// versions know the template's arguments only.
	llamaCppKnob = &knob{
		places: []place{{path: effortMember, values: map[effort]string{none: "", thinks: ""}}, {path: templateMember + "." + effortMember, values: map[effort]string{none: `"low"`, thinks: ""}}},
		toggle: vllmKnob.toggle,
	}
	effortKnob     = &knob{places: openAIKnob.places} // of services that know nothing else
	ollamaKnob     = &knob{places: []place{{path: "think", values: map[effort]string{none: "false", minimal: "false", thinks: "true"}}}, takes: effortsOf(none, minimal, low, medium, high, thinks)}
	geminiKnob     = &knob{places: openAIKnob.places, takes: effortsOf(none, minimal, low, medium, high), also: []string{"extra_body"}}
	openRouterKnob = &knob{places: []place{{path: "reasoning.effort"}}, also: []string{effortMember, "include_reasoning"}}
	groqKnob       = &knob{places: openAIKnob.places, takes: effortsOf(none, low, medium, high, thinks), also: []string{"reasoning_format", "include_reasoning"}}
	mistralKnob    = &knob{places: openAIKnob.places, takes: effortsOf(none, high), also: []string{"prompt_mode"}}
	deepSeekKnob   = &knob{
		places: []place{{path: effortMember, values: map[effort]string{none: "", thinks: ""}}}, takes: effortsOf(none, low, medium, high, xhigh, highest, thinks),
		toggle: &toggle{"thinking", `"type":"enabled"`, `"type":"disabled"`},
	}
	togetherKnob = &knob{
		places: []place{{path: effortMember, values: map[effort]string{none: "", thinks: ""}}}, takes: effortsOf(none, low, medium, high, thinks),
		toggle: &toggle{"reasoning", `"enabled":true`, `"enabled":false`}, also: []string{templateMember},
	}
	fireworksKnob = &knob{places: openAIKnob.places, takes: effortsOf(none, low, medium, high), also: []string{"thinking"}}
	cerebrasKnob  = &knob{places: openAIKnob.places, takes: effortsOf(none, low, medium, high), also: []string{"disable_reasoning"}}
)

const templateMember = "chat_template_kwargs"

// wishMembers are the members that may have a wish.
var wishMembers = []string{effortMember, "reasoning", "thinking", "think", "enable_thinking", templateMember}

// mayWish reports whether a request may have a wish. It is asked of every request.
func mayWish(o *jsonspan.Object) bool {
	for i := range o.Members {
		key := o.Members[i].Key.Of(o.Body)
		switch len(key) {
		case len("think"), len("thinking"), len("reasoning"), len("enable_thinking"), len(effortMember), len(templateMember):
			if slices.Contains(wishMembers, string(key)) {
				return true
			}
		}
	}
	return false
}

// A wish is what a request says about thinking.
type wish struct {
	effort effort
	// members are those of wishMembers that say it.
	members []string
}

// wishIn reads the wish of a request in OpenAI's format, with members of any API.
func wishIn(e *jsonspan.Edit) (w wish) {
	var budget, off, on bool
	var byBudget effort
	for _, name := range wishMembers {
		value, ok := e.Get(name)
		if !ok || jsonspan.IsNull(value) {
			continue
		}
		said := true
		switch name {
		case effortMember:
			if w.effort = effortNamed(value); w.effort == unsaid { // the server reports what it does not know
				continue
			}
			off = w.effort == none
		case "reasoning": // OpenRouter
			level, enabled := effortNamed(member(value, "effort")), string(member(value, "enabled"))
			off, on = off || enabled == "false" || level == none, on || enabled == "true"
			if byBudget, budget = effortOfBudget(member(value, "max_tokens")); w.effort == unsaid {
				w.effort = level
			}
			said = level != unsaid || enabled != "" || budget
		case "thinking": // Anthropic, DeepSeek
			kind, _ := jsonspan.String(member(value, "type"))
			off, on = off || kind == "disabled", on || kind == "enabled"
			byBudget, budget = effortOfBudget(member(value, "budget_tokens"))
		case "think": // Ollama
			off, on = off || string(value) == "false", on || string(value) == "true"
			if w.effort == unsaid {
				w.effort = effortNamed(value)
			}
		case "enable_thinking": // Alibaba
			off, on = off || string(value) == "false", on || string(value) == "true"
		case templateMember:
			said = false
			for _, name := range []string{"enable_thinking", "thinking"} {
				if v := member(value, name); v != nil {
					said, off, on = true, off || string(v) == "false", on || string(v) == "true"
				}
			}
			if level := effortNamed(member(value, effortMember)); level != unsaid {
				if said = true; w.effort == unsaid {
					w.effort = level
				}
			}
		}
		if said {
			w.members = append(w.members, name)
		}
	}
	switch {
	case off:
		w.effort = none
	case w.effort != unsaid:
	case budget:
		w.effort = byBudget
	case on:
		w.effort = thinks
	}
	return w
}

// effortOfBudget returns the effort for a budget of tokens.
func effortOfBudget(tokens []byte) (effort, bool) {
	budget, err := strconv.Atoi(string(tokens))
	switch {
	case err != nil:
		return unsaid, false
	case budget <= 0:
		return none, true
	case budget < 4<<10:
		return low, true
	case budget < 16<<10:
		return medium, true
	}
	return high, true
}

// knows reports whether a member belongs to the server's own language.
func (k *knob) knows(name string) bool {
	return k.toggle != nil && k.toggle.member == name || slices.Contains(k.also, name) ||
		slices.ContainsFunc(k.places, func(p place) bool { root, _, _ := strings.Cut(p.path, "."); return root == name })
}

// isOwn reports whether a client that says it by this member speaks the server's own language. OpenAI's name is everybody's.
func (k *knob) isOwn(name string) bool {
	return k.knows(name) && (name != effortMember || slices.Contains(k.also, name))
}

// A telling is what the gateway knows before it tells a server about a wish.
type telling struct {
	takes      efforts // of the model
	fixed      bool    // takes are those of modelEfforts: the model always thinks, if none is not among them
	noToggle   bool    // the model was asked with the toggle, and refused it
	translated bool    // the request was in the format of another API than OpenAI's
}

// tell makes a request say what it wishes in the server's way. It returns the effort that the request has now, and whether it has the
// toggle because of that.
func (k *knob) tell(e *jsonspan.Edit, about telling) (said effort, toggled bool) {
	w := wishIn(e)
	own := slices.ContainsFunc(w.members, k.isOwn)
	if len(w.members) == 0 || !about.translated && (own || w.effort == unsaid) {
		return unsaid, false
	}
	for _, name := range w.members {
		if !k.knows(name) || about.translated && name != templateMember {
			e.Drop(name)
		}
	}
	if w.effort == unsaid {
		return unsaid, false // a client of Anthropic's API that leaves it to the model
	}
	if k.toggle != nil && w.effort == minimal {
		w.effort = none
	}
	if said = w.effort; said != thinks || k.toggle == nil { // which is all that the toggle says
		said = about.takes.nearest(said)
	}
	for i := range k.places {
		k.places[i].set(e, said)
	}
	if k.toggle == nil || about.noToggle || about.fixed && !about.takes.has(none) {
		return said, false
	}
	members := k.toggle.on
	if w.effort.off() {
		members = k.toggle.off
	}
	setInside(e, k.toggle.member, members)
	return said, true
}

// set writes an effort, or removes the member for unsaid.
func (p *place) set(e *jsonspan.Edit, said effort) {
	value := ""
	if said != unsaid {
		value = p.value(said)
	}
	root, inner, nested := strings.Cut(p.path, ".")
	switch now, _ := e.Get(root); {
	case nested && value != "":
		setInside(e, root, `"`+inner+`":`+value)
	case nested:
	case value == "":
		e.Drop(root)
	case string(now) != value:
		e.Set(root, []byte(value))
	}
}

// setInside sets members of an object that is a member, or adds that.
func setInside(e *jsonspan.Edit, name, members string) {
	added := []byte("{" + members + "}")
	value, _ := e.Get(name)
	var o jsonspan.Object
	if o.Scan(value) != nil { // absent, or null
		e.Set(name, added)
		return
	}
	var inner jsonspan.Edit
	inner.Reset(&o)
	_ = jsonspan.EachMember(added, func(key, value []byte) bool { // it is valid
		inner.Set(string(key), value)
		return true
	})
	e.Set(name, inner.Bytes())
}

// dropInside removes a member of an object that is a member, and that if it has no other.
func dropInside(e *jsonspan.Edit, name, key string) {
	value, _ := e.Get(name)
	var o jsonspan.Object
	if member(value, key) == nil || o.Scan(value) != nil {
		return
	}
	if len(o.Members) == 1 {
		e.Drop(name)
		return
	}
	var inner jsonspan.Edit
	inner.Reset(&o)
	inner.Drop(key)
	e.Set(name, inner.Bytes())
}

// tellResponses is tell for a request of the Responses API, whose clients and servers have one language.
func tellResponses(e *jsonspan.Edit, takes efforts) effort {
	reasoning, _ := e.Get("reasoning")
	wished := effortNamed(member(reasoning, "effort"))
	said := takes.nearest(wished)
	switch {
	case wished == unsaid:
		return unsaid
	case said == unsaid:
		e.Drop("reasoning")
	case said != wished:
		setInside(e, "reasoning", `"effort":"`+effortNames[said]+`"`)
	}
	return said
}

// takesAt returns the efforts that a model takes at servers that know some, and whether that is because of the model.
func takesAt(servers efforts, model string) (takes efforts, fixed bool) {
	takes = servers
	for _, m := range modelEfforts {
		if strings.Contains(model, m.part) {
			takes, fixed = takes.and(m.takes), true
		}
	}
	return takes, fixed
}

// and returns what both sets have.
func (s efforts) and(other efforts) efforts {
	if s == 0 {
		return other
	}
	return s & other
}

// takenInstead returns the efforts that a model takes after it refused one: those that the error lists or, if it lists none, all but that. A
// model that does not think, or that was asked twice, takes none.
func takenInstead(refused effort, text string, twice bool) efforts {
	takes := known
	word := func(c rune) bool { return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }
	for _, w := range strings.FieldsFunc(text, word) {
		if e := effort(max(slices.Index(effortNames[:thinks], w), 0)); e != refused {
			takes |= 1 << e
		}
	}
	if listsDefault.MatchString(text) {
		takes |= 1 << thinks
	}
	contains := func(word string) bool { return strings.Contains(text, word) }
	switch {
	case takes != known, twice:
	case contains("think value"): // Ollama: true instead of a level
		return effortsOf(none, thinks)
	case !slices.ContainsFunc(unknownWords, contains) && !slices.ContainsFunc(neverThinks, contains):
		takes = effortsOf(none, minimal, low, medium, high) &^ (1 << refused)
		if refused == none {
			takes &^= 1 << minimal
		}
	}
	return takes
}

// neverThinks are how servers say that a model does not think, or has no effort.
var neverThinks = []string{"support thinking", "support reasoning", "support the effort"}

// listsDefault matches an error of Groq about a model whose thinking has no level. Without quotes, it is a word of a sentence.
var listsDefault = regexp.MustCompile("['\"`]default['\"`]")

// unknownWords are how servers say that a request has a member that they do not know, without saying which one.
var unknownWords = []string{
	"unknown parameter", "unknown_parameter", "unknown field", "unknown argument", "unknown name", "unrecognized", "unsupported parameter",
	"unsupported_parameter", "extra_forbidden", "extra inputs", "extra fields", "additional propert", "additionalpropert", "unexpected keyword",
	"unexpected field", "unexpected propert", "unexpected parameter",
}
