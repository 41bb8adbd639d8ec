package openai

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// irrelevantKeys are members that do not influence the content of the answer, only how it is sent, whom it is attributed to, or
// what it costs, and the model, whose name at this gateway is a part of the key already. All other members of a request, known or not,
// are part of its cache key.
var irrelevantKeys = []string{
	"model", "stream", "stream_options", "user", "safety_identifier", "metadata", "service_tier",
	"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
}

// NotInCacheKey reports whether a member with this raw key is left out of the cache key. A member whose key is spelled differently
// is not left out.
func NotInCacheKey(key []byte) bool {
	return slices.Contains(irrelevantKeys, string(key))
}

// NotCacheable returns why the answer to the request must not be reused for an identical request, or "" if it may.
func (r *Request) NotCacheable(e *Endpoint) (why string) {
	if !e.Cacheable {
		return "its endpoint"
	}
	stored := e.Framing == Typed // the Responses API stores by default
	for _, m := range r.Members {
		key, value := normalized(m.Key.Of(r.Body)), m.Value.Of(r.Body)
		switch {
		case string(key) == "store":
			stored = string(value) != "false" && !jsonspan.IsNull(value) || jsonspan.IsNull(value) && e.Framing == Typed
		case string(key) == "prompt" && value[0] == '{':
			why = "prompt" // a template that the service stores
		case string(key) == "input" && e.Framing == Typed && hasReference(value):
			why = "input"
		case DependsOnMore(key, value):
			why = string(key)
		}
	}
	if stored {
		return "store"
	}
	return why
}

// normalized returns a key as a server may read it: unescaped and in lower case.
func normalized(key []byte) []byte {
	if jsonspan.Ambiguous(key) {
		return bytes.ToLower(jsonspan.Unescape(key))
	}
	return key
}

// Deterministic reports whether the request asks for the most likely answer: temperature 0 and a single choice. At endpoints that
// do not sample, every request is deterministic.
func (r *Request) Deterministic(e *Endpoint) bool {
	if e.Framing == Chunks && e.UsageOnRequest || e.Framing == Typed {
		temperature, ok := r.Get("temperature")
		return ok && r.N == 1 && isZero(temperature)
	}
	return true
}

// isZero reports whether a value is the number zero.
func isZero(value []byte) bool {
	for _, c := range value {
		if c == 'e' || c == 'E' {
			break
		}
		if c != '0' && c != '.' && c != '-' {
			return false
		}
	}
	return len(value) > 0
}

// FinishReasons sums up how the choices of an answer ended, which decides whether the answer is worth storing.
type FinishReasons struct {
	Finished  int  // choices that have a finish reason
	Truncated bool // one of them reached the maximum number of tokens
	Abnormal  bool // one of them was filtered, failed, or ended for an unknown reason
}

// Complete reports whether so many choices finished normally that the answer may be stored. If truncated is true, choices that
// reached the maximum number of tokens count as well.
func (f *FinishReasons) Complete(choices int, truncated bool) bool {
	return !f.Abnormal && (truncated || !f.Truncated) && f.Finished > 0 && f.Finished >= choices
}

// AddEvent adds the finish reasons in an event of a stream.
func (f *FinishReasons) AddEvent(framing Framing, name, data []byte) {
	if framing == Typed {
		if response, ok := CompletedResponse(name, data); ok {
			f.AddWhole(response)
		}
		return
	}
	if significant, _ := prescan(data, nil); significant {
		f.add(data)
	}
}

// AddWhole adds the finish reasons of a whole answer, in which no choice may be unfinished.
func (f *FinishReasons) AddWhole(body []byte) {
	if before := f.Finished; f.add(body) > f.Finished-before {
		f.Abnormal = true
	}
}

// add adds the finish reasons of a whole answer or a chunk, and returns the number of its choices. EachMember validates the text, so that
// nothing in it has to be validated again.
func (f *FinishReasons) add(body []byte) (choices int) {
	_ = jsonspan.EachMember(body, func(key, value []byte) bool { // a body that is not an object has no choices
		switch string(key) {
		case "choices":
			jsonspan.Elements(value, func(choice []byte) bool {
				choices++
				f.addReason(checkedMember(choice, "finish_reason"))
				return true
			})
		case "status":
			if string(value) != `"incomplete"` { // the reason is in incomplete_details
				f.addReason(value)
			}
		case "incomplete_details":
			f.addReason(checkedMember(value, "reason"))
		case "data", "results":
			if !isEmpty(value) {
				f.Finished++
			}
		case "error":
			f.Abnormal = f.Abnormal || !isNoError(value)
		}
		return true
	})
	return choices
}

func (f *FinishReasons) addReason(value []byte) {
	if !namesReason(value) {
		return
	}
	f.Finished++
	reason, _ := jsonspan.String(value)
	switch reason {
	case "stop", "tool_calls", "function_call", "eos", "eos_token", "end_turn", "tool_use", "stop_sequence", "completed":
	case "length", "max_tokens", "max_output_tokens":
		f.Truncated = true
	default:
		f.Abnormal = true
	}
}
