package openai

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A Request is what the gateway must know of a JSON request. Everything else stays bytes.
type Request struct {
	jsonspan.Object
	Model        string
	HasModel     bool
	Stream       bool
	IncludeUsage bool // stream_options.include_usage is true
	N            int  // choices per prompt, 1 by default
	Prompts      int  // set by CountPrompts; 0 for one
	signals      *Signals
}

// Reset clears the request but keeps the capacity for members, so that requests can be pooled.
func (r *Request) Reset() { *r = Request{Object: jsonspan.Object{Members: r.Members[:0]}} }

// ReleaseBody drops the reference to the body. Signals that were read are kept, and so is their Content if it was read.
func (r *Request) ReleaseBody() {
	r.Object = jsonspan.Object{}
	if r.signals != nil {
		r.signals.user, r.signals.text, r.signals.system = nil, nil, nil
	}
}

// checkedKeys are the keys that decide where a request goes, what it costs and what it may do, here or at the upstream. Servers
// disagree on which of two spellings or duplicates wins ({"model":"a","Model":"b"} is b for every Go server and a for Python), so
// a request with both could be checked here as one thing and run there as another.
var checkedKeys = [...]string{
	"model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "tools", "user", "options", "models",
	"previous_response_id", "store", "max_output_tokens", "messages", "prompt", "input", "instructions", "functions",
	"response_format", "text",
}

// checkedKey returns the index of the checked key that a server may take a raw key for, or -1. Exact reports whether the raw key is
// spelled exactly like it.
func checkedKey(key []byte) (index int, exact bool) {
	if i := slices.Index(checkedKeys[:], string(key)); i >= 0 {
		return i, true
	}
	if jsonspan.Ambiguous(key) {
		for i, name := range checkedKeys {
			if jsonspan.EqualFold(key, name) {
				return i, false
			}
		}
	}
	return -1, false
}

// Parse reads the body of a request and keeps a reference to it. The error can be sent to the client.
func (r *Request) Parse(body []byte) *Error {
	r.Reset()
	if err := r.Scan(body); err != nil {
		return invalid("", "The request body is not a JSON object: "+err.Error()+". Send one JSON object in UTF-8 with nothing before or after it.")
	}
	return r.readMembers()
}

// ParseTranslated is Parse for a body that is a translation of a request that was parsed, so that it is known to be JSON.
func (r *Request) ParseTranslated(body []byte) *Error {
	r.Reset()
	r.ScanChecked(body)
	return r.readMembers()
}

// readMembers reads the members that were found.
func (r *Request) readMembers() *Error {
	r.N = 1
	body := r.Body
	var seen uint32
	for _, m := range r.Members {
		key := m.Key.Of(body)
		i, exact := checkedKey(key)
		if i < 0 {
			continue
		}
		name := checkedKeys[i]
		if !exact {
			return invalid(name, fmt.Sprintf("The key %q at byte %d is another spelling of %q, which servers interpret differently; write it as %[3]q.", key, m.Key.Start, name))
		}
		if seen&(1<<i) != 0 {
			return invalid(name, fmt.Sprintf("Duplicate key %q at byte %d; servers disagree on which one counts. Send it once.", name, m.Key.Start))
		}
		seen |= 1 << i
		if err := r.read(name, m.Value.Of(body)); err != nil {
			return err
		}
	}
	return nil
}

// read reads the value of a checked key. Some keys only have to be unambiguous; their values are not read.
func (r *Request) read(key string, value []byte) *Error {
	if jsonspan.IsNull(value) {
		return nil
	}
	switch key {
	case "model":
		return r.readModel(value)
	case "stream":
		var ok bool
		if r.Stream, ok = parseBool(value); !ok {
			return invalid(key, fmt.Sprintf("\"stream\" must be true or false, not %.40s.", value))
		}
	case "n":
		n, err := strconv.Atoi(string(value))
		if err != nil || n < 1 {
			return invalid(key, fmt.Sprintf("\"n\" must be a whole number of at least 1, not %.40s.", value))
		}
		r.N = n
	case "stream_options":
		return r.readStreamOptions(value)
	}
	return nil
}

func (r *Request) readModel(value []byte) *Error {
	raw, ok := jsonspan.RawString(value)
	if !ok {
		return invalid("model", fmt.Sprintf("\"model\" must be a string, not %.40s; put the model's name in double quotes.", value))
	}
	name := jsonspan.Unescape(raw)
	if err := checkModel(name); err != nil {
		return err
	}
	r.Model, r.HasModel = string(name), true
	return nil
}

// maxModelName bounds a model's name, in bytes.
const maxModelName = 256

