package dialect

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// DefaultMaxTokens is the limit of an answer if the request has none and the model's own limit is unknown. Anthropic's API demands one.
const DefaultMaxTokens = 4096

// MessagesFromChat translates a request for OpenAI's chat completions to Anthropic's Messages API. MaxTokens is the limit of the
// answer if the request has none.
func MessagesFromChat(r *jsonspan.Object, maxTokens int) ([]byte, *openai.Error) {
	m := messagesWriter{maxTokens: maxTokens}
	m.b = make([]byte, 0, len(r.Body)+256)
	if err := m.write(r); err != nil {
		return nil, err
	}
	return m.b, nil
}

type messagesWriter struct {
	writer
	maxTokens int
	system    []string
	// turn is the content of the message that is being written, for role. Messages of one role in a row become one message, because
	// all results of parallel tool calls must be in the message after the calls.
	role  string
	next  string // the role of the content that follows
	turn  writer
	turns int // that have been written
	// ids are the IDs of the tool calls so far.
	ids []string
}

func (m *messagesWriter) write(r *jsonspan.Object) *openai.Error {
	v := present(r)
	if err := refuse(v); err != nil {
		return err
	}
	m.raw("{")
	for _, name := range []string{"model", "stream"} {
		if value, ok := v[name]; ok {
			m.member(name, value)
		}
	}
	m.limit(v)
	if t, ok := v["temperature"]; ok {
		if f, err := strconv.ParseFloat(string(t), 64); err == nil && f > 1 { // OpenAI's range ends at 2
			t = []byte("1")
		}
		m.member("temperature", t)
	} else if p, ok := v["top_p"]; ok { // new models refuse both
		m.member("top_p", p)
	}
	if k, ok := v["top_k"]; ok {
		m.member("top_k", k)
	}
	if err := m.stop(v["stop"]); err != nil {
		return err
	}
	for _, name := range []string{"safety_identifier", "user"} {
		if user := v[name]; isText(user) {
			m.key("metadata")
			m.raw("{")
			m.member("user_id", user)
			m.raw("}")
			break
		}
	}
	m.output(v)
	if err := m.tools(v); err != nil {
		return err
	}
	m.key("messages")
	m.raw("[")
	if err := m.messages(v["messages"]); err != nil {
		return err
	}
	m.raw("]")
	if len(m.system) > 0 {
		m.key("system")
		m.raw("[")
		for _, text := range m.system {
			m.comma()
			m.raw(`{"type":"text","text":` + text + "}")
		}
		m.raw("]")
	}
	m.raw("}")
	return nil
}

// refuse returns an error for a request whose answer would lack what the client relies on.
func refuse(v map[string][]byte) *openai.Error {
	if n, ok := v["n"]; ok && string(n) != "1" {
		return invalid("n", "Claude's models give one answer at a time; leave it out, and send the request several times")
	}
	if bytes.Contains(v["modalities"], []byte(`"audio"`)) {
		return invalid("modalities", "this model cannot answer with audio; use text")
	}
	if v["web_search_options"] != nil {
		return invalid("web_search_options", "this model cannot search the web; leave it out")
	}
	if functions := v["functions"]; functions != nil && !isEmpty(functions) {
		return invalid("functions", "cannot be translated for this model; use tools, which replaced it")
	}
	return nil
}

// limit writes max_tokens, which Anthropic demands.
func (m *messagesWriter) limit(v map[string][]byte) {
	for _, name := range []string{"max_completion_tokens", "max_tokens"} {
		if value, ok := v[name]; ok {
			m.member("max_tokens", value)
			return
		}
	}
	limit := m.maxTokens
	if limit == 0 {
		limit = DefaultMaxTokens
	}
	m.number("max_tokens", int64(limit))
}

func (m *messagesWriter) stop(value []byte) *openai.Error {
	if value == nil {
		return nil
	}
	if value[0] == '"' {
		value = append(append([]byte{'['}, value...), ']')
	}
	var kept writer
	if err := eachString(value, "stop", func(s []byte) {
		if strings.TrimSpace(str(s)) != "" { // which Anthropic refuses
			kept.comma()
			kept.b = append(kept.b, s...)
		}
	}); err != nil {
		return err
	}
	if len(kept.b) > 0 {
		m.key("stop_sequences")
		m.b = append(append(append(m.b, '['), kept.b...), ']')
	}
	return nil
}

