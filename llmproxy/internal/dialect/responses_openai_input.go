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

// A conversationReader writes the messages of a chat while it reads the items of the Responses API. There, each text and each call of an
// answer is an item of its own; in a chat they are one message, which the outputs of its calls must follow.
type conversationReader struct {
	options ChatOptions
	tools   *toolList
	// effort and verbosity are settings of the request, which an item may change.
	effort, verbosity []byte

	system   []byte // the text of the system message, raw. Many templates allow one, and only as the first message.
	messages writer // all others
	turn     assistantTurn
	calls    []openItem // that have no output yet
	// held waits until the calls have their outputs, and so does images: the parts of outputs that only users can have.
	held, images writer
}

// An openItem is an item with a call that has no output yet.
type openItem struct{ callID, id string }

// An assistantTurn is what the model said in one answer.
type assistantTurn struct {
	text, refusal []byte // raw; nil if absent
	calls         []turnCall
	reasoning     [4][]byte // the values of reasoningMembers except for the last, without quotes or brackets
	texts         [4]bool   // which of them are strings
	extra         []byte    // the elements of the last
}

// A turnCall is a tool call of the model.
type turnCall struct {
	id        []byte // a string, as JSON
	name      string
	arguments []byte // a string, as JSON
}

// An item is an item of the input. Members that are null count as absent.
type item struct {
	kind, role, content, id, callID, name, namespace, output, tools []byte
	argument                                                        []byte // of a call; see callItems
	encrypted, execution, status, effort, verbosity                 []byte
}

func readItem(value []byte) (i item) {
	jsonspan.Members(value, func(key, value []byte) bool { // what is no object has no members
		if jsonspan.IsNull(value) {
			return true
		}
		switch string(key) {
		case "type":
			i.kind = value
		case "role":
			i.role = value
		case "content":
			i.content = value
		case "id":
			i.id = value
		case "call_id":
			i.callID = value
		case "name":
			i.name = value
		case "namespace":
			i.namespace = value
		case "arguments", "input", "action", "operation":
			i.argument = value
		case "output":
			i.output = value
		case "tools":
			i.tools = value
		case "encrypted_content":
			i.encrypted = value
		case "execution":
			i.execution = value
		case "status":
			i.status = value
		case "reasoning":
			i.effort = get(value, "effort")
		case "text":
			i.verbosity = get(value, "verbosity")
		}
		return true
	})
	return i
}

// read reads the instructions and the input.
func (c *conversationReader) read(instructions, input []byte) *openai.Error {
	if instructions != nil {
		raw, ok := jsonspan.RawString(instructions)
		if !ok {
			return invalid("instructions", "must be a string")
		}
		c.addSystem(raw)
	}
	switch {
	case input == nil:
		return invalid("input", "is missing; send a string or a list of items")
	case input[0] == '"':
		c.user(nil, input)
		return nil
	}
	i := -1
	var problem *openai.Error
	isList := jsonspan.Elements(input, func(value []byte) bool {
		i++
		place := "input." + strconv.Itoa(i)
		if value[0] != '{' {
			problem = invalid(place, "must be an object with a type")
			return false
		}
		problem = c.add(readItem(value), place)
		return problem == nil
	})
	switch {
	case problem != nil:
		return problem
	case !isList:
		return invalid("input", "must be a string or a list of items")
	case i < 0:
		return invalid("input", "is empty; send at least one item")
	}
	return nil
}

// leftOut are the items of tools that ran at a service. What the model made of them is in the texts that follow.
var leftOut = []string{
	"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_list_tools", "mcp_call", "mcp_approval_request",
	"program", "program_output",
}

