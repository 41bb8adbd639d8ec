package dialect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// ollamaCommon are the members that requests for /api/chat and /api/generate have in common.
var ollamaCommon = []string{"model", "stream", "options", "format", "think", "keep_alive", "truncate", "shift", "logprobs", "top_logprobs"}

var (
	ollamaChatKeys     = append([]string{"messages", "tools"}, ollamaCommon...)
	ollamaGenerateKeys = append([]string{"prompt", "system", "images", "suffix", "template", "context", "raw"}, ollamaCommon...)
	ollamaEmbedKeys    = []string{"model", "input", "prompt", "dimensions", "options", "keep_alive", "truncate"}
	ollamaMessageKeys  = []string{"role", "content", "images", "tool_calls", "tool_name", "tool_call_id", "thinking"}
	ollamaCallKeys     = []string{"id", "function"}
	ollamaFunctionKeys = []string{"name", "arguments", "index"}
)

// exactMembers are the members of an object that have one of the names; the value of an absent one is nil, and so is null.
type exactMembers struct {
	names  []string
	values [20][]byte // in the order of the names
}

// get returns the value of a member, or nil.
func (m *exactMembers) get(name string) []byte {
	if i := slices.Index(m.names, name); i >= 0 && !jsonspan.IsNull(m.values[i]) {
		return m.values[i]
	}
	return nil
}

// exact reads the members of an object that have one of the names. Ollama reads keys without regard to case, and of two equal ones it
// takes the last, so a key in another spelling and a second one are errors.
func exact(value []byte, place string, names []string) (v exactMembers, problem *openai.Error) {
	v.names = names
	isObject := jsonspan.Members(value, func(key, value []byte) bool {
		i := slices.Index(names, string(key))
		switch {
		case i >= 0 && v.values[i] != nil:
			problem = invalid(placeIn(place, names[i]), "the key is there twice; send it once")
		case i >= 0:
			v.values[i] = value
		case jsonspan.Ambiguous(key):
			if i = slices.IndexFunc(names, func(name string) bool { return jsonspan.EqualFold(key, name) }); i >= 0 {
				problem = invalid(placeIn(place, names[i]), fmt.Sprintf("the key is spelled %q, which servers interpret differently; write it as %q", key, names[i]))
			}
		}
		return problem == nil
	})
	if problem == nil && !isObject {
		problem = invalid(place, "must be an object")
	}
	return v, problem
}

// placeIn returns the place of a member of an object. The request itself has an empty place.
func placeIn(place, name string) string {
	if place == "" {
		return name
	}
	return place + "." + name
}

// LoadsOnly reports whether a request for /api/chat or /api/generate has nothing to answer. Ollama then only loads the model, or unloads
// it if keep_alive is zero.
func LoadsOnly(r *jsonspan.Object) (unload, ok bool) {
	input := false
	for _, name := range []string{"messages", "prompt", "images", "suffix"} {
		if value, found := r.Get(name); found && !isEmpty(value) {
			input = true
		}
	}
	keep, _ := r.Get("keep_alive")
	return isZeroDuration(keep), !input
}

// isZeroDuration reports whether a duration as Ollama reads it, a number of seconds or a text such as "5m", is zero.
func isZeroDuration(value []byte) bool {
	if value == nil {
		return false
	}
	if text := str(value); text != "" {
		d, err := time.ParseDuration(text)
		return err == nil && d == 0
	}
	n, err := strconv.ParseFloat(string(value), 64) // Python's client sends 0.0
	return err == nil && n == 0
}

// ChatFromOllama translates a request for Ollama's /api/chat to OpenAI's chat completions.
func ChatFromOllama(r *jsonspan.Object, o ChatOptions) ([]byte, *openai.Error) {
	v, err := exact(r.Body, "", ollamaChatKeys)
	if err != nil {
		return nil, err
	}
	c := newOllamaReader(r, o)
	if err := c.common(&v); err != nil {
		return nil, err
	}
	if err := c.tools(v.get("tools")); err != nil {
		return nil, err
	}
	c.key("messages")
	c.raw("[")
	if err := c.messages(v.get("messages")); err != nil {
		return nil, err
	}
	c.raw("]}")
	return c.b, nil
}

