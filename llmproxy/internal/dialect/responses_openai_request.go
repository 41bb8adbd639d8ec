package dialect

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// ChatFromResponse translates a request for OpenAI's Responses API to chat completions. About is for the translation of the answer. The
// error names what cannot be translated; a server that has the Responses API itself may be able to take such a request.
func ChatFromResponse(r *jsonspan.Object, o ChatOptions) (body []byte, about *ResponseRequest, err *openai.Error) {
	about = new(ResponseRequest)
	body, err = appendChatFromResponse(make([]byte, 0, len(r.Body)+192), r, o, about)
	return body, about, err
}

// appendChatFromResponse appends the request for chat. About is empty, but for memory that it may reuse.
func appendChatFromResponse(b []byte, r *jsonspan.Object, o ChatOptions, about *ResponseRequest) ([]byte, *openai.Error) {
	c := readers.Get().(*responseReader)
	defer func() {
		*c = responseReader{}
		readers.Put(c)
	}()
	*c = responseReader{options: o, about: about}
	c.b = b
	if err := c.write(r); err != nil {
		return nil, err
	}
	return c.b, nil
}

// readers pools readers of requests, which are large.
var readers = sync.Pool{New: func() any { return new(responseReader) }}

// A responseReader writes a request for chat while it reads one for the Responses API.
type responseReader struct {
	writer
	options ChatOptions
	about   *ResponseRequest
	tools   toolList
	v       responseMembers
	echo    [len(echoed)][]byte
}

// responseMembers are members of a request that are translated. Those that are not there are nil.
type responseMembers struct {
	input, instructions, tools, choice, parallel, limit, text, reasoning, include, topLogprobs []byte
	stream                                                                                     bool
}

// refusedMembers are members without which the answer would lack what the client relies on.
var refusedMembers = [...]struct{ name, why string }{
	{"previous_response_id", "the server of this model stores no responses; send the whole conversation as input"},
	{"conversation", "the server of this model stores no conversations; send the whole conversation as input"},
	{"prompt", "the server of this model stores no prompts; send instructions and input"},
	{"background", "the server of this model does not answer in the background; leave it out, and stream the answer"},
	{"moderation", "the server of this model does not moderate; leave it out"},
}

// movedMembers are members of chat that have another name in the Responses API, as OpenAI says in its errors.
var movedMembers = [...]struct{ name, to string }{
	{"messages", "input"}, {"max_tokens", "max_output_tokens"}, {"max_completion_tokens", "max_output_tokens"}, {"response_format", "text.format"},
	{"reasoning_effort", "reasoning.effort"}, {"verbosity", "text.verbosity"}, {"logprobs", "include"}, {"functions", "tools"},
	{"function_call", "tool_choice"},
}

func (c *responseReader) write(r *jsonspan.Object) *openai.Error {
	c.raw("{")
	for _, m := range r.Members {
		key, value := m.Key.Of(r.Body), m.Value.Of(r.Body)
		if jsonspan.IsNull(value) {
			continue
		}
		passes, err := c.readMember(jsonspan.Unescape(key), value)
		if err != nil {
			return err
		}
		if passes {
			c.comma()
			c.b = append(append(append(append(c.b, '"'), key...), `":`...), value...)
		}
	}
	if c.v.stream {
		c.member("stream_options", []byte(`{"include_usage":true}`))
	}
	if c.v.limit != nil {
		if n, err := strconv.Atoi(string(c.v.limit)); err != nil || n < 1 {
			return invalid("max_output_tokens", fmt.Sprintf("must be a whole number of at least 1, not %.40s", c.v.limit))
		}
		c.member("max_tokens", c.v.limit)
	}
	if err := c.format(get(c.v.text, "format")); err != nil {
		return err
	}
	c.logprobs()
	if err := c.conversation(); err != nil {
		return err
	}
	c.raw("}")
	c.about.Echo = c.appendEcho(slices.Grow(c.about.Echo[:0], 640+len(c.v.tools)+len(c.v.instructions)))
	return nil
}