// checkModel rejects names that no model has and that would be harmful in headers and logs.
func checkModel(name []byte) *Error {
	switch {
	case len(name) == 0:
		return invalid("model", "\"model\" is empty. GET /v1/models lists the available models.")
	case len(name) > maxModelName:
		return invalid("model", fmt.Sprintf("\"model\" is %d bytes long; the limit is %d.", len(name), maxModelName))
	case !utf8.Valid(name):
		return invalid("model", "\"model\" is not valid UTF-8; encode it in UTF-8.")
	}
	for i := 0; i < len(name); i++ {
		// U+0080 to U+009F are control characters, too: C2 80 to C2 9F in UTF-8.
		if c := name[i]; c < ' ' || c == 0x7f || c == 0xc2 && name[i+1] < 0xa0 {
			return invalid("model", fmt.Sprintf("\"model\" contains a control character at byte %d; remove it.", i))
		}
	}
	return nil
}

const includeUsage = "include_usage"

func (r *Request) readStreamOptions(value []byte) *Error {
	const param = "stream_options"
	var problem *Error
	seen := false
	err := jsonspan.EachMember(value, func(key, value []byte) bool {
		exact := string(key) == includeUsage
		if !exact && !jsonspan.EqualFold(key, includeUsage) {
			return true
		}
		if seen || !exact {
			problem = invalid(param, "\"include_usage\" in \"stream_options\" is repeated or spelled differently, which servers interpret differently; send it once, spelled like this.")
			return false
		}
		seen = true
		var ok bool
		if r.IncludeUsage, ok = parseBool(value); !ok && !jsonspan.IsNull(value) {
			problem = invalid(param, fmt.Sprintf("\"include_usage\" in \"stream_options\" must be true or false, not %.40s.", value))
		}
		return problem == nil
	})
	if err != nil {
		return invalid(param, "\"stream_options\" must be an object, such as {\"include_usage\":true}.")
	}
	return problem
}

// parseBool returns the value of true or false, and false for ok if the value is neither.
func parseBool(value []byte) (b, ok bool) {
	b = string(value) == "true"
	return b, b || string(value) == "false"
}

// RequestUsage edits a request for a stream so that the upstream reports its usage: stream_options.include_usage becomes true.
func (r *Request) RequestUsage(e *jsonspan.Edit) {
	if r.IncludeUsage {
		return
	}
	const key = "stream_options"
	if value, ok := e.Get(key); ok {
		var options jsonspan.Object
		if options.Scan(value) == nil {
			var inner jsonspan.Edit
			inner.Reset(&options)
			inner.Set(includeUsage, []byte("true"))
			e.Set(key, inner.Bytes())
			return
		}
	}
	e.Set(key, []byte(`{"include_usage":true}`))
}

// CountPrompts counts the prompts of a request for completions: its "prompt" is a text, a list of texts, a list of tokens, or a
// list of such lists.
func (r *Request) CountPrompts() {
	r.Prompts = 0
	prompt, _ := r.Get("prompt")
	if len(prompt) == 0 || prompt[0] != '[' {
		return
	}
	_ = jsonspan.EachElement(prompt, func(item []byte) bool { // the upstream reports invalid prompts
		if item[0] != '"' && item[0] != '[' {
			return false // tokens
		}
		r.Prompts++
		return true
	})
}

// maxChoices bounds the number of choices, so that calculations with it cannot overflow.
const maxChoices = 1 << 30

// Choices returns how many choices the answer has, over all prompts.
func (r *Request) Choices() int { return min(maxChoices, min(maxChoices, r.N)*max(1, r.Prompts)) }

// Image returns the size and the quality of the images that the request asks for, as it spells them; empty if it does not say. A nil
// request says nothing.
func (r *Request) Image() (size, quality string) {
	if r == nil {
		return "", ""
	}
	text := func(key string) string {
		value, _ := r.Get(key)
		text, _ := jsonspan.String(value)
		return text
	}
	return text("size"), text("quality")
}

// Characters returns the number of characters of the text that a request for speech wants to hear.
func (r *Request) Characters() int {
	value, _ := r.Get("input")
	text, _ := jsonspan.String(value)
	return utf8.RuneCountInString(text)
}

// WantsBase64 reports whether a request for embeddings asks for base64 instead of lists of numbers. OpenAI's SDKs for Python and
// Node do so by default.
func (r *Request) WantsBase64() bool {
	value, ok := r.Get("encoding_format")
	return ok && jsonspan.EqualString(value, "base64")
}

// promptMembers are the members that a model reads, in the order in which chat templates write them.
var promptMembers = [...]string{"tools", "functions", "instructions", "messages", "input", "prompt"}

// Prompt returns the JSON of what the model reads, in the order in which it reads it, whatever the order of the members is. Two requests
// of a conversation have prompts that begin with the same bytes.
func (r *Request) Prompt() [][]byte {
	parts := make([][]byte, 0, len(promptMembers))
	for _, name := range promptMembers {
		if value, ok := r.Get(name); ok {
			parts = append(parts, value)
		}
	}
	return parts
}