// ChatFromGenerate translates a request for Ollama's /api/generate to OpenAI's chat completions: the system prompt and the prompt become
// messages. What bypasses the template of the model has no counterpart there.
func ChatFromGenerate(r *jsonspan.Object, o ChatOptions) ([]byte, *openai.Error) {
	v, err := exact(r.Body, "", ollamaGenerateKeys)
	if err != nil {
		return nil, err
	}
	c := newOllamaReader(r, o)
	if err := c.common(&v); err != nil {
		return nil, err
	}
	for _, own := range []struct{ name, why string }{
		{"raw", "a prompt that bypasses the model's template"},
		{"template", "a template in the request"},
		{"suffix", "text after the answer"},
		{"context", "the tokens of an earlier answer; send the conversation to /api/chat"},
	} {
		value := v.get(own.name)
		switch {
		case value == nil || isEmpty(value) || string(value) == "false":
		case !o.Ollama:
			return nil, invalid(own.name, "only an Ollama server takes "+own.why)
		default:
			c.member(own.name, value)
		}
	}
	c.key("messages")
	c.raw("[")
	if system := v.get("system"); isText(system) {
		c.message("system")
		c.member("content", system)
		c.raw("}")
	}
	prompt := v.get("prompt")
	if prompt == nil {
		prompt = []byte(`""`)
	}
	if prompt[0] != '"' {
		return nil, invalid("prompt", "must be a string")
	}
	var images writer
	if err := c.addImages(&images, v.get("images"), "images"); err != nil {
		return nil, err
	}
	c.user(prompt, images.b)
	c.raw("]}")
	return c.b, nil
}

// EmbeddingsFromOllama translates a request for Ollama's /api/embed, or for its older /api/embeddings, whose input is a prompt, to
// OpenAI's embeddings.
func EmbeddingsFromOllama(r *jsonspan.Object, o ChatOptions) ([]byte, *openai.Error) {
	v, err := exact(r.Body, "", ollamaEmbedKeys)
	if err != nil {
		return nil, err
	}
	input := v.get("input")
	if input == nil {
		input = v.get("prompt")
	}
	switch {
	case input == nil:
		return nil, invalid("input", "is missing; send a string or a list of strings")
	case input[0] != '"' && input[0] != '[':
		return nil, invalid("input", "must be a string or a list of strings")
	}
	w := writer{append(make([]byte, 0, len(r.Body)+32), '{')}
	for _, name := range []string{"model", "dimensions"} {
		if value := v.get(name); value != nil {
			w.member(name, value)
		}
	}
	w.member("input", input)
	for _, name := range []string{"truncate", "keep_alive", "options"} {
		if value := v.get(name); value != nil && o.Ollama {
			w.member(name, value)
		}
	}
	w.raw("}")
	return w.b, nil
}

// An ollamaReader writes a request in OpenAI's format while it reads one in Ollama's.
type ollamaReader struct {
	writer
	options ChatOptions
	// images wait for the end of the messages with results of tools, because in OpenAI's format only users have images.
	images writer
	open   []openCall // calls without a result
	calls  int
}

// An openCall is a tool call that has no result yet.
type openCall struct{ id, name string }

func newOllamaReader(r *jsonspan.Object, o ChatOptions) *ollamaReader {
	return &ollamaReader{writer: writer{append(make([]byte, 0, len(r.Body)+256), '{')}, options: o}
}

// common writes the members that chat and generate have in common.
func (c *ollamaReader) common(v *exactMembers) *openai.Error {
	if model := v.get("model"); model != nil {
		c.member("model", model)
	}
	switch stream := v.get("stream"); string(stream) {
	case "", "true":
		c.member("stream", []byte("true"))
		c.member("stream_options", []byte(`{"include_usage":true}`))
	case "false":
		c.member("stream", stream)
	default:
		return invalid("stream", fmt.Sprintf("must be true or false, not %.40s", stream))
	}
	if err := c.readOptions(v.get("options")); err != nil {
		return err
	}
	if err := c.format(v.get("format")); err != nil {
		return err
	}
	if err := c.think(v.get("think")); err != nil {
		return err
	}
	for _, name := range []string{"logprobs", "top_logprobs"} {
		if value := v.get(name); value != nil && string(value) != "0" {
			c.member(name, value)
		}
	}
	for _, name := range []string{"keep_alive", "truncate", "shift"} {
		if value := v.get(name); value != nil && c.options.Ollama {
			c.member(name, value)
		}
	}
	return nil
}

// readOptions writes the options that OpenAI's format has, too, and those that other local servers know. The others stay together.
func (c *ollamaReader) readOptions(options []byte) *openai.Error {
	if options == nil {
		return nil
	}
	var rest writer
	var problem *openai.Error
	var seen []string
	isObject := jsonspan.Members(options, func(key, value []byte) bool {
		name := string(jsonspan.Unescape(key))
		if slices.Contains(seen, name) {
			problem = invalid("options."+name, "the key is there twice; send it once")
			return false
		}
		seen = append(seen, name)
		if !jsonspan.IsNull(value) && !c.option(name, value) {
			rest.comma()
			rest.b = append(append(jsonspan.AppendString(rest.b, name), ':'), value...)
		}
		return true
	})
	switch {
	case problem != nil:
		return problem
	case !isObject:
		return invalid("options", "must be an object")
	}
	if len(rest.b) > 0 && c.options.Ollama {
		c.key("options")
		c.b = append(append(append(c.b, '{'), rest.b...), '}')
	}
	return nil
}

