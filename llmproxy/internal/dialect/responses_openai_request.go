package dialect

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// ChatFromResponse translates a request for OpenAI's Responses API to chat completions. About is for the translation of the answer. The
// error names what cannot be translated; a server that has the Responses API itself may be able to take such a request.
func ChatFromResponse(r *jsonspan.Object, o ChatOptions) (body []byte, about *ResponseRequest, err *openai.Error) {
	c := responseReader{options: o, about: &ResponseRequest{}}
	c.b = make([]byte, 0, len(r.Body)+512)
	if err := c.write(r); err != nil {
		return nil, nil, err
	}
	return c.b, c.about, nil
}

// A responseReader writes a request for chat while it reads one for the Responses API.
type responseReader struct {
	writer
	options ChatOptions
	about   *ResponseRequest
	tools   toolList
}

// translatedMembers are the members of the Responses API that chat does not have, or has in another form. All others mean the same there,
// or are left to the server, which may have parameters of its own.
var translatedMembers = []string{
	"input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "text", "reasoning", "include", "top_logprobs",
	"stream_options", "n", "prompt", "moderation",
	// These have no effect on an answer that is neither stored nor made with tools of a service.
	"store", "metadata", "client_metadata", "truncation", "max_tool_calls", "background", "background_options", "context_management", "image",
	"access_programs", "previous_response_id", "conversation",
}

// refusedMembers are members without which the answer would lack what the client relies on.
var refusedMembers = []struct{ name, why string }{
	{"previous_response_id", "the server of this model stores no responses; send the whole conversation as input"},
	{"conversation", "the server of this model stores no conversations; send the whole conversation as input"},
	{"prompt", "the server of this model stores no prompts; send instructions and input"},
	{"background", "the server of this model does not answer in the background; leave it out, and stream the answer"},
	{"moderation", "the server of this model does not moderate; leave it out"},
}

// movedMembers are members of chat that have another name in the Responses API, as OpenAI says in its errors.
var movedMembers = []struct{ name, to string }{
	{"messages", "input"}, {"max_tokens", "max_output_tokens"}, {"max_completion_tokens", "max_output_tokens"}, {"response_format", "text.format"},
	{"reasoning_effort", "reasoning.effort"}, {"verbosity", "text.verbosity"}, {"logprobs", "include"}, {"functions", "tools"},
	{"function_call", "tool_choice"},
}

func (c *responseReader) write(r *jsonspan.Object) *openai.Error {
	v := present(r)
	for _, m := range refusedMembers {
		if value := v[m.name]; value != nil && !isEmpty(value) && string(value) != "false" {
			return invalid(m.name, m.why)
		}
	}
	for _, m := range movedMembers {
		if v[m.name] != nil {
			return invalid(m.name, "the Responses API has "+m.to+" instead")
		}
	}
	if n := v["n"]; n != nil && string(n) != "1" {
		return invalid("n", "the Responses API gives one answer; leave it out, and send the request several times")
	}
	c.raw("{")
	for _, m := range r.Members {
		key, value := m.Key.Of(r.Body), m.Value.Of(r.Body)
		if !jsonspan.IsNull(value) && !slices.Contains(translatedMembers, string(jsonspan.Unescape(key))) {
			c.comma()
			c.b = append(append(append(append(c.b, '"'), key...), `":`...), value...)
		}
	}
	if string(v["stream"]) == "true" {
		c.member("stream_options", []byte(`{"include_usage":true}`))
	}
	if limit := v["max_output_tokens"]; limit != nil {
		if n, err := strconv.Atoi(string(limit)); err != nil || n < 1 {
			return invalid("max_output_tokens", fmt.Sprintf("must be a whole number of at least 1, not %.40s", limit))
		}
		c.member("max_tokens", limit)
	}
	if err := c.format(get(v["text"], "format")); err != nil {
		return err
	}
	c.logprobs(v)
	if err := c.conversation(v); err != nil {
		return err
	}
	c.raw("}")
	c.about.Echo = appendEcho(make([]byte, 0, 512+len(v["tools"])+len(v["instructions"])), v)
	return nil
}

// conversation writes the messages and the tools.
func (c *responseReader) conversation(v map[string][]byte) *openai.Error {
	choice := v["tool_choice"]
	if jsonspan.EqualString(get(choice, "type"), "allowed_tools") {
		c.tools.allowed = get(choice, "tools")
	}
	c.tools.about = c.about
	if list := v["tools"]; list != nil {
		if err := c.tools.add(list, "tools"); err != nil {
			return err
		}
	}
	c.tools.loading = true
	input := conversationReader{options: c.options, tools: &c.tools, effort: get(v["reasoning"], "effort"), verbosity: get(v["text"], "verbosity")}
	input.messages.b = make([]byte, 0, len(v["input"])+256)
	if err := input.read(v["instructions"], v["input"]); err != nil {
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
		if parallel := v["parallel_tool_calls"]; parallel != nil { // OpenAI refuses it without tools
			c.member("parallel_tool_calls", parallel)
		}
	}
	return c.choice(choice)
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
func (c *responseReader) logprobs(v map[string][]byte) {
	top := v["top_logprobs"]
	wanted := top != nil && string(top) != "0"
	_ = jsonspan.EachElement(v["include"], func(name []byte) bool { // most requests include nothing
		wanted = wanted || jsonspan.EqualString(name, "message.output_text.logprobs")
		return true
	})
	if !wanted {
		return
	}
	c.member("logprobs", []byte("true"))
	if top != nil {
		c.member("top_logprobs", top)
	}
}

// choice writes which tools the model may or must call.
func (c *responseReader) choice(choice []byte) *openai.Error {
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
func appendEcho(b []byte, v map[string][]byte) []byte {
	w := writer{append(b, `"background":false,"previous_response_id":null,"store":false`...)}
	for _, m := range echoed {
		if value := v[m.name]; value != nil {
			w.member(m.name, value)
		} else {
			w.key(m.name)
			w.raw(m.otherwise)
		}
	}
	for i := range w.b {
		if w.b[i] == '\n' || w.b[i] == '\r' { // white space: strings have escapes
			w.b[i] = ' '
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
	_ = jsonspan.EachElement(input, func(item []byte) bool { // the request has been read
		if !bytes.HasPrefix(get(item, "encrypted_content"), []byte(`"`+ownReasoning)) {
			w.comma()
			w.b = append(w.b, item...)
		}
		return true
	})
	return append(w.b, ']')
}
