package openai

import (
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Usage is the tokens of a request, under the names that chat and the Responses API give them.
type Usage struct {
	Input     int64 // cached ones included
	Output    int64 // reasoning included
	Cached    int64 // of the input
	Reasoning int64 // of the output
}

// ParseUsage reads a usage object; false if it counts no tokens.
func ParseUsage(raw []byte) (Usage, bool) {
	var u Usage
	counted := false
	err := jsonspan.EachMember(raw, func(key, value []byte) bool {
		switch string(key) {
		case "prompt_tokens", "input_tokens":
			u.Input, counted = count(value), true
		case "completion_tokens", "output_tokens":
			u.Output, counted = count(value), true
		case "prompt_tokens_details", "input_tokens_details":
			u.Cached = detail(value, "cached_tokens")
		case "completion_tokens_details", "output_tokens_details":
			u.Reasoning = detail(value, "reasoning_tokens")
		}
		return true
	})
	if err != nil || !counted {
		return Usage{}, false
	}
	return u, true
}

func detail(object []byte, name string) (n int64) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // null says that there are no details
		if string(key) == name {
			n = count(value)
		}
		return true
	})
	return n
}

// count reads a number of tokens; what is none, or below zero, is zero.
func count(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