// option writes an option under OpenAI's name, and reports whether OpenAI has one.
func (c *ollamaReader) option(name string, value []byte) bool {
	switch name {
	case "temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty":
		c.member(name, value)
		return true
	case "top_k", "min_p":
		if c.options.TopK {
			c.member(name, value)
		}
		return true
	case "num_predict": // zero and less stand for no limit
		if n, err := strconv.Atoi(string(value)); err != nil || n < 1 {
			return false
		}
		name = "max_tokens"
		c.member(name, value)
		return true
	}
	return false
}

// format writes the format of the answer: "json", or a schema.
func (c *ollamaReader) format(value []byte) *openai.Error {
	switch {
	case value == nil || string(value) == `""`:
	case jsonspan.EqualString(value, "json"):
		c.member("response_format", []byte(`{"type":"json_object"}`))
	case value[0] == '{':
		c.key("response_format")
		c.raw(`{"type":"json_schema","json_schema":{"name":"answer","schema":`)
		c.b = append(append(c.b, value...), "}}"...)
	default:
		return invalid("format", `must be "json" or a JSON schema`)
	}
	return nil
}

// think checks what turns the model's thinking on or off, or says how much.
func (c *ollamaReader) think(value []byte) *openai.Error {
	switch string(value) {
	case "":
		return nil
	case "true", "false", `"low"`, `"medium"`, `"high"`, `"max"`:
	default:
		return invalid("think", fmt.Sprintf(`must be true, false, "low", "medium", "high" or "max", not %.40s`, value))
	}
	c.member("think", value) // the upstream knows how its servers are told
	return nil
}

// tools writes the tools, which look like OpenAI's, but may lack their type.
func (c *ollamaReader) tools(list []byte) *openai.Error {
	if list == nil || isEmpty(list) {
		return nil
	}
	c.key("tools")
	c.raw("[")
	i := -1
	var problem *openai.Error
	isList := jsonspan.Elements(list, func(tool []byte) bool {
		i++
		function := get(tool, "function")
		if function == nil {
			problem = invalid("tools."+strconv.Itoa(i), "must be an object with a function")
			return false
		}
		c.comma()
		if get(tool, "type") != nil {
			c.b = append(c.b, tool...)
			return true
		}
		c.raw(`{"type":"function","function":`)
		c.b = append(append(c.b, function...), '}')
		return true
	})
	if problem == nil && !isList {
		problem = invalid("tools", "must be a list")
	}
	c.raw("]")
	return problem
}

func (c *ollamaReader) messages(list []byte) (problem *openai.Error) {
	i := -1
	isList := jsonspan.Elements(list, func(message []byte) bool {
		i++
		problem = c.addMessage(message, messagePlace(i))
		return problem == nil
	})
	switch {
	case problem != nil:
		return problem
	case list != nil && !isList:
		return invalid("messages", "must be a list of messages")
	case i < 0:
		return invalid("messages", "is empty; send at least one message")
	}
	c.flushImages()
	return nil
}

func (c *ollamaReader) addMessage(message []byte, place string) *openai.Error {
	v, err := exact(message, place, ollamaMessageKeys)
	if err != nil {
		return err
	}
	content := v.get("content")
	if content == nil {
		content = []byte(`""`)
	}
	if content[0] != '"' {
		return invalid(place+".content", "must be a string; images belong into the list images")
	}
	role := strings.ToLower(str(v.get("role")))
	if role != "tool" {
		c.flushImages()
	}
	images := &c.images
	if role == "user" {
		images = new(writer)
	}
	if list := v.get("images"); list != nil {
		if err := c.addImages(images, list, place+".images"); err != nil {
			return err
		}
	}
	switch role {
	case "user":
		c.user(content, images.b)
	case "system":
		c.message("system")
		c.member("content", content)
		c.raw("}")
	case "assistant":
		return c.assistant(&v, content, place)
	case "tool":
		return c.result(&v, content, place)
	default:
		return invalid(place+".role", fmt.Sprintf("%.40q is no role; use system, user, assistant or tool", role))
	}
	return nil
}

// message begins a message.
func (c *ollamaReader) message(role string) {
	c.comma()
	c.raw(`{"role":"` + role + `"`)
}

// user writes a user's message with its images, which are parts without a comma before the first.
func (c *ollamaReader) user(content, images []byte) {
	c.message("user")
	if len(images) == 0 {
		c.member("content", content)
		c.raw("}")
		return
	}
	c.key("content")
	c.raw("[")
	if isText(content) {
		c.raw(`{"type":"text","text":`)
		c.b = append(append(c.b, content...), "},"...)
	}
	c.b = append(append(c.b, images...), "]}"...)
}