// readMember reads a member. It passes if it means the same in chat, or is left to the server, which may have parameters of its own.
func (c *responseReader) readMember(key, value []byte) (passes bool, problem *openai.Error) {
	for i := range echoed {
		if string(key) == echoed[i].name {
			c.echo[i] = value
		}
	}
	switch string(key) {
	case "input":
		c.v.input = value
	case "instructions":
		c.v.instructions = value
	case "tools":
		c.v.tools = value
	case "tool_choice":
		c.v.choice = value
	case "parallel_tool_calls":
		c.v.parallel = value
	case "max_output_tokens":
		c.v.limit = value
	case "text":
		c.v.text = value
	case "reasoning":
		c.v.reasoning = value
	case "include":
		c.v.include = value
	case "top_logprobs":
		c.v.topLogprobs = value
	case "stream":
		c.v.stream = string(value) == "true"
		return true, nil
	case "n":
		if string(value) != "1" {
			return false, invalid("n", "the Responses API gives one answer; leave it out, and send the request several times")
		}
	case "stream_options":
	case "store", "metadata", "client_metadata", "truncation", "max_tool_calls", "background_options", "context_management", "image", "access_programs":
		// These have no effect on an answer that is neither stored nor made with tools of a service.
	default:
		return c.passes(key, value)
	}
	return false, nil
}

// passes reports whether an unknown member passes.
func (c *responseReader) passes(key, value []byte) (bool, *openai.Error) {
	for _, m := range &refusedMembers {
		if string(key) != m.name {
			continue
		}
		if isEmpty(value) || string(value) == "false" {
			return false, nil
		}
		return false, invalid(m.name, m.why)
	}
	for _, m := range &movedMembers {
		if string(key) == m.name {
			return false, invalid(m.name, "the Responses API has "+m.to+" instead")
		}
	}
	return true, nil
}

// drafts pools the memory for messages that follow a system message which is complete only after them, except for large ones.
var drafts = sync.Pool{New: func() any { return new([]byte) }}

const maxDraft = 64 << 10

// conversation writes the messages and the tools.
func (c *responseReader) conversation() *openai.Error {
	if jsonspan.EqualString(get(c.v.choice, "type"), "allowed_tools") {
		c.tools.allowed = get(c.v.choice, "tools")
	}
	c.tools.about = c.about
	if c.v.tools != nil {
		c.tools.b = make([]byte, 0, len(c.v.tools)+256)
		if err := c.tools.add(c.v.tools, "tools"); err != nil {
			return err
		}
	}
	c.tools.loading = true
	input := conversationReader{options: c.options, tools: &c.tools, effort: get(c.v.reasoning, "effort"), verbosity: get(c.v.text, "verbosity")}
	draft := drafts.Get().(*[]byte)
	defer drafts.Put(draft)
	input.messages.b = slices.Grow((*draft)[:0], len(c.v.input)+256)
	if *draft = nil; cap(input.messages.b) <= maxDraft {
		*draft = input.messages.b
	}
	if err := input.read(c.v.instructions, c.v.input); err != nil {
		return err
	}
	if input.effort != nil {
		c.member("reasoning_effort", input.effort)
	}
	if input.verbosity != nil {
		c.member("verbosity", input.verbosity)
	}
	c.key("messages")
	c.raw("[")
	input.appendTo(&c.writer)
	c.raw("]")
	if len(c.tools.b) > 0 {
		c.key("tools")
		c.b = append(append(append(c.b, '['), c.tools.b...), ']')
		if c.v.parallel != nil { // OpenAI refuses it without tools
			c.member("parallel_tool_calls", c.v.parallel)
		}
	}
	return c.choose(c.v.choice)
}

// format writes the format of the answer.
func (c *responseReader) format(format []byte) *openai.Error {
	var v [5][]byte
	object(format, []string{"type", "name", "description", "schema", "strict"}, v[:])
	switch kind := str(v[0]); {
	case format == nil, kind == "text":
	case kind == "json_object":
		c.member("response_format", []byte(`{"type":"json_object"}`))
	case kind == "json_schema":
		c.key("response_format")
		c.raw(`{"type":"json_schema","json_schema":{`)
		for i, name := range []string{"name", "description", "schema", "strict"} {
			if v[i+1] != nil {
				c.member(name, v[i+1])
			}
		}
		c.raw("}}")
	default:
		return invalid("text.format.type", fmt.Sprintf("%.40q is unknown; use text, json_object or json_schema", kind))
	}
	return nil
}

