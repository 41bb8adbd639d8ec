package dialect

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// ChatOptions is what a translated request has to say in the way of the server that gets it.
type ChatOptions struct {
	// TopK means that the server knows top_k.
	TopK bool
	// Reasoning means that the server takes reasoning_content back in messages of the assistant.
	Reasoning bool
	// Counting means that only the prompt is of interest, so that max_tokens may be missing.
	Counting bool
	// Signed keeps what only Anthropic's API understands, because the request may still go there: thinking with its signature, tools that
	// run there, and files that are stored there.
	Signed bool
	// Inline means that the server does not fetch images, so that they must be part of the request.
	Inline bool
	// Ollama means that the request will reach an Ollama server or be translated again: what only Ollama has is kept.
	Ollama bool
	// Extra means that the server takes the extra_content of tool calls back. Others may refuse it.
	Extra bool
	// Model is the model of requests that cannot name one.
	Model string
}

// AllOptions keep everything of a request. The pipeline reads it in this form; each upstream gets it in its own.
var AllOptions = ChatOptions{TopK: true, Reasoning: true, Signed: true, Ollama: true, Extra: true}

// ChatFromMessages translates a request for Anthropic's Messages API to OpenAI's chat completions. The names of tools that OpenAI
// does not allow are shortened; the answer must be translated with the same names.
func ChatFromMessages(r *jsonspan.Object, o ChatOptions) (body []byte, names *ToolNames, err *openai.Error) {
	c := chatWriter{options: o}
	c.b = make([]byte, 0, len(r.Body)+256)
	if err := c.write(r); err != nil {
		return nil, nil, err
	}
	if c.names.original != nil {
		names = &ToolNames{c.names.original}
	}
	return c.b, names, nil
}

type chatWriter struct {
	writer
	options ChatOptions
	names   ToolNames
	calls   []string // the IDs of the tool calls so far
	effort  []byte   // that output_config asks for
	schema  []byte   // of the answer
}

// droppedMembers have no meaning for other services, or do not change the answer.
var droppedMembers = []string{"cache_control", "service_tier", "inference_geo", "context_management", "anthropic_version", "anthropic_beta", "betas"}

func (c *chatWriter) write(r *jsonspan.Object) *openai.Error {
	var problem *openai.Error
	c.raw("{")
	var system, messages, tools, choice []byte
	stream := false
	for _, m := range r.Members {
		key, value := jsonspan.Unescape(m.Key.Of(r.Body)), m.Value.Of(r.Body)
		if jsonspan.IsNull(value) || slices.Contains(droppedMembers, string(key)) {
			continue
		}
		switch string(key) {
		case "model", "temperature", "top_p":
			c.member(string(key), value)
		case "stream":
			c.member(string(key), value)
			stream = string(value) == "true"
		case "system":
			system = value
		case "messages":
			messages = value
		case "tools":
			tools = value
		case "tool_choice":
			choice = value
		case "max_tokens":
			if n, err := strconv.Atoi(string(value)); err != nil || n < 1 {
				problem = invalid("max_tokens", fmt.Sprintf("must be a whole number of at least 1, not %.40s", value))
			}
			c.member(string(key), value)
		case "stop_sequences":
			if err := eachString(value, "stop_sequences", func([]byte) {}); err != nil {
				return err
			}
			c.member("stop", value)
		case "top_k":
			if c.options.TopK {
				c.member(string(key), value)
			}
		case "metadata":
			if user := get(value, "user_id"); isText(user) {
				c.member("user", user)
			}
		case "thinking": // the upstream knows how its servers are told
			c.member(string(key), value)
		case "output_config":
			c.output(value)
		case "output_format": // the name of output_config.format in a beta
			c.format(value)
		case "mcp_servers", "container":
			switch {
			case isEmpty(value):
			case c.options.Signed:
				c.member(string(key), value)
			default:
				problem = invalid(string(key), "only Anthropic's own API has this; send the request to a model there, or leave it out")
			}
		}
		if problem != nil {
			return problem
		}
	}
	if _, ok := r.Get("max_tokens"); !ok && !c.options.Counting {
		return invalid("max_tokens", "is missing; say how many tokens the answer may have")
	}
	if stream {
		c.member("stream_options", []byte(`{"include_usage":true}`))
	}
	if c.effort != nil {
		c.member("reasoning_effort", c.effort)
	}
	if c.schema != nil {
		c.key("response_format")
		c.raw(`{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":`)
		c.b = append(append(c.b, c.schema...), "}}"...)
	}
	if err := c.tools(tools, choice); err != nil {
		return err
	}
	c.key("messages")
	c.raw("[")
	if err := c.system(system, "system"); err != nil {
		return err
	}
	if err := c.messages(messages); err != nil {
		return err
	}
	c.raw("]}")
	return nil
}