// flushImages writes the images of messages that cannot have any as a user's message.
func (c *ollamaReader) flushImages() {
	if len(c.images.b) > 0 {
		c.user([]byte(`""`), c.images.b)
		c.images.b = c.images.b[:0]
	}
}

// addImages adds images, which are base64, as parts of a message.
func (c *ollamaReader) addImages(parts *writer, list []byte, place string) (problem *openai.Error) {
	if list == nil {
		return nil
	}
	i := -1
	isList := jsonspan.Elements(list, func(image []byte) bool {
		i++
		data := str(image)
		media := imageType(data)
		if media == "" {
			if !c.options.Ollama || data == "" {
				problem = invalid(place+"."+strconv.Itoa(i), notAnImage+"; send the data alone, without data: before it")
				return false
			}
			media = "application/octet-stream" // Ollama may know it
		}
		if len(parts.b) > 0 {
			parts.raw(",")
		}
		parts.raw(`{"type":"image_url","image_url":{"url":`)
		parts.b = append(jsonspan.AppendString(parts.b, "data:"+media+";base64,"+data), "}}"...)
		return true
	})
	if problem == nil && !isList {
		problem = invalid(place, "must be a list of base64 strings")
	}
	return problem
}

// assistant writes a message of the assistant.
func (c *ollamaReader) assistant(v *exactMembers, content []byte, place string) *openai.Error {
	c.open = c.open[:0]
	var calls writer
	i := -1
	var problem *openai.Error
	isList := jsonspan.Elements(v.get("tool_calls"), func(call []byte) bool {
		i++
		problem = c.call(&calls, call, place+".tool_calls."+strconv.Itoa(i))
		return problem == nil
	})
	switch {
	case problem != nil:
		return problem
	case v.get("tool_calls") != nil && !isList:
		return invalid(place+".tool_calls", "must be a list")
	}
	c.message("assistant")
	if len(calls.b) > 0 && !isText(content) {
		content = []byte("null")
	}
	c.member("content", content)
	if thinking := v.get("thinking"); isText(thinking) && c.options.Reasoning {
		c.member("reasoning_content", thinking)
	}
	if len(calls.b) > 0 {
		c.key("tool_calls")
		c.b = append(append(append(c.b, '['), calls.b...), ']')
	}
	c.raw("}")
	return nil
}

// call writes a tool call. Calls without an ID get one by their number, so that the same conversation always has the same IDs.
func (c *ollamaReader) call(calls *writer, call []byte, place string) *openai.Error {
	v, err := exact(call, place, ollamaCallKeys)
	if err != nil {
		return err
	}
	f, err := exact(v.get("function"), place+".function", ollamaFunctionKeys)
	if err != nil {
		return err
	}
	arguments := f.get("arguments")
	switch {
	case !isText(f.get("name")):
		return invalid(place+".function.name", "is missing")
	case arguments == nil:
		arguments = []byte("{}")
	case arguments[0] != '{':
		return invalid(place+".function.arguments", "must be an object")
	}
	id, extra := decodeCall(str(v.get("id")))
	if id == "" {
		id = "call_" + strconv.Itoa(c.calls)
	}
	c.calls++
	c.open = append(c.open, openCall{id, str(f.get("name"))})
	if len(calls.b) > 0 {
		calls.raw(",")
	}
	calls.raw("{")
	calls.text("id", id)
	calls.raw(`,"type":"function","function":{`)
	calls.member("name", f.get("name"))
	calls.text("arguments", string(arguments))
	calls.raw("}")
	if extra != nil && c.options.Extra {
		calls.member("extra_content", extra)
	}
	calls.raw("}")
	return nil
}

// result writes the result of a tool. It belongs to the call with its ID, to the first open one of its name, or to the first open one.
func (c *ollamaReader) result(v *exactMembers, content []byte, place string) *openai.Error {
	id, _ := decodeCall(str(v.get("tool_call_id")))
	name := str(v.get("tool_name"))
	i := slices.IndexFunc(c.open, func(call openCall) bool { return call.id == id })
	if i < 0 {
		i = slices.IndexFunc(c.open, func(call openCall) bool { return call.name == name })
	}
	switch {
	case i >= 0:
	case len(c.open) > 0 && name == "" && id == "":
		i = 0
	case !c.options.Ollama:
		return invalid(place, "no message before this one calls the tool of this result")
	case id == "":
		id = "call_" + name
	}
	if i >= 0 {
		id = c.open[i].id
		c.open = slices.Delete(c.open, i, i+1)
	}
	c.message("tool")
	c.text("tool_call_id", id)
	if name != "" && c.options.Ollama {
		c.text("name", name)
	}
	c.member("content", content)
	c.raw("}")
	return nil
}
