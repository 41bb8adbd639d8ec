package openai

import (
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An Answer is what a whole JSON answer contains besides its content.
type Answer struct {
	Usage    tokens.Usage
	HasUsage bool
	// Err is the raw value of an error inside an answer of status 200, as OpenRouter sends it, or nil.
	Err []byte
}

// Parse validates a whole answer, an object or an array, and reads it. It allows white space before the answer, because DeepSeek
// sends blank lines while a request waits.
func (a *Answer) Parse(body []byte) error {
	*a = Answer{}
	return jsonspan.Walk(body, func(key, value []byte) {
		if jsonspan.IsNull(value) {
			return
		}
		switch string(key) {
		case "error":
			if !isNoError(value) {
				a.Err = value
			}
		case "usage":
			a.Usage, a.HasUsage = ParseUsage(value)
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

// ParseUsage reads a usage object of chat, completions, embeddings or the Responses API. It returns false if the object counts
// no tokens.
func ParseUsage(raw []byte) (tokens.Usage, bool) {
	var u tokens.Usage
	counted := false
	err := jsonspan.EachMember(raw, func(key, value []byte) bool {
		switch string(key) {
		case "prompt_tokens", "input_tokens":
			u.Input, counted = parseCount(value), true
		case "completion_tokens", "output_tokens":
			u.Output, counted = parseCount(value), true
		case "prompt_tokens_details", "input_tokens_details":
			u.Cached = parseCount(member(value, "cached_tokens"))
		case "completion_tokens_details", "output_tokens_details":
			u.Reasoning = parseCount(member(value, "reasoning_tokens"))
		}
		return true
	})
	if err != nil || !counted {
		return tokens.Usage{}, false
	}
	return u, true
}

// parseCount reads a number of tokens. Anything absent, invalid or negative counts as zero.
func parseCount(value []byte) int64 {
	if len(value) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
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