func isEmpty(value []byte) bool {
	switch string(value) {
	case "null", "[]", "{}", `""`:
		return true
	}
	return false
}

// billing begins a block that Claude Code adds for Anthropic's accounting. For other models it is noise that changes with every
// version, and makes them read the whole prompt again.
var billing = []byte(`"x-anthropic-billing-header:`)

func (c *chatWriter) system(value []byte, place string) *openai.Error {
	switch {
	case value == nil:
		return nil
	case value[0] == '"':
		if isText(value) && !bytes.HasPrefix(value, billing) {
			c.message("system")
			c.member("content", value)
			c.raw("}")
		}
		return nil
	case value[0] != '[':
		return invalid(place, "must be a string or a list of text blocks")
	}
	var text []byte
	problem := eachBlock(value, place, func(kind string, block []byte, place string) *openai.Error {
		if kind != "text" {
			return invalid(place, fmt.Sprintf("a block of type %q cannot be part of the system prompt; use text", kind))
		}
		raw, ok := jsonspan.RawString(get(block, "text"))
		if !ok {
			return invalid(place+".text", "must be a string")
		}
		if len(raw) == 0 || bytes.HasPrefix(raw, billing[1:]) {
			return nil
		}
		if text != nil {
			text = append(text, `\n\n`...)
		}
		text = append(text, raw...)
		return nil
	})
	if problem != nil || text == nil {
		return problem
	}
	c.message("system")
	c.rawText("content", text)
	c.raw("}")
	return nil
}

// eachString visits the strings of a list.
func eachString(list []byte, place string, visit func(s []byte)) *openai.Error {
	good := true
	isList := jsonspan.Elements(list, func(s []byte) bool {
		if good = s[0] == '"'; good {
			visit(s)
		}
		return good
	})
	if !isList || !good {
		return invalid(place, "must be a list of strings")
	}
	return nil
}

// eachBlock visits the blocks of a list with their type and their place in the request.
func eachBlock(list []byte, place string, visit func(kind string, block []byte, place string) *openai.Error) (problem *openai.Error) {
	i := -1
	isList := jsonspan.Elements(list, func(block []byte) bool {
		i++
		at := place + "." + strconv.Itoa(i)
		kind := get(block, "type")
		if block[0] != '{' || !isText(kind) {
			problem = invalid(at, "must be an object with a type")
			return false
		}
		problem = visit(str(kind), block, at)
		return problem == nil
	})
	if !isList && problem == nil {
		return invalid(place, "must be a list")
	}
	return problem
}

func (c *chatWriter) messages(list []byte) *openai.Error {
	return eachMessage(list, func(message []byte, place string) *openai.Error {
		var v [2][]byte
		object(message, []string{"role", "content"}, v[:])
		role, content := str(v[0]), v[1]
		switch {
		case content == nil || content[0] != '"' && content[0] != '[':
			return invalid(place+".content", "must be a string or a list of blocks")
		case role == "user" && content[0] == '"', role == "assistant" && content[0] == '"':
			c.message(role)
			c.member("content", content)
			c.raw("}")
			return nil
		case role == "user":
			return c.user(content, place+".content")
		case role == "assistant":
			return c.assistant(content, place+".content")
		case role == "system": // newer versions of the API have it in the middle of a conversation
			return c.system(content, place+".content")
		}
		return invalid(place+".role", fmt.Sprintf("%.40q is no role; use user or assistant", role))
	})
}

// message begins a message.
func (c *chatWriter) message(role string) {
	c.comma()
	c.raw(`{"role":"` + role + `"`)
}

// user writes the results of tools, each of which is a message in OpenAI's format, and then the rest of a user's message.
func (c *chatWriter) user(content []byte, place string) *openai.Error {
	var parts writer // of the user's message
	results := 0
	problem := eachBlock(content, place, func(kind string, block []byte, place string) *openai.Error {
		if kind != "tool_result" {
			return c.addPart(&parts, kind, block, place)
		}
		results++
		return c.toolResult(block, place, &parts)
	})
	if problem != nil || len(parts.b) == 0 && results > 0 {
		return problem
	}
	c.message("user")
	if len(parts.b) == 0 {
		c.raw(`,"content":""}`) // OpenAI refuses an empty list
		return nil
	}
	c.key("content")
	c.b = append(append(append(c.b, '['), parts.b...), "]}"...)
	return nil
}