// logprobs asks for the probabilities of the tokens, if the request does.
func (c *responseReader) logprobs() {
	wanted := c.v.topLogprobs != nil && string(c.v.topLogprobs) != "0"
	jsonspan.Elements(c.v.include, func(name []byte) bool { // most requests include nothing
		wanted = wanted || jsonspan.EqualString(name, "message.output_text.logprobs")
		return true
	})
	if !wanted {
		return
	}
	c.member("logprobs", []byte("true"))
	if c.v.topLogprobs != nil {
		c.member("top_logprobs", c.v.topLogprobs)
	}
}

// choose writes which tools the model may or must call.
func (c *responseReader) choose(choice []byte) *openai.Error {
	kind := str(choice)
	if kind == "" {
		kind = str(get(choice, "type"))
	}
	if kind == "allowed_tools" { // the others are left out
		kind = str(get(choice, "mode"))
		if kind != "auto" && kind != "required" {
			return invalid("tool_choice.mode", fmt.Sprintf("%.40q is unknown; use auto or required", kind))
		}
	} else if choice != nil && choice[0] == '{' {
		return c.chooseTool(kind, choice)
	}
	switch {
	case choice == nil:
	case kind == "required" && len(c.tools.b) == 0:
		return invalid("tool_choice", "requires a tool, but this model can call none of the request's tools")
	case kind == "auto", kind == "none", kind == "required":
		if len(c.tools.b) > 0 { // OpenAI refuses it without tools
			c.text("tool_choice", kind)
		}
	default:
		return invalid("tool_choice", fmt.Sprintf("%.40s is unknown; use auto, none, required or a tool", choice))
	}
	return nil
}

// chooseTool makes the model call one tool.
func (c *responseReader) chooseTool(kind string, choice []byte) *openai.Error {
	i := slices.Index(toolTypes[:], kind)
	if i < 0 {
		return invalid("tool_choice.type", fmt.Sprintf("the tool %.60q does not run at the server of this model; use auto, or a tool that your program runs", kind))
	}
	name := c.tools.find(toolKind(i), choice)
	if name == "" {
		return invalid("tool_choice", fmt.Sprintf("no tool of the request is %.100s", choice))
	}
	c.key("tool_choice")
	c.raw(`{"type":"function","function":{`)
	c.text("name", name)
	c.raw("}}")
	return nil
}

// echoed are the members of a request that every response repeats, and OpenAI's defaults.
var echoed = [...]struct{ name, otherwise string }{
	{"frequency_penalty", "0"}, {"instructions", "null"}, {"max_output_tokens", "null"}, {"max_tool_calls", "null"}, {"metadata", "{}"},
	{"parallel_tool_calls", "true"}, {"presence_penalty", "0"}, {"prompt_cache_key", "null"}, {"reasoning", `{"effort":null,"summary":null}`},
	{"safety_identifier", "null"}, {"temperature", "1"}, {"text", `{"format":{"type":"text"}}`},
	{"tool_choice", `"auto"`}, {"tools", "[]"}, {"top_logprobs", "0"}, {"top_p", "1"}, {"truncation", `"disabled"`}, {"user", "null"},
}

// appendEcho appends the members that every response repeats. They are on one line, because events of a stream are.
func (c *responseReader) appendEcho(b []byte) []byte {
	w := writer{append(b, `"background":false,"previous_response_id":null,"store":false`...)}
	for i, m := range &echoed {
		if c.echo[i] != nil {
			w.member(m.name, c.echo[i])
		} else {
			w.key(m.name)
			w.raw(m.otherwise)
		}
	}
	for _, end := range []byte("\n\r") { // white space: strings have escapes
		for rest := w.b; ; {
			i := bytes.IndexByte(rest, end)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
	return w.b
}

// WithoutOwnReasoning returns the input of a request for the Responses API without the reasoning that the gateway itself has encoded, which
// OpenAI would refuse. Without any, it returns the input as it is.
func WithoutOwnReasoning(input []byte) []byte {
	if len(input) == 0 || input[0] != '[' || !bytes.Contains(input, []byte(`"`+ownReasoning)) {
		return input
	}
	w := writer{append(make([]byte, 0, len(input)), '[')}
	jsonspan.Elements(input, func(item []byte) bool { // the request has been read
		if !bytes.HasPrefix(get(item, "encrypted_content"), []byte(`"`+ownReasoning)) {
			w.comma()
			w.b = append(w.b, item...)
		}
		return true
	})
	return append(w.b, ']')
}
