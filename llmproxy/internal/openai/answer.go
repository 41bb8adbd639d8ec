package openai

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An Answer is what a whole JSON answer contains besides its content.
type Answer struct {
	Usage    tokens.Usage
	HasUsage bool
	// ServiceTier is the service tier that answered; see ParseServiceTier.
	ServiceTier string
	Timings     Timings
	// AudioMillis is the length of the transcribed audio that verbose_json has, in milliseconds.
	AudioMillis int64
	// Err is the raw value of an error inside an answer of status 200, as OpenRouter sends it, or nil.
	Err []byte
}

// Parse validates a whole answer, an object or an array, and reads it. It allows white space before the answer, because DeepSeek
// sends blank lines while a request waits.
func (a *Answer) Parse(body []byte) error {
	*a = Answer{}
	return jsonspan.Walk(body, func(key, value []byte) {
		if !jsonspan.IsNull(value) {
			a.read(key, value)
		}
	}, func(element []byte) {
		// Gemini sends errors in an array.
		_ = jsonspan.EachMember(element, func(key, value []byte) bool { // an element that is not an object has no error
			if string(key) == "error" && a.Err == nil && !isNoError(value) {
				a.Err = value
			}
			return a.Err == nil
		})
	})
}

// ParseChecked is Parse for an object that is known to be JSON.
func (a *Answer) ParseChecked(body []byte) {
	*a = Answer{}
	jsonspan.Members(body, func(key, value []byte) bool {
		if !jsonspan.IsNull(value) {
			a.read(key, value)
		}
		return true
	})
}

// ValueEnd returns where the object or array that a text begins with ends. It returns false if it is not complete.
func ValueEnd(text []byte) (end int, ok bool) {
	s := jsonspan.Scanner{Text: text}
	i := s.Space(0)
	if i < len(text) && (text[i] == '{' || text[i] == '[') {
		end = s.Value(i, 0)
	}
	return end, end > 0
}

// read reads a member that is not null.
func (a *Answer) read(key, value []byte) {
	switch string(key) {
	case "error":
		if !isNoError(value) {
			a.Err = value
		}
	case "service_tier":
		a.ServiceTier = ParseServiceTier(value)
	case "duration":
		a.AudioMillis = parseMillis(value)
	case "timings":
		a.Timings = ParseTimings(value)
	case "prompt_eval_duration": // Ollama's own API
		a.Timings.Prefill = parseTiming(value, time.Nanosecond)
	case "eval_duration":
		a.Timings.Decode = parseTiming(value, time.Nanosecond)
	case "prompt_eval_count":
		larger(&a.Usage.Input, value)
		a.HasUsage = a.HasUsage || a.Usage.Input > 0
	case "eval_count":
		larger(&a.Usage.Output, value)
		a.HasUsage = a.HasUsage || a.Usage.Output > 0
	default:
		if raw := UsageIn(key, value); raw != nil {
			if usage, ok := ParseUsage(raw); ok {
				a.Usage.Update(usage)
				a.HasUsage = true
			}
		}
	}
}

// member returns the value of a key in an object, or nil. If the key is repeated, the last value counts, as on most servers.
func member(object []byte, name string) (found []byte) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // a value that is not an object has no members
		if string(jsonspan.Unescape(key)) == name {
			found = value
		}
		return true
	})
	return found
}

// checkedMember is member for text that was validated before.
func checkedMember(object []byte, name string) (found []byte) {
	jsonspan.Members(object, func(key, value []byte) bool { // a value that is not an object has no members
		if string(jsonspan.Unescape(key)) == name {
			found = value
		}
		return true
	})
	return found
}

// isEmpty reports whether a value is null or empty. vLLM sends "content":"" and "tool_calls":[] where there is no content or call.
func isEmpty(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}

// isNoError reports whether the value of a member "error" says that there was none. An empty object is an error without a reason.
func isNoError(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "false", "0":
		return true
	}
	return false
}