// toolResult writes a message with the result of a tool. Images in it become parts of the user's message, because OpenAI allows only
// text there.
func (c *chatWriter) toolResult(block []byte, place string, parts *writer) *openai.Error {
	var v [3][]byte
	object(block, []string{"tool_use_id", "content", "is_error"}, v[:])
	id, _ := decodeCall(str(v[0]))
	content := v[1]
	if !slices.Contains(c.calls, id) {
		return invalid(place+".tool_use_id", fmt.Sprintf("no message before this one has a tool_use with the ID %.80q", str(v[0])))
	}
	var text writer
	switch {
	case content == nil:
	case content[0] == '"':
		text.b = append(text.b, content[1:len(content)-1]...)
	default:
		if problem := eachBlock(content, place+".content", func(kind string, block []byte, place string) *openai.Error {
			if kind != "text" {
				return c.addPart(parts, kind, block, place)
			}
			return text.addLine(block, place)
		}); problem != nil {
			return problem
		}
	}
	c.message("tool")
	c.text("tool_call_id", id)
	c.key("content")
	c.raw(`"`)
	if string(v[2]) == "true" {
		c.raw(`Error: `)
	}
	c.b = append(append(c.b, text.b...), `"}`...)
	return nil
}

// addPart adds a block of a user's message as a part of OpenAI's.
func (c *chatWriter) addPart(parts *writer, kind string, block []byte, place string) *openai.Error {
	if c.options.Signed && isElsewhere(kind, block) {
		parts.comma()
		parts.b = append(parts.b, block...)
		return nil
	}
	switch kind {
	case "text":
		raw, ok := jsonspan.RawString(get(block, "text"))
		if !ok {
			return invalid(place+".text", "must be a string")
		}
		if len(raw) > 0 {
			addText(parts, raw)
		}
	case "image":
		return c.addImage(parts, get(block, "source"), place+".source")
	case "document":
		return c.addDocument(parts, block, place)
	case "search_result":
		addSearchResult(parts, block)
	}
	return nil // blocks that only Anthropic's own tools make are left out
}

// isElsewhere reports whether the content of a block is not in the request, and only Anthropic's API can fetch it.
func isElsewhere(kind string, block []byte) bool {
	switch source := str(get(get(block, "source"), "type")); kind {
	case "image":
		return source == "file"
	case "document":
		return source == "file" || source == "url"
	}
	return false
}

// addText adds a part of text, which is already escaped.
func addText(parts *writer, raw []byte) {
	if len(parts.b) > 0 {
		parts.raw(",")
	}
	parts.raw(`{"type":"text","text":"`)
	parts.b = append(append(parts.b, raw...), `"}`...)
}

func (c *chatWriter) addImage(parts *writer, source []byte, place string) *openai.Error {
	var v [3][]byte
	object(source, []string{"type", "data", "url"}, v[:])
	var url string
	switch kind := str(v[0]); kind {
	case "base64":
		data := str(v[1])
		media := imageType(data)
		if media == "" {
			return invalid(place+".data", notAnImage)
		}
		url = "data:" + media + ";base64," + data
	case "url":
		if url = str(v[2]); !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
			return invalid(place+".url", "must begin with https://")
		}
		if c.options.Inline {
			return invalid(place+".url", "the server of this model does not fetch images; send the image as base64")
		}
	default:
		return invalid(place, fmt.Sprintf("a source of type %.40q exists at Anthropic only; send the image as base64", kind))
	}
	if len(parts.b) > 0 {
		parts.raw(",")
	}
	parts.raw(`{"type":"image_url","image_url":{"url":`)
	parts.b = append(jsonspan.AppendString(parts.b, url), "}}"...)
	return nil
}

const pdf = "application/pdf"

