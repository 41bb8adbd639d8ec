package openai

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A shape is what of a JSON value may be passed on: of an object, the members with these names; of an array, that of each element. A nil
// shape allows the whole value.
type shape map[string]shape

var filterResult = shape{"code": nil, "content_filter_result": nil, "content_filter_results": nil, "revised_prompt": nil}

// allowedDetails are the members of an error that tell callers about their own request. All others may be about the server or the
// operator's account, and are not passed on.
var allowedDetails = shape{
	"innererror":             filterResult, // Azure
	"inner_error":            filterResult, // Azure, for images
	"content_filter_result":  nil,
	"content_filter_results": nil,
	"content_filters":        nil,                                                                             // Azure, for responses
	"moderation_details":     nil,                                                                             // OpenAI, for images
	"metadata":               {"reasons": nil, "flagged_input": nil, "provider_name": nil, "model_slug": nil}, // OpenRouter
	"failed_generation":      nil,                                                                             // Groq: the tool call that its model wrote
	"schema_kind":            nil,                                                                             // Groq
	"schema_path":            nil,
	"detail":                 {"type": nil, "loc": nil, "msg": nil},                   // FastAPI
	"details":                {"fieldViolations": {"field": nil, "description": nil}}, // Gemini
}

// allows reports whether a member of an error may be passed on, and in which shape. Besides the known names, these are numbers that
// limit a request, such as n_ctx and n_prompt_tokens of llama.cpp.
func allows(key, value []byte) (shape, bool) {
	if s, ok := allowedDetails[string(key)]; ok {
		return s, s == nil || value[0] == '{' || value[0] == '['
	}
	if c := value[0]; c < '0' || c > '9' {
		return nil, false
	}
	for _, part := range [...]string{"token", "ctx", "context", "max_model_len", "max_length"} {
		if strings.Contains(string(key), part) {
			return nil, true
		}
	}
	return nil, false
}

// maxDetails bounds the details of an error, in bytes.
const maxDetails = 8 << 10

// addDetail adds a member of an error if it may be passed on.
func (e *Error) addDetail(key, value []byte) {
	s, ok := allows(key, value)
	if !ok {
		return
	}
	start := len(e.Details)
	b := append(append(append(e.Details, `,"`...), key...), `":`...)
	b, ok = appendShaped(b, value, s)
	if !ok || len(b) > maxDetails {
		b = b[:start]
	}
	e.Details = b
}

// appendShaped appends what a shape allows of a value. It returns false if that is nothing.
func appendShaped(b, value []byte, s shape) (_ []byte, found bool) {
	if s == nil {
		return append(b, value...), !isEmpty(value)
	}
	if len(value) > 0 && value[0] == '[' {
		b = append(b, '[')
		_ = jsonspan.EachElement(value, func(element []byte) bool { // the value has been validated
			end := len(b)
			if found {
				b = append(b, ',')
			}
			more, ok := appendShaped(b, element, s)
			if found = found || ok; ok {
				b = more
			} else {
				b = b[:end]
			}
			return true
		})
		return append(b, ']'), found
	}
	b = append(b, '{')
	_ = jsonspan.EachMember(value, func(key, value []byte) bool { // a value that is not an object has no members
		inner, ok := s[string(key)]
		if !ok {
			return true
		}
		end := len(b)
		if found {
			b = append(b, ',')
		}
		more, ok := appendShaped(append(append(append(b, '"'), key...), `":`...), value, inner)
		if found = found || ok; ok {
			b = more
		} else {
			b = b[:end]
		}
		return true
	})
	return append(b, '}'), found
}