// output writes the effort and the schema of the answer.
func (m *messagesWriter) output(v map[string][]byte) {
	effort := str(v["reasoning_effort"])
	if think := v["think"]; think != nil { // Ollama's name
		if effort = str(think); string(think) == "false" {
			effort = "none"
		}
	}
	if t := v["thinking"]; t != nil && t[0] == '{' { // some services have it beside OpenAI's parameters, too
		m.member("thinking", t)
		if effort == "none" {
			effort = ""
		}
	}
	var f [2][]byte
	object(v["response_format"], []string{"type", "json_schema"}, f[:])
	var schema []byte
	if str(f[0]) == "json_schema" {
		schema = get(f[1], "schema")
	}
	switch effort {
	case "minimal":
		effort = "low"
	case "none":
		m.member("thinking", []byte(`{"type":"disabled"}`))
		effort = ""
	case "", "low", "medium", "high", "xhigh", "max":
	default:
		effort = ""
	}
	if effort == "" && schema == nil {
		return
	}
	m.key("output_config")
	m.raw("{")
	if effort != "" {
		m.text("effort", effort)
	}
	if schema != nil {
		m.key("format")
		m.raw(`{"type":"json_schema"`)
		m.member("schema", schema)
		m.raw("}")
	}
	m.raw("}")
}

func (m *messagesWriter) tools(v map[string][]byte) *openai.Error {
	list := v["tools"]
	if list == nil || isEmpty(list) {
		return nil
	}
	m.key("tools")
	m.raw("[")
	i := -1
	var problem *openai.Error
	isList := jsonspan.Elements(list, func(tool []byte) bool {
		i++
		var t [2][]byte
		object(tool, []string{"type", "function"}, t[:])
		if t[1] == nil {
			problem = invalid("tools."+strconv.Itoa(i), fmt.Sprintf("a tool of type %.40q cannot be translated for this model; use type function", str(t[0])))
			return false
		}
		var f [4][]byte
		object(t[1], []string{"name", "description", "parameters", "strict"}, f[:])
		if !isText(f[0]) {
			problem = invalid("tools."+strconv.Itoa(i)+".function.name", "is missing")
			return false
		}
		m.comma()
		m.raw("{")
		m.member("name", f[0])
		if f[1] != nil {
			m.member("description", f[1])
		}
		m.member("input_schema", inputSchema(f[2]))
		if string(f[3]) == "true" {
			m.member("strict", f[3])
		}
		m.raw("}")
		return true
	})
	if problem != nil {
		return problem
	}
	if !isList {
		return invalid("tools", "must be a list")
	}
	m.raw("]")
	return m.choice(v["tool_choice"], string(v["parallel_tool_calls"]) == "false")
}

// inputSchema returns the schema of a tool's arguments, which must be an object of type object.
func inputSchema(parameters []byte) []byte {
	if parameters == nil || parameters[0] != '{' {
		return []byte(`{"type":"object","properties":{}}`)
	}
	if get(parameters, "type") != nil {
		return parameters
	}
	rest := bytes.TrimSpace(parameters[1:])
	if rest[0] == '}' {
		return []byte(`{"type":"object"}`)
	}
	return append([]byte(`{"type":"object",`), rest...)
}

func (m *messagesWriter) choice(choice []byte, oneAtATime bool) *openai.Error {
	kind, name := str(choice), get(get(choice, "function"), "name")
	switch {
	case kind == "auto", kind == "none":
	case kind == "required":
		kind = "any"
	case isText(name):
		kind = "tool"
	case choice != nil:
		return invalid("tool_choice", "only auto, none, required and a function can be translated for this model")
	case oneAtATime:
		kind = "auto"
	default:
		return nil
	}
	m.key("tool_choice")
	m.raw("{")
	m.text("type", kind)
	if kind == "tool" {
		m.member("name", name)
	}
	if oneAtATime && kind != "none" {
		m.member("disable_parallel_tool_use", []byte("true"))
	}
	m.raw("}")
	return nil
}

func (m *messagesWriter) messages(list []byte) *openai.Error {
	if err := eachMessage(list, m.message); err != nil {
		return err
	}
	if m.endTurn(); m.turns == 0 {
		return invalid("messages", "must have a message with content besides the system prompt")
	}
	return nil
}