func (c *chatWriter) addDocument(parts *writer, block []byte, place string) *openai.Error {
	var v [2][]byte
	object(block, []string{"source", "title"}, v[:])
	source, title := v[0], str(v[1])
	var s [4][]byte
	object(source, []string{"type", "media_type", "data", "content"}, s[:])
	switch kind := str(s[0]); kind {
	case "text":
		raw, ok := jsonspan.RawString(s[2])
		if !ok {
			return invalid(place+".source.data", "must be a string")
		}
		if len(raw) > 0 {
			addText(parts, raw)
		}
		return nil
	case "content":
		if s[3] != nil && s[3][0] == '"' {
			if isText(s[3]) {
				addText(parts, s[3][1:len(s[3])-1])
			}
			return nil
		}
		return eachBlock(s[3], place+".source.content", func(kind string, block []byte, place string) *openai.Error {
			return c.addPart(parts, kind, block, place)
		})
	case "base64":
		data := str(s[2])
		switch {
		case str(s[1]) != pdf:
			return invalid(place+".source.media_type", fmt.Sprintf("must be application/pdf, not %.60q", str(s[1])))
		case !isBase64(data):
			return invalid(place+".source.data", "is not valid base64")
		}
		if title == "" {
			title = "document.pdf"
		}
		if len(parts.b) > 0 {
			parts.raw(",")
		}
		parts.raw(`{"type":"file","file":{"filename":`)
		parts.b = jsonspan.AppendString(parts.b, title)
		parts.raw(`,"file_data":`)
		parts.b = append(jsonspan.AppendString(parts.b, "data:"+pdf+";base64,"+data), "}}"...)
		return nil
	default:
		return invalid(place+".source", fmt.Sprintf("a source of type %.40q exists at Anthropic only; send the document as text or base64", kind))
	}
}

func addSearchResult(parts *writer, block []byte) {
	var v [3][]byte
	object(block, []string{"title", "source", "content"}, v[:])
	text := strings.TrimSpace(str(v[0]) + "\n" + str(v[1]))
	jsonspan.Elements(v[2], func(part []byte) bool { // a result without content has no parts
		text += "\n" + str(get(part, "text"))
		return true
	})
	quoted := jsonspan.AppendString(nil, text)
	addText(parts, quoted[1:len(quoted)-1])
}

// assistant writes a message of the assistant: its text, its thinking and its tool calls.
func (c *chatWriter) assistant(content []byte, place string) *openai.Error {
	var text, thinking, signed, calls writer
	texts := 0
	problem := eachBlock(content, place, func(kind string, block []byte, place string) *openai.Error {
		switch kind {
		case "text":
			raw, ok := jsonspan.RawString(get(block, "text"))
			if !ok {
				return invalid(place+".text", "must be a string")
			}
			if len(raw) > 0 {
				if texts++; texts > 1 {
					text.raw(`\n\n`)
				}
				text.b = append(text.b, raw...)
			}
		case "thinking", "redacted_thinking":
			if c.options.Signed && isSigned(kind, block) {
				signed.comma()
				signed.b = append(signed.b, block...)
			}
			if raw, ok := jsonspan.RawString(get(block, "thinking")); ok && c.options.Reasoning {
				thinking.b = append(thinking.b, raw...)
			}
		case "tool_use":
			return c.toolUse(&calls, block, place)
		}
		return nil // blocks that only Anthropic's own tools make
	})
	if problem != nil {
		return problem
	}
	c.message("assistant")
	if texts > 0 || len(calls.b) == 0 {
		c.rawText("content", text.b)
	} else {
		c.member("content", []byte("null"))
	}
	if len(thinking.b) > 0 {
		c.rawText("reasoning_content", thinking.b)
	}
	if len(signed.b) > 0 {
		c.key("thinking_blocks")
		c.b = append(append(append(c.b, '['), signed.b...), ']')
	}
	if len(calls.b) > 0 {
		c.key("tool_calls")
		c.b = append(append(append(c.b, '['), calls.b...), ']')
	}
	c.raw("}")
	return nil
}

// isSigned reports whether Anthropic's API takes a block of thinking back.
func isSigned(kind string, block []byte) bool {
	switch kind {
	case "thinking":
		signature := get(block, "signature")
		return isText(signature) && !jsonspan.EqualString(signature, Unsigned)
	case "redacted_thinking":
		return true
	}
	return false
}

func (c *chatWriter) toolUse(calls *writer, block []byte, place string) *openai.Error {
	var v [3][]byte
	object(block, []string{"id", "name", "input"}, v[:])
	id, extra := decodeCall(str(v[0]))
	name, input := str(v[1]), v[2]
	switch {
	case id == "":
		return invalid(place+".id", "is missing; each tool_use has an ID, which its result repeats")
	case name == "":
		return invalid(place+".name", "is missing")
	case input == nil:
		input = []byte("{}")
	case input[0] != '{':
		return invalid(place+".input", "must be an object")
	}
	c.calls = append(c.calls, id)
	if len(calls.b) > 0 {
		calls.raw(",")
	}
	calls.raw(`{"id":`)
	calls.b = jsonspan.AppendString(calls.b, id)
	calls.raw(`,"type":"function","function":{"name":`)
	calls.b = jsonspan.AppendString(calls.b, c.names.allow(name))
	calls.raw(`,"arguments":`)
	calls.b = append(jsonspan.AppendString(calls.b, string(input)), '}')
	if extra != nil && c.options.Extra {
		calls.member("extra_content", extra)
	}
	calls.raw("}")
	return nil
}

