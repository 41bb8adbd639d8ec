package openai

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// maxModelName bounds a model's name, in bytes.
const maxModelName = 256

// A Head is what the gateway must know of a JSON request. Everything else of it stays bytes.
type Head struct {
	jsonspan.Object
	Model        string
	HasModel     bool
	Stream       bool
	IncludeUsage bool // stream_options.include_usage is true
	N            int  // choices asked for of each prompt; 1 unless said otherwise
	Prompts      int  // as CountPrompts found them; 0 for one
	signals      *Signals
}

// Reset forgets the body and keeps the capacity, so that heads can be pooled.
func (h *Head) Reset() { *h = Head{Object: jsonspan.Object{Members: h.Members[:0]}} }

// Forget lets go of the body. Signals that were read stay, without a content that nobody asked for.
func (h *Head) Forget() {
	h.Object = jsonspan.Object{}
	if h.signals != nil {
		h.signals.user = nil
	}
}

// Parse reads a request's body, which the head then refers to. The error is one that can be sent to the client.
func (h *Head) Parse(body []byte) *Error {
	h.Reset()
	h.N = 1
	if err := h.Scan(body); err != nil {
		return invalid("", "The request body is not a JSON object: "+err.Error()+". Send one JSON object in UTF-8 with nothing before or behind it.")
	}
	var seen uint32
	for _, m := range h.Members {
		key := m.Key.Of(body)
		p, exact := policyOf(key)
		if p == noPolicy {
			continue
		}
		name := policyNames[p]
		if !exact {
			return invalid(name, fmt.Sprintf("The key %q at byte %d is another spelling of %q, which servers read differently: write it as %[3]q.", key, m.Key.Start, name))
		}
		if seen&(1<<p) != 0 {
			return invalid(name, fmt.Sprintf("The key %q stands a second time at byte %d, and servers disagree on which one counts: send it once.", name, m.Key.Start))
		}
		seen |= 1 << p
		if err := h.note(p, m.Value.Of(body)); err != nil {
			return err
		}
	}
	return nil
}

// note takes what a policy key says. Those that are not read here must only be unambiguous.
func (h *Head) note(p policy, value []byte) *Error {
	if jsonspan.IsNull(value) {
		return nil
	}
	switch p {
	case policyModel:
		return h.noteModel(value)
	case policyStream:
		var ok bool
		if h.Stream, ok = boolean(value); !ok {
			return invalid("stream", fmt.Sprintf("\"stream\" must be true or false, not %.40s.", value))
		}
	case policyN:
		n, err := strconv.Atoi(string(value))
		if err != nil || n < 1 {
			return invalid("n", fmt.Sprintf("\"n\" must be a whole number from 1 on, not %.40s.", value))
		}
		h.N = n
	case policyStreamOptions:
		return h.noteOptions(value)
	}
	return nil
}

func (h *Head) noteModel(value []byte) *Error {
	raw, ok := jsonspan.Inside(value)
	if !ok {
		return invalid("model", fmt.Sprintf("\"model\" must be a string, not %.40s: put the model's name in double quotes.", value))
	}
	name := jsonspan.Unescape(raw)
	if err := checkModel(name); err != nil {
		return err
	}
	h.Model, h.HasModel = string(name), true
	return nil
}

// checkModel refuses names that no model has, and that would do harm in headers and logs.
func checkModel(name []byte) *Error {
	switch {
	case len(name) == 0:
		return invalid("model", "\"model\" is empty. GET /v1/models lists the models that are served.")
	case len(name) > maxModelName:
		return invalid("model", fmt.Sprintf("\"model\" is %d bytes long; a name has at most %d.", len(name), maxModelName))
	case !utf8.Valid(name):
		return invalid("model", "\"model\" is not UTF-8: encode it in UTF-8.")
	}
	for i := 0; i < len(name); i++ {
		// The second half of the control characters is U+0080 to U+009F, C2 80 to C2 9F in UTF-8.
		if c := name[i]; c < ' ' || c == 0x7f || c == 0xc2 && name[i+1] < 0xa0 {
			return invalid("model", fmt.Sprintf("\"model\" holds a control character at its byte %d: leave it out.", i))
		}
	}
	return nil
}

const includeUsage = "include_usage"

func (h *Head) noteOptions(value []byte) *Error {
	var problem *Error
	seen := false
	err := jsonspan.EachMember(value, func(key, value []byte) bool {
		exact := string(key) == includeUsage
		if !exact && !jsonspan.KeyMeans(key, includeUsage) {
			return true
		}
		if seen || !exact {
			problem = invalid("stream_options", "\"include_usage\" stands in \"stream_options\" twice or in another spelling, which servers read differently: send it once, spelled so.")
			return false
		}
		seen = true
		var ok bool
		if h.IncludeUsage, ok = boolean(value); !ok && !jsonspan.IsNull(value) {
			problem = invalid("stream_options", fmt.Sprintf("\"include_usage\" in \"stream_options\" must be true or false, not %.40s.", value))
		}
		return problem == nil
	})
	if err != nil {
		return invalid("stream_options", "\"stream_options\" must be an object, such as {\"include_usage\":true}.")
	}
	return problem
}

func boolean(value []byte) (b, ok bool) {
	return bytes.Equal(value, []byte("true")), bytes.Equal(value, []byte("true")) || bytes.Equal(value, []byte("false"))
}