func (m *messagesWriter) message(message []byte, place string) *openai.Error {
	var v [7][]byte
	object(message, []string{"role", "content", "tool_calls", "tool_call_id", "thinking_blocks", "refusal", "function_call"}, v[:])
	switch role := str(v[0]); role {
	case "system", "developer":
		return m.addSystem(v[1], place)
	case "user":
		m.begin("user")
		return m.content(v[1], place)
	case "tool":
		m.begin("user")
		return m.result(str(v[3]), v[1], place)
	case "assistant":
		m.begin("assistant")
		jsonspan.Elements(v[4], func(block []byte) bool { // most messages have no thinking
			if isSigned(str(get(block, "type")), block) {
				m.add(block)
			}
			return true
		})
		if err := m.content(v[1], place); err != nil {
			return err
		}
		m.addText(v[5])
		if v[6] != nil {
			return invalid(place+".function_call", "cannot be translated for this model; use tool_calls, which replaced it")
		}
		return m.calls(v[2], place)
	case "function":
		return invalid(place+".role", "function cannot be translated for this model; use tool, which replaced it")
	default:
		return invalid(place+".role", fmt.Sprintf("%.40q is no role; use system, user, assistant or tool", role))
	}
}

func (m *messagesWriter) addSystem(content []byte, place string) *openai.Error {
	switch {
	case content == nil:
		return nil
	case content[0] == '"':
		if isText(content) {
			m.system = append(m.system, string(content))
		}
		return nil
	}
	return eachBlock(content, place+".content", func(kind string, part []byte, place string) *openai.Error {
		text := get(part, "text")
		if kind != "text" || text == nil || text[0] != '"' {
			return invalid(place, "only text can be part of the system prompt")
		}
		if isText(text) {
			m.system = append(m.system, string(text))
		}
		return nil
	})
}

// begin sets the role of the content that follows. The message begins with its first block, because Anthropic refuses empty messages.
func (m *messagesWriter) begin(role string) { m.next = role }

func (m *messagesWriter) endTurn() {
	if len(m.turn.b) > 0 {
		m.turns++
		m.comma()
		m.raw(`{"role":"` + m.role + `","content":[`)
		m.b = append(append(m.b, m.turn.b...), "]}"...)
	}
	m.turn.b = m.turn.b[:0]
}

// add adds a block to the turn.
func (m *messagesWriter) add(block []byte) {
	if m.role != m.next {
		m.endTurn()
		m.role = m.next
	}
	if len(m.turn.b) > 0 {
		m.turn.raw(",")
	}
	m.turn.b = append(m.turn.b, block...)
}

func (m *messagesWriter) addText(value []byte) {
	if isText(value) { // Anthropic refuses empty text
		m.add(append(append([]byte(`{"type":"text","text":`), value...), '}'))
	}
}

// content adds the content of a message, which is a string or a list of parts.
func (m *messagesWriter) content(content []byte, place string) *openai.Error {
	switch {
	case content == nil:
		return nil
	case content[0] == '"':
		m.addText(content)
		return nil
	}
	return eachBlock(content, place+".content", func(kind string, part []byte, place string) *openai.Error {
		switch kind {
		case "text":
			m.addText(get(part, "text"))
			return nil
		case "refusal":
			m.addText(get(part, "refusal"))
			return nil
		}
		if isElsewhere(kind, part) { // from a client of Anthropic's API
			m.add(part)
			return nil
		}
		block, err := mediaBlock(kind, part, place)
		if err == nil {
			m.add(block)
		}
		return err
	})
}