func (c *chatWriter) tools(list, choice []byte) *openai.Error {
	if list != nil && !isEmpty(list) {
		c.key("tools")
		c.raw("[")
		i := -1
		var problem *openai.Error
		isList := jsonspan.Elements(list, func(tool []byte) bool {
			i++
			problem = c.tool(tool, "tools."+strconv.Itoa(i))
			return problem == nil
		})
		if !isList || problem != nil {
			if problem == nil {
				problem = invalid("tools", "must be a list")
			}
			return problem
		}
		c.raw("]")
	}
	if choice == nil || list == nil || isEmpty(list) {
		return nil
	}
	var v [3][]byte
	object(choice, []string{"type", "name", "disable_parallel_tool_use"}, v[:])
	switch kind := str(v[0]); kind {
	case "auto", "none":
		c.text("tool_choice", kind)
	case "any":
		c.text("tool_choice", "required")
	case "tool":
		if str(v[1]) == "" {
			return invalid("tool_choice.name", "is missing")
		}
		c.key("tool_choice")
		c.raw(`{"type":"function","function":{"name":`)
		c.b = append(jsonspan.AppendString(c.b, c.names.allow(str(v[1]))), "}}"...)
	default:
		return invalid("tool_choice.type", fmt.Sprintf("%.40q is unknown; use auto, any, tool or none", kind))
	}
	if string(v[2]) == "true" {
		c.member("parallel_tool_calls", []byte("false"))
	}
	return nil
}

func (c *chatWriter) tool(tool []byte, place string) *openai.Error {
	var v [5][]byte
	object(tool, []string{"name", "description", "input_schema", "type", "strict"}, v[:])
	name, kind := str(v[0]), str(v[3])
	switch {
	case kind != "" && kind != "custom" && c.options.Signed:
		c.comma()
		c.b = append(c.b, tool...)
		return nil
	case kind != "" && kind != "custom":
		return invalid(place+".type", fmt.Sprintf("the tool %.60q is part of Anthropic's own API; the model of this request does not have it", kind))
	case name == "":
		return invalid(place+".name", "is missing")
	}
	c.comma()
	c.raw(`{"type":"function","function":{`)
	c.text("name", c.names.allow(name))
	if v[1] != nil {
		c.member("description", v[1])
	}
	if v[2] != nil {
		c.member("parameters", v[2])
	}
	if v[4] != nil {
		c.member("strict", v[4])
	}
	c.raw("}}")
	return nil
}

// output translates output_config: the effort, and the schema of the answer.
func (c *chatWriter) output(value []byte) {
	var v [2][]byte
	object(value, []string{"effort", "format"}, v[:])
	if isText(v[0]) {
		c.effort = v[0]
	}
	c.format(v[1])
}

// format reads the schema of the answer.
func (c *chatWriter) format(value []byte) {
	var v [2][]byte
	object(value, []string{"type", "schema"}, v[:])
	if str(v[0]) == "json_schema" && v[1] != nil {
		c.schema = v[1]
	}
}

// WithoutUnsigned returns a list of messages without the thinking that has the signature Unsigned, which Anthropic's API refuses.
func WithoutUnsigned(messages []byte) []byte {
	w := writer{make([]byte, 0, len(messages))}
	w.raw("[")
	jsonspan.Elements(messages, func(message []byte) bool { // the upstream reports what is not a list
		var o jsonspan.Object
		content := get(message, "content")
		if content == nil || content[0] != '[' || !bytes.Contains(content, []byte(Unsigned)) || o.Scan(message) != nil {
			w.comma()
			w.b = append(w.b, message...)
			return true
		}
		kept := writer{[]byte{'['}}
		jsonspan.Elements(content, func(block []byte) bool { // it is a list
			if str(get(block, "signature")) != Unsigned {
				kept.comma()
				kept.b = append(kept.b, block...)
			}
			return true
		})
		if len(kept.b) == 1 {
			return true // the API refuses a message without content, too
		}
		var e jsonspan.Edit
		e.Reset(&o)
		e.Set("content", append(kept.b, ']'))
		w.comma()
		w.b = append(w.b, e.Bytes()...)
		return true
	})
	return append(w.b, ']')
}
