package thinking

import (
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A Knob is how the servers of a kind are told how much their models should think.
type Knob struct {
	// places are the members that name the effort. With a dot, it is a member of an object.
	places []place
	// Takes are the efforts that the servers know; zero for all.
	Takes Efforts
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
	values map[Effort]string
}

// value returns the JSON value of an effort, or "" if it is left out.
func (p *place) value(e Effort) string {
	if v, ok := p.values[e]; ok {
		return v
	}
	return `"` + effortNames[e] + `"`
}

// A toggle is an object that turns thinking on or off.
type toggle struct{ member, on, off string }

// The knobs of kinds of servers.
var (
	// Every service that imitates OpenAI's API may have members of its own, so they all pass.
	OpenAI = &Knob{places: []place{{path: EffortMember}}, also: wishMembers[1:]}
	// A template knows enable_thinking (Qwen, GLM, Gemma), thinking (DeepSeek, Granite, Kimi), reasoning_effort (gpt-oss), or none of
	// them; it ignores what it does not know. vLLM before 0.17 turns thinking off only by this.
	VLLM = &Knob{places: []place{{path: EffortMember, values: map[Effort]string{On: ""}}}, toggle: &toggle{TemplateMember, `"enable_thinking":true,"thinking":true`, `"enable_thinking":false,"thinking":false`}}
	// If reasoning_effort is none, llama.cpp removes the effort from the template's arguments, and gpt-oss then thinks more, not less. Older
	// versions read the template's arguments only.
	LlamaCpp = &Knob{
		places: []place{{path: EffortMember, values: map[Effort]string{None: "", On: ""}}, {path: TemplateMember + "." + EffortMember, values: map[Effort]string{None: `"low"`, On: ""}}},
		toggle: VLLM.toggle,
	}
	EffortOnly = &Knob{places: OpenAI.places} // of services that know nothing else
	Ollama     = &Knob{places: []place{{path: "think", values: map[Effort]string{None: "false", Minimal: "false", On: "true"}}}, Takes: EffortsOf(None, Minimal, Low, Medium, High, On)}
	Gemini     = &Knob{places: OpenAI.places, Takes: EffortsOf(None, Minimal, Low, Medium, High), also: []string{"extra_body"}}
	OpenRouter = &Knob{places: []place{{path: "reasoning.effort"}}, also: []string{EffortMember, "include_reasoning"}}
	Groq       = &Knob{places: OpenAI.places, Takes: EffortsOf(None, Low, Medium, High, On), also: []string{"reasoning_format", "include_reasoning"}}
	Mistral    = &Knob{places: OpenAI.places, Takes: EffortsOf(None, High), also: []string{"prompt_mode"}}
	DeepSeek   = &Knob{
		places: []place{{path: EffortMember, values: map[Effort]string{None: "", On: ""}}}, Takes: EffortsOf(None, Low, Medium, High, XHigh, Max, On),
		toggle: &toggle{"thinking", `"type":"enabled"`, `"type":"disabled"`},
	}
	Together = &Knob{
		places: []place{{path: EffortMember, values: map[Effort]string{None: "", On: ""}}}, Takes: EffortsOf(None, Low, Medium, High, On),
		toggle: &toggle{"reasoning", `"enabled":true`, `"enabled":false`}, also: []string{TemplateMember},
	}
	Fireworks = &Knob{places: OpenAI.places, Takes: EffortsOf(None, Low, Medium, High), also: []string{"thinking"}}
	Cerebras  = &Knob{places: OpenAI.places, Takes: EffortsOf(None, Low, Medium, High), also: []string{"disable_reasoning"}}
)

// knows reports whether a member belongs to the server's own language.
func (k *Knob) knows(name string) bool {
	return k.toggle != nil && k.toggle.member == name || slices.Contains(k.also, name) ||
		slices.ContainsFunc(k.places, func(p place) bool { root, _, _ := strings.Cut(p.path, "."); return root == name })
}

// isOwn reports whether a client that says it by this member speaks the server's own language. OpenAI's name is everybody's.
func (k *Knob) isOwn(name string) bool {
	return k.knows(name) && (name != EffortMember || slices.Contains(k.also, name))
}

// About is what is known before a server is told about a wish.
type About struct {
	// Takes are the efforts that the model takes. Fixed means that they are those of its family, so that a model that does not take None
	// always thinks.
	Takes Efforts
	Fixed bool
	// NoToggle means that the model was asked with the toggle, and refused it.
	NoToggle bool
	// Translated means that the request was in the format of another API than OpenAI's.
	Translated bool
}

// Tell makes a request say what it wishes in the server's way. It returns the effort that the request has now, and whether it has the
// toggle because of that.
func (k *Knob) Tell(e *jsonspan.Edit, about About) (said Effort, toggled bool) {
	w := WishIn(e)
	own := slices.ContainsFunc(w.members, k.isOwn)
	if !w.Said() || !about.Translated && (own || w.Effort == Unsaid) {
		return Unsaid, false
	}
	for _, name := range w.members {
		if !k.knows(name) || about.Translated && name != TemplateMember {
			e.Drop(name)
		}
	}
	if w.Effort == Unsaid {
		return Unsaid, false // a client of Anthropic's API that leaves it to the model
	}
	if k.toggle != nil && w.Effort == Minimal {
		w.Effort = None
	}
	if said = w.Effort; said != On || k.toggle == nil { // which is all that the toggle says
		said = about.Takes.Nearest(said)
	}
	k.Set(e, said)
	if k.toggle == nil || about.NoToggle || about.Fixed && !about.Takes.Has(None) {
		return said, false
	}
	members := k.toggle.on
	if w.Effort.off() {
		members = k.toggle.off
	}
	setInside(e, k.toggle.member, members)
	return said, true
}

// Set writes an effort where the servers look for it.
func (k *Knob) Set(e *jsonspan.Edit, said Effort) {
	for i := range k.places {
		k.places[i].set(e, said)
	}
}

// set writes an effort, or removes the member for Unsaid.
func (p *place) set(e *jsonspan.Edit, said Effort) {
	value := ""
	if said != Unsaid {
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
	if jsonspan.MemberOf(value, key) == nil || o.Scan(value) != nil {
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

// TellResponses is Tell for a request of the Responses API, whose clients and servers have one language.
func TellResponses(e *jsonspan.Edit, takes Efforts) Effort {
	reasoning, _ := e.Get("reasoning")
	wished := Named(jsonspan.MemberOf(reasoning, "effort"))
	said := takes.Nearest(wished)
	switch {
	case wished == Unsaid:
		return Unsaid
	case said == Unsaid:
		e.Drop("reasoning")
	case said != wished:
		setInside(e, "reasoning", `"effort":"`+said.String()+`"`)
	}
	return said
}
