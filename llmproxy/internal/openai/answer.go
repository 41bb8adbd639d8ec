package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// An Answer is what a whole JSON answer says beside its content.
type Answer struct {
	Usage    Usage
	HasUsage bool
	// Err is the raw value of an error inside an answer of status 200, as OpenRouter sends it; nil for none.
	Err []byte
}

// Parse checks a whole answer, an object or an array, and reads it. White space before it is allowed: DeepSeek sends blank
// lines while a request waits.
func (a *Answer) Parse(body []byte) error {
	*a = Answer{}
	s := jsonspan.Scanner{Text: body}
	i := s.Space(0)
	switch s.Peek(i) {
	case '{':
		i = s.Object(i, 1, func(m jsonspan.Member) bool {
			a.note(m.Key.Of(body), m.Value.Of(body))
			return true
		})
	case '[':
		i = s.Array(i, 1, func(element jsonspan.Span) bool {
			a.noteElement(element.Of(body))
			return true
		})
	default:
		s.Fail(i, "it is neither an object nor an array")
	}
	if s.Err() == nil {
		s.AtEnd(i)
	}
	return s.Err()
}

func (a *Answer) note(key, value []byte) {
	if jsonspan.IsNull(value) {
		return
	}
	switch string(key) {
	case "error":
		a.Err = value
	case "usage":
		a.Usage, a.HasUsage = ParseUsage(value)
	}
}

// noteElement looks for an error in an array, which is how Gemini sends them.
func (a *Answer) noteElement(element []byte) {
	_ = jsonspan.EachMember(element, func(key, value []byte) bool { // an element that is no object holds none
		if string(key) == "error" && a.Err == nil && !jsonspan.IsNull(value) {
			a.Err = value
		}
		return a.Err == nil
	})
}
