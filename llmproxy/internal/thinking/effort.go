// Package thinking decides how much a model is asked to think. A client may wish that it thinks much, little or not at all. Each API has
// members of its own for that, and so has each kind of server, so this package reads the wish of a request, whichever API its members are
// from, and writes it as the server understands it. A server that refuses an effort is asked for the nearest one that it takes.
//
// It never changes a request that wishes for nothing, and does not know which server a request goes to: package upstream says so with a
// Knob. It stands on jsonspan.
package thinking

import (
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Effort is how much a model should think.
type Effort uint8

// The efforts. A request that says nothing about thinking is Unsaid.
const (
	Unsaid Effort = iota
	None
	Minimal
	Low
	Medium
	High
	XHigh
	Max
	On // as much as the model likes
)

// effortNames are the names of efforts at OpenAI and, for the last one, at Groq.
var effortNames = [...]string{None: "none", Minimal: "minimal", Low: "low", Medium: "medium", High: "high", XHigh: "xhigh", Max: "max", On: "default"}

// Named returns the effort that a JSON string names at OpenAI, or Unsaid.
func Named(value []byte) Effort {
	name, _ := jsonspan.String(value)
	return Effort(max(slices.Index(effortNames[:On], name), 0))
}

// String returns the name of the effort.
func (e Effort) String() string { return effortNames[e] }

func (e Effort) off() bool { return e == None || e == Minimal }

// Efforts are a set of efforts. The zero value means that nothing is known of what a model takes.
type Efforts uint16

// known marks a set that is known, and may be empty.
const known Efforts = 1

// EffortsOf returns a set of efforts that is known, even if it is empty.
func EffortsOf(list ...Effort) Efforts {
	set := known
	for _, e := range list {
		set |= 1 << e
	}
	return set
}

// Has reports whether the model may take an effort.
func (s Efforts) Has(e Effort) bool { return s == 0 || s>>e&1 == 1 }

// Nearest returns the effort of the set that comes closest to a wish, or Unsaid if none does. A wish that the model thinks never turns into
// one that it does not. If the model cannot be kept from thinking, it thinks as little as possible.
func (s Efforts) Nearest(wish Effort) Effort {
	switch {
	case wish == On && s&EffortsOf(On) == EffortsOf(On):
		return On
	case wish == On:
		wish = Medium
	}
	if s.Has(wish) {
		return wish
	}
	if wish.off() {
		for e := None; e <= Max; e++ {
			if s.Has(e) {
				return e
			}
		}
		return Unsaid
	}
	for e := wish - 1; e >= Low; e-- {
		if s.Has(e) {
			return e
		}
	}
	for e := wish + 1; e <= On; e++ {
		if s.Has(e) {
			return e
		}
	}
	return Unsaid
}

// modelEfforts are what models take, whichever server runs them. What is not here is learned from errors.
var modelEfforts = []struct {
	part  string // of the name
	takes Efforts
}{
	{"gpt-oss", EffortsOf(Low, Medium, High)}, // always thinks
	{"gemini-2.5-pro", EffortsOf(Minimal, Low, Medium, High)},
	{"gemini-3", EffortsOf(Minimal, Low, Medium, High)},
	{"claude-fable", EffortsOf(Low, Medium, High, XHigh, Max)}, // always think
	{"claude-mythos", EffortsOf(Low, Medium, High, XHigh, Max)},
}

// TakesAt returns the efforts that a model takes at servers that know some, and whether that is because of the model.
func TakesAt(servers Efforts, model string) (takes Efforts, fixed bool) {
	takes = servers
	for _, m := range modelEfforts {
		if strings.Contains(model, m.part) {
			takes, fixed = takes.and(m.takes), true
		}
	}
	return takes, fixed
}

// and returns what both sets have.
func (s Efforts) and(other Efforts) Efforts {
	if s == 0 {
		return other
	}
	return s & other
}

// TakenInstead returns the efforts that a model takes after it refused one with an error, whose text is in lower case: those that the error
// lists or, if it lists none, all others. A model that does not think takes none, and neither does one for which the caller says so.
func TakenInstead(refused Effort, text string, takesNone bool) Efforts {
	takes := known
	word := func(c rune) bool { return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }
	for _, w := range strings.FieldsFunc(text, word) {
		if e := Effort(max(slices.Index(effortNames[:On], w), 0)); e != refused {
			takes |= 1 << e
		}
	}
	if listsDefault.MatchString(text) {
		takes |= 1 << On
	}
	contains := func(word string) bool { return strings.Contains(text, word) }
	switch {
	case takes != known, takesNone:
	case contains("think value"): // Ollama: true instead of a level
		return EffortsOf(None, On)
	case !slices.ContainsFunc(neverThinks, contains):
		takes = EffortsOf(None, Minimal, Low, Medium, High) &^ (1 << refused)
		if refused == None {
			takes &^= 1 << Minimal
		}
	}
	return takes
}

// neverThinks are how servers say that a model does not think, or has no effort.
var neverThinks = []string{"support thinking", "support reasoning", "support the effort"}

// listsDefault matches an error of Groq about a model whose thinking has no level. Without quotes, it is a word of a sentence.
var listsDefault = regexp.MustCompile("['\"`]default['\"`]")