// refusedItems are the items without which the model would not know what the client relies on.
var refusedItems = map[string]string{
	"item_reference":        "the server of this model stores no items; send the item itself, as SDKs do with store: false",
	"compaction":            "only the service that compacted this conversation can read it; send its items",
	"compaction_summary":    "only the service that compacted this conversation can read it; send its items",
	"context_compaction":    "only the service that compacted this conversation can read it; send its items",
	"compaction_trigger":    "the server of this model does not compact conversations; ask for a summary, and go on with that",
	"mcp_approval_response": "the server of this model does not call MCP servers; offer the model a function",
	"computer_call":         "this model cannot use a computer",
	"computer_call_output":  "this model cannot use a computer",
}

func (c *conversationReader) add(i item, place string) *openai.Error {
	kind := str(i.kind)
	if kind == "" && i.role != nil {
		kind = "message"
	} else if kind == "" && i.id != nil {
		kind = "item_reference"
	}
	switch kind {
	case "message":
		return c.message(i, place)
	case "agent_message": // of another agent of Codex
		return c.userContent(i.content, place+".content")
	case "reasoning":
		c.reasoning(i)
		return nil
	case "additional_tools":
		return c.tools.add(i.tools, place+".tools")
	case "configuration_update":
		if i.effort != nil {
			c.effort = i.effort
		}
		if i.verbosity != nil {
			c.verbosity = i.verbosity
		}
		return nil
	case "tool_search_call", "tool_search_output":
		if !jsonspan.EqualString(i.execution, "client") {
			return nil // the model has all tools
		}
	}
	for k, items := range callItems {
		switch kind {
		case items.call:
			return c.call(toolKind(k), i, place)
		case items.output:
			return c.output(toolKind(k), i, place)
		}
	}
	if slices.Contains(leftOut, kind) {
		return nil
	}
	if why, ok := refusedItems[kind]; ok {
		return invalid(place, why)
	}
	return invalid(place+".type", fmt.Sprintf("an item of type %.60q cannot be translated for this model", kind))
}

func (c *conversationReader) message(i item, place string) *openai.Error {
	if i.content == nil || i.content[0] != '"' && i.content[0] != '[' {
		return invalid(place+".content", "must be a string or a list of parts")
	}
	switch role := str(i.role); role {
	case "user":
		return c.userContent(i.content, place+".content")
	case "assistant":
		return c.assistant(i.content, place+".content")
	case "system", "developer":
		if raw, ok := jsonspan.RawString(i.content); ok {
			c.addSystem(raw)
			return nil
		}
		return eachBlock(i.content, place+".content", func(kind string, part []byte, place string) *openai.Error {
			raw, ok := jsonspan.RawString(get(part, "text"))
			if !ok || kind != "input_text" && kind != "output_text" {
				return invalid(place, "only text can be part of the system prompt")
			}
			c.addSystem(raw)
			return nil
		})
	default:
		return invalid(place+".role", fmt.Sprintf("%.40q is no role; use user, assistant, system or developer", role))
	}
}

// addSystem adds a text to the system message. Texts are separated by an empty line.
func (c *conversationReader) addSystem(raw []byte) {
	if len(raw) == 0 {
		return
	}
	if c.system != nil {
		c.system = append(c.system, `\n\n`...)
	}
	c.system = append(c.system, raw...)
}

// userContent writes a user's message with a content, which is a string or a list of parts.
func (c *conversationReader) userContent(content []byte, place string) *openai.Error {
	if len(content) > 0 && content[0] == '"' {
		c.user(nil, content)
		return nil
	}
	var parts writer
	var only []byte
	n := 0
	if err := eachBlock(content, place, func(kind string, part []byte, place string) *openai.Error {
		if n++; kind == "input_text" || kind == "output_text" {
			only = get(part, "text")
		}
		return c.addPart(&parts, kind, part, place)
	}); err != nil {
		return err
	}
	switch {
	case n == 0:
		only = []byte(`""`) // OpenAI refuses an empty list
	case n > 1:
		only = nil
	}
	c.user(parts.b, only) // some servers understand only strings
	return nil
}