// mediaBlock translates an image or a file.
func mediaBlock(kind string, part []byte, place string) ([]byte, *openai.Error) {
	var w writer
	switch kind {
	case "image_url":
		value := get(part, "image_url")
		url := str(value)
		if url == "" {
			url = str(get(value, "url"))
		}
		_, data, inline := dataURL(url)
		switch {
		case inline:
			media := imageType(data)
			if media == "" {
				return nil, invalid(place, notAnImage)
			}
			w.raw(`{"type":"image","source":{"type":"base64"`)
			w.text("media_type", media)
			w.text("data", data)
		case strings.HasPrefix(url, "https://"), strings.HasPrefix(url, "http://"):
			w.raw(`{"type":"image","source":{"type":"url"`)
			w.text("url", url)
		default:
			return nil, invalid(place, "the URL of an image must begin with https:// or data:")
		}
		w.raw("}}")
		return w.b, nil
	case "file":
		var f [2][]byte
		object(get(part, "file"), []string{"filename", "file_data"}, f[:])
		media, data, inline := dataURL(str(f[1]))
		kind, _, _ := strings.Cut(media, ";")
		switch {
		case !inline, kind != pdf && kind != plain:
			return nil, invalid(place, "only PDF and text in file_data, as data:application/pdf;base64,…, can be translated for this model")
		case !isBase64(data):
			return nil, invalid(place+".file.file_data", "is not valid base64")
		case kind == pdf:
			w.raw(`{"type":"document","source":{"type":"base64"`)
			w.text("media_type", kind)
			w.text("data", data)
		default:
			text, _ := base64.StdEncoding.DecodeString(data) // it is valid
			w.raw(`{"type":"document","source":{"type":"text"`)
			w.text("media_type", kind)
			w.text("data", string(text))
		}
		w.raw("}")
		if isText(f[0]) {
			w.member("title", f[0])
		}
		w.raw("}")
		return w.b, nil
	}
	return nil, invalid(place, fmt.Sprintf("a part of type %.40q cannot be translated for this model", kind))
}

const plain = "text/plain"

// dataURL splits a data: URL in base64.
func dataURL(url string) (media, data string, ok bool) {
	rest, ok := strings.CutPrefix(url, "data:")
	if !ok {
		return "", "", false
	}
	media, data, ok = strings.Cut(rest, ";base64,")
	return media, data, ok
}

// result adds the result of a tool. Results come before other content of the turn, as Anthropic demands; in OpenAI's format they
// always do, because they follow the message with the calls.
func (m *messagesWriter) result(id string, content []byte, place string) *openai.Error {
	if id == "" {
		return invalid(place+".tool_call_id", "is missing; a result repeats the ID of its call")
	}
	if !slices.Contains(m.ids, id) {
		return invalid(place+".tool_call_id", fmt.Sprintf("no message before this one has a tool call with the ID %.80q", id))
	}
	w := writer{[]byte(`{"type":"tool_result"`)}
	w.text("tool_use_id", encodeCallID(id))
	switch {
	case content == nil:
	case content[0] == '"':
		w.member("content", content)
	default:
		inner := messagesWriter{}
		if err := inner.content(content, place); err != nil {
			return err
		}
		if len(inner.turn.b) > 0 {
			w.key("content")
			w.b = append(append(append(w.b, '['), inner.turn.b...), ']')
		}
	}
	w.raw("}")
	m.add(w.b)
	return nil
}

func (m *messagesWriter) calls(list []byte, place string) (problem *openai.Error) {
	i := -1
	isList := jsonspan.Elements(list, func(call []byte) bool {
		i++
		at := place + ".tool_calls." + strconv.Itoa(i)
		var c [2][]byte
		object(call, []string{"id", "function"}, c[:])
		var f [2][]byte
		object(c[1], []string{"name", "arguments"}, f[:])
		arguments := []byte(str(f[1]))
		if f[1] != nil && f[1][0] != '"' { // some clients send the object itself
			arguments = f[1]
		}
		if len(bytes.TrimSpace(arguments)) == 0 {
			arguments = []byte("{}")
		}
		var o jsonspan.Object
		switch {
		case str(c[0]) == "":
			problem = invalid(at+".id", "is missing")
		case !isText(f[0]):
			problem = invalid(at+".function.name", "is missing")
		case o.Scan(arguments) != nil:
			problem = invalid(at+".function.arguments", "is not a JSON object, which this model's API demands")
		}
		if problem != nil {
			return false
		}
		w := writer{[]byte(`{"type":"tool_use"`)}
		m.ids = append(m.ids, str(c[0]))
		w.text("id", encodeCallID(str(c[0])))
		w.member("name", f[0])
		w.member("input", arguments)
		w.raw("}")
		m.add(w.b)
		return true
	})
	if !isList && list != nil && problem == nil {
		return invalid(place+".tool_calls", "must be a list")
	}
	return problem
}