// user writes a user's message: its parts, or its only text.
func (c *conversationReader) user(parts, text []byte) {
	c.endTurn()
	to := &c.messages
	if len(c.calls) > 0 {
		to = &c.held
	} else if c.release(); len(c.images.b) > 0 { // images of outputs come first
		if text != nil {
			parts = append(append([]byte(`{"type":"text","text":`), text...), '}')
		}
		parts, text = slices.Concat(c.images.b, []byte(","), parts), nil
		c.images.b = c.images.b[:0]
	}
	to.comma()
	to.raw(`{"role":"user","content":`)
	if text != nil {
		to.b = append(append(to.b, text...), '}')
	} else {
		to.b = append(append(append(to.b, '['), parts...), "]}"...)
	}
}

// release writes what waited for the outputs of calls.
func (c *conversationReader) release() {
	if len(c.held.b) == 0 {
		return
	}
	c.flushImages()
	c.messages.comma()
	c.messages.b = append(c.messages.b, c.held.b...)
	c.held.b = c.held.b[:0]
}

// flushImages writes the images of outputs as a user's message.
func (c *conversationReader) flushImages() {
	if len(c.images.b) > 0 {
		c.messages.comma()
		c.messages.raw(`{"role":"user","content":[`)
		c.messages.b = append(append(c.messages.b, c.images.b...), "]}"...)
		c.images.b = c.images.b[:0]
	}
}

// begin begins something that the assistant says, after everything that waited.
func (c *conversationReader) begin() {
	c.release()
	c.flushImages()
}

// assistant adds a message to the turn.
func (c *conversationReader) assistant(content []byte, place string) *openai.Error {
	c.begin()
	first := true
	add := func(to *[]byte, raw []byte) {
		if first && len(*to) > 0 { // of another item
			*to = append(*to, `\n\n`...)
		}
		first = false
		*to = append(nonNil(*to), raw...)
	}
	if raw, ok := jsonspan.RawString(content); ok {
		add(&c.turn.text, raw)
		return nil
	}
	return eachBlock(content, place, func(kind string, part []byte, place string) *openai.Error {
		switch kind {
		case "output_text", "input_text":
			raw, ok := jsonspan.RawString(get(part, "text"))
			if !ok {
				return invalid(place+".text", "must be a string")
			}
			add(&c.turn.text, raw)
		case "refusal":
			raw, ok := jsonspan.RawString(get(part, "refusal"))
			if !ok {
				return invalid(place+".refusal", "must be a string")
			}
			add(&c.turn.refusal, raw)
		default:
			return invalid(place+".type", fmt.Sprintf("a part of type %.40q cannot be part of the assistant's message", kind))
		}
		return nil
	})
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// reasoning adds reasoning to the turn: what the gateway has made of a chat message, or else the text of a server that shows it. What a
// service has encrypted is left out.
func (c *conversationReader) reasoning(i item) {
	c.begin()
	if i.encrypted != nil {
		if members, ok := decodeReasoning(str(i.encrypted)); ok {
			jsonspan.Members(slices.Concat([]byte("{"), members, []byte("}")), func(key, value []byte) bool { // it is an object
				c.turn.addReasoning(slices.Index(reasoningMembers, string(key)), value)
				return true
			})
			return
		}
	}
	jsonspan.Elements(i.content, func(part []byte) bool { // most reasoning has no content
		if text := get(part, "text"); isText(text) {
			c.turn.addReasoning(0, text)
		}
		return true
	})
}

// addReasoning adds the value of one of reasoningMembers, which is a string or a list. Those of several items are joined.
func (t *assistantTurn) addReasoning(member int, value []byte) {
	inner, isString := jsonspan.RawString(value)
	switch {
	case isString && member < len(t.reasoning):
		if !t.texts[member] {
			t.reasoning[member], t.texts[member] = nil, true
		}
		t.reasoning[member] = append(t.reasoning[member], inner...)
	case value[0] != '[':
	case member == len(t.reasoning):
		t.extra = joinElements(t.extra, value)
	default:
		if t.texts[member] {
			t.reasoning[member], t.texts[member] = nil, false
		}
		t.reasoning[member] = joinElements(t.reasoning[member], value)
	}
}

// joinElements appends the elements of a list to others.
func joinElements(elements, list []byte) []byte {
	more := bytes.TrimSpace(list[1 : len(list)-1])
	if len(elements) > 0 && len(more) > 0 {
		elements = append(elements, ',')
	}
	return append(elements, more...)
}

// call adds a call to the turn.
func (c *conversationReader) call(kind toolKind, i item, place string) *openai.Error {
	c.begin()
	id := i.callID
	if id == nil && kind == localShellTool { // which is how Codex may have it
		id = i.id
	}
	t := responseTool{kind: kind, namespace: namespaceOf(i.namespace), name: str(i.name)}
	if kind > customTool {
		t.namespace, t.name = "", toolTypes[kind]
	}
	switch {
	case !isText(id):
		return invalid(place+".call_id", "is missing; each call has an ID, which its output repeats")
	case t.name == "":
		return invalid(place+".name", "is missing")
	case slices.ContainsFunc(c.calls, func(call openItem) bool { return call.callID == str(id) }):
		return invalid(place+".call_id", fmt.Sprintf("another call without an output has the ID %.80q, too", str(id)))
	}
	arguments, err := chatArguments(kind, i.argument, place)
	if err != nil {
		return err
	}
	c.turn.calls = append(c.turn.calls, turnCall{id: id, name: c.tools.about.nameOf(t), arguments: arguments})
	c.calls = append(c.calls, openItem{callID: str(id), id: str(i.id)})
	return nil
}

// chatArguments returns the arguments of a function for those of a call's item, as a JSON string.
func chatArguments(kind toolKind, argument []byte, place string) ([]byte, *openai.Error) {
	place += "." + callItems[kind].argument
	switch {
	case argument == nil:
		return nil, invalid(place, "is missing")
	case kind == customTool && argument[0] == '"':
		return jsonspan.AppendString(nil, `{"`+customInput+`":`+string(argument)+`}`), nil
	case kind == functionTool && argument[0] == '"':
		return argument, nil
	case kind == customTool:
		return nil, invalid(place, "must be a string")
	case argument[0] != '{':
		return nil, invalid(place, "must be an object")
	case kind != localShellTool:
		return jsonspan.AppendString(nil, string(argument)), nil
	}
	w := writer{[]byte{'{'}}
	jsonspan.Members(argument, func(key, value []byte) bool { // it is an object
		if string(key) != "type" && !jsonspan.IsNull(value) { // there is one type
			w.comma()
			w.b = append(append(append(append(w.b, '"'), key...), `":`...), value...)
		}
		return true
	})
	return jsonspan.AppendString(nil, string(append(w.b, '}'))), nil
}

// output writes the output of a call.
func (c *conversationReader) output(kind toolKind, i item, place string) *openai.Error {
	id, itemID := str(i.callID), ""
	if id == "" && kind == localShellTool { // which is how OpenAI's SDKs have it
		id, itemID = str(i.id), str(i.id)
	}
	n := slices.IndexFunc(c.calls, func(call openItem) bool { return call.callID == id || itemID != "" && call.id == itemID })
	switch {
	case id == "":
		return invalid(place+".call_id", "is missing; an output repeats the ID of its call")
	case n < 0:
		return invalid(place+".call_id", fmt.Sprintf("no item before this one calls a tool with the ID %.80q and waits for an output", id))
	}
	var text writer
	switch {
	case kind == toolSearchTool:
		if err := c.loadTools(&text, i.tools, place); err != nil {
			return err
		}
	case kind == shellTool && i.output != nil: // for each command, what it wrote and how it ended
		text.b = jsonspan.AppendString(nil, string(i.output))
		text.b = text.b[1 : len(text.b)-1]
	case kind == applyPatchTool && !isText(i.output):
		raw, _ := jsonspan.RawString(i.status)
		text.b = append(text.b, raw...)
	default:
		if err := c.outputContent(&text, i.output, place+".output"); err != nil {
			return err
		}
	}
	c.endTurn()
	c.messages.comma()
	c.messages.raw(`{"role":"tool"`)
	c.messages.text("tool_call_id", c.calls[n].callID)
	c.messages.key("content")
	c.messages.raw(`"`)
	if kind == applyPatchTool && jsonspan.EqualString(i.status, "failed") && isText(i.output) {
		c.messages.raw(`Error: `)
	}
	c.messages.b = append(append(c.messages.b, text.b...), `"}`...)
	c.calls = slices.Delete(c.calls, n, n+1)
	return nil
}

// outputContent writes the texts of an output, which is a string or a list of parts. The other parts wait for the next message of a user.
func (c *conversationReader) outputContent(text *writer, output []byte, place string) *openai.Error {
	switch {
	case output == nil:
		return invalid(place, "is missing")
	case output[0] == '"':
		text.b = append(text.b, output[1:len(output)-1]...)
		return nil
	case output[0] != '[':
		return invalid(place, "must be a string or a list of parts")
	}
	return eachBlock(output, place, func(kind string, part []byte, place string) *openai.Error {
		if kind != "input_text" && kind != "output_text" {
			return c.addPart(&c.images, kind, part, place)
		}
		return text.addLine(part, place)
	})
}

// loadTools adds the tools that a search of the client has found, and writes their names.
func (c *conversationReader) loadTools(text *writer, tools []byte, place string) *openai.Error {
	before := len(c.tools.names)
	if tools != nil {
		if err := c.tools.add(tools, place+".tools"); err != nil {
			return err
		}
	}
	names := c.tools.names[before:]
	if len(names) == 0 {
		text.raw("No other tool was found.")
		return nil
	}
	text.raw("These tools can be called now: " + strings.Join(names, ", "))
	return nil
}

// addPart adds a part of a content as a part of a user's message.
func (c *conversationReader) addPart(parts *writer, kind string, part []byte, place string) *openai.Error {
	switch kind {
	case "input_text", "output_text":
		raw, ok := jsonspan.RawString(get(part, "text"))
		if !ok {
			return invalid(place+".text", "must be a string")
		}
		addText(parts, raw)
		return nil
	case "input_image":
		return c.addImage(parts, part, place)
	case "input_file":
		return addFile(parts, part, place)
	case "input_audio":
		return addAudio(parts, part, place)
	}
	return invalid(place+".type", fmt.Sprintf("a part of type %.40q cannot be translated for this model; use input_text, input_image, input_file or input_audio", kind))
}

const storedFile = "the server of this model stores no files; send the file itself in "

func (c *conversationReader) addImage(parts *writer, part []byte, place string) *openai.Error {
	var v [3][]byte
	object(part, []string{"image_url", "detail", "file_id"}, v[:])
	url := str(v[0])
	switch {
	case url == "" && v[2] != nil:
		return invalid(place+".file_id", storedFile+"image_url")
	case strings.HasPrefix(url, "data:"):
	case !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://"):
		return invalid(place+".image_url", "the URL of an image must begin with https:// or data:")
	case c.options.Inline:
		return invalid(place+".image_url", "the server of this model does not fetch images; send the image as a data: URL")
	}
	if len(parts.b) > 0 {
		parts.raw(",")
	}
	parts.raw(`{"type":"image_url","image_url":{`)
	parts.member("url", v[0])
	switch detail := str(v[1]); detail {
	case "low", "high":
		parts.member("detail", v[1])
	case "original": // which chat does not have
		parts.text("detail", "high")
	}
	parts.raw("}}")
	return nil
}

func addFile(parts *writer, part []byte, place string) *openai.Error {
	var v [4][]byte
	object(part, []string{"file_data", "filename", "file_url", "file_id"}, v[:])
	switch {
	case isText(v[0]):
	case v[2] != nil:
		return invalid(place+".file_url", "the server of this model does not fetch files; send the file itself in file_data")
	case v[3] != nil:
		return invalid(place+".file_id", storedFile+"file_data")
	default:
		return invalid(place+".file_data", "is missing; send the file as a data: URL")
	}
	if len(parts.b) > 0 {
		parts.raw(",")
	}
	parts.raw(`{"type":"file","file":{`)
	if v[1] != nil {
		parts.member("filename", v[1])
	}
	parts.member("file_data", v[0])
	parts.raw("}}")
	return nil
}

// audioFormats are the formats of audio by the media types in data: URLs.
var audioFormats = map[string]string{"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}

func addAudio(parts *writer, part []byte, place string) *openai.Error {
	var v [2][]byte
	object(part, []string{"input_audio", "audio_url"}, v[:])
	if v[0] == nil { // as Codex sends it
		media, data, ok := dataURL(str(v[1]))
		format := audioFormats[media]
		if !ok || format == "" {
			return invalid(place+".input_audio", "is missing; send data in base64, and wav or mp3 as the format")
		}
		w := writer{[]byte{'{'}}
		w.text("data", data)
		w.text("format", format)
		v[0] = append(w.b, '}')
	}
	if len(parts.b) > 0 {
		parts.raw(",")
	}
	parts.raw(`{"type":"input_audio"`)
	parts.member("input_audio", v[0])
	parts.raw("}")
	return nil
}

// endTurn writes the assistant's message. Reasoning without anything that follows from it is left out.
func (c *conversationReader) endTurn() {
	t := &c.turn
	if t.text != nil || t.refusal != nil || len(t.calls) > 0 {
		m := &c.messages
		m.comma()
		m.raw(`{"role":"assistant"`)
		if len(t.text) > 0 || len(t.calls) == 0 {
			m.rawText("content", t.text)
		} else {
			m.member("content", []byte("null"))
		}
		if t.refusal != nil {
			m.rawText("refusal", t.refusal)
		}
		c.writeReasoning(m)
		if len(t.calls) > 0 {
			c.writeCalls(m)
		}
		m.raw("}")
	}
	c.turn = assistantTurn{calls: t.calls[:0]}
}

// writeReasoning writes the reasoning of the turn as far as the server takes it back.
func (c *conversationReader) writeReasoning(m *writer) {
	options := c.options
	for i, inner := range c.turn.reasoning {
		name := reasoningMembers[i]
		if len(inner) == 0 || name == "thinking_blocks" && !options.Signed || name != "thinking_blocks" && !options.Reasoning {
			continue
		}
		if c.turn.texts[i] {
			m.rawText(name, inner)
		} else {
			m.key(name)
			m.b = append(append(append(m.b, '['), inner...), ']')
		}
	}
}

func (c *conversationReader) writeCalls(m *writer) {
	m.key("tool_calls")
	m.raw("[")
	for _, call := range c.turn.calls {
		m.comma()
		m.raw("{")
		m.member("id", call.id)
		m.raw(`,"type":"function","function":{`)
		m.text("name", call.name)
		m.member("arguments", call.arguments)
		m.raw("}")
		if extra := c.turn.extraOf(str(call.id)); extra != nil && c.options.Extra {
			m.member("extra_content", extra)
		}
		m.raw("}")
	}
	m.raw("]")
}

// extraOf returns the extra_content of a call, or nil.
func (t *assistantTurn) extraOf(id string) (extra []byte) {
	if len(t.extra) == 0 {
		return nil
	}
	jsonspan.Elements(slices.Concat([]byte("["), t.extra, []byte("]")), func(call []byte) bool { // it is a list
		if str(get(call, "id")) == id {
			extra = get(call, "extra_content")
		}
		return extra == nil
	})
	return extra
}

// appendTo writes all messages.
func (c *conversationReader) appendTo(w *writer) {
	c.endTurn()
	c.begin()
	if c.system != nil {
		w.raw(`{"role":"system"`)
		w.rawText("content", c.system)
		w.raw("}")
	}
	if len(c.messages.b) > 0 {
		w.comma()
		w.b = append(w.b, c.messages.b...)
	}
}
