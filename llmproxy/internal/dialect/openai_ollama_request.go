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

// OllamaRequestFromChat translates a request for OpenAI's chat completions to Ollama's /api/chat. Members and options of Ollama that
// OpenAI's format does not have are taken over.
func OllamaRequestFromChat(r *jsonspan.Object) ([]byte, *openai.Error) {
	w := ollamaRequestWriter{v: present(r)}
	w.b = append(make([]byte, 0, len(r.Body)+256), '{')
	if err := w.write(); err != nil {
		return nil, err
	}
	return w.b, nil
}

// present returns the members of a request that are not null.
func present(r *jsonspan.Object) map[string][]byte {
	v := make(map[string][]byte, len(r.Members))
	for _, member := range r.Members {
		if value := member.Value.Of(r.Body); !jsonspan.IsNull(value) {
			v[string(jsonspan.Unescape(member.Key.Of(r.Body)))] = value
		}
	}
	return v
}

type ollamaRequestWriter struct {
	writer
	v     map[string][]byte
	names map[string]string // of the tools that were called, by the ID of the call
}

func (w *ollamaRequestWriter) write() *openai.Error {
	v := w.v
	if n, ok := v["n"]; ok && string(n) != "1" {
		return invalid("n", "Ollama gives one answer at a time; leave it out, and send the request several times")
	}
	if model, ok := v["model"]; ok {
		w.member("model", model)
	}
	stream := v["stream"]
	if stream == nil { // Ollama streams by default
		stream = []byte("false")
	}
	w.member("stream", stream)
	w.appendOptions()
	w.format()
	w.think()
	for _, name := range []string{"logprobs", "top_logprobs", "keep_alive", "truncate", "shift"} {
		if value, ok := v[name]; ok {
			w.member(name, value)
		}
	}
	if tools := v["tools"]; tools != nil && !isEmpty(tools) && !jsonspan.EqualString(v["tool_choice"], "none") {
		w.member("tools", tools)
	}
	w.key("messages")
	w.raw("[")
	if err := w.messages(v["messages"]); err != nil {
		return err
	}
	w.raw("]}")
	return nil
}

// appendOptions writes the options: those in the object options, and those that are members of the request. A member counts more.
func (w *ollamaRequestWriter) appendOptions() {
	kept := writer{[]byte{'{'}}
	add := func(name string, value []byte) {
		kept.comma()
		kept.b = append(append(jsonspan.AppendString(kept.b, name), ':'), value...)
	}
	var written []string
	for _, m := range [...]struct{ from, to string }{
		{"max_completion_tokens", "num_predict"}, {"max_tokens", "num_predict"}, {"num_predict", "num_predict"},
		{"repetition_penalty", "repeat_penalty"}, {"stop", "stop"},
	} {
		if value, ok := w.v[m.from]; ok && !slices.Contains(written, m.to) {
			if m.to == "stop" && value[0] == '"' {
				value = append(append([]byte{'['}, value...), ']')
			}
			written = append(written, m.to)
			add(m.to, value)
		}
	}
	for _, names := range [...][]string{ollamaSampling, ollamaLoading} {
		for _, name := range names {
			if value, ok := w.v[name]; ok && !slices.Contains(written, name) {
				written = append(written, name)
				add(name, value)
			}
		}
	}
	jsonspan.Members(w.v["options"], func(key, value []byte) bool { // most requests have no object of this name
		if name := string(jsonspan.Unescape(key)); !slices.Contains(written, name) {
			add(name, value)
		}
		return true
	})
	if len(kept.b) > 1 {
		w.member("options", append(kept.b, '}'))
	}
}

func (w *ollamaRequestWriter) format() {
	if format := w.v["format"]; format != nil {
		w.member("format", format)
		return
	}
	var f [2][]byte
	object(w.v["response_format"], []string{"type", "json_schema"}, f[:])
	switch str(f[0]) {
	case "json_object":
		w.text("format", "json")
	case "json_schema":
		if schema := get(f[1], "schema"); schema != nil {
			w.member("format", schema)
		} else {
			w.text("format", "json")
		}
	}
}

// think turns the model's thinking on or off.
func (w *ollamaRequestWriter) think() {
	think := w.v["think"]
	if think == nil {
		think = []byte(thinkOf(str(w.v["reasoning_effort"])))
	}
	if len(think) > 0 {
		w.member("think", think)
	}
}

// messages writes the messages. Without one, Ollama would only load the model.
func (w *ollamaRequestWriter) messages(list []byte) *openai.Error {
	return eachMessage(list, w.addMessage)
}

func (w *ollamaRequestWriter) addMessage(message []byte, place string) *openai.Error {
	var v [8][]byte
	object(message, []string{"role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "refusal"}, v[:])
	role := str(v[0])
	switch role {
	case "developer":
		role = "system"
	case "function":
		role = "tool"
	case "system", "user", "assistant", "tool":
	default:
		return invalid(place+".role", fmt.Sprintf("%.40q is no role; use system, user, assistant or tool", role))
	}
	var text, images writer
	if err := readContent(&text, &images, v[1], place+".content"); err != nil {
		return err
	}
	if v[1] == nil && role == "assistant" && isText(v[7]) {
		text.b = v[7][1 : len(v[7])-1]
	}
	w.comma()
	w.raw(`{"role":"` + role + `"`)
	w.rawText("content", text.b)
	if len(images.b) > 0 {
		w.key("images")
		w.b = append(append(append(w.b, '['), images.b...), ']')
	}
	switch role {
	case "assistant":
		for _, thinking := range v[5:7] {
			if isText(thinking) {
				w.member("thinking", thinking)
				break
			}
		}
		if err := w.calls(v[2], place); err != nil {
			return err
		}
	case "tool":
		w.result(str(v[3]), str(v[4]))
	}
	w.raw("}")
	return nil
}

// readContent reads the content of a message: a string, or a list of parts whose texts are joined.
func readContent(text, images *writer, content []byte, place string) *openai.Error {
	switch {
	case content == nil:
		return nil
	case content[0] == '"':
		text.b = content[1 : len(content)-1]
		return nil
	}
	return eachBlock(content, place, func(kind string, part []byte, place string) *openai.Error {
		switch kind {
		case "text", "refusal":
			raw, ok := jsonspan.RawString(get(part, kind))
			if !ok {
				return invalid(place+"."+kind, "must be a string")
			}
			if len(text.b) > 0 && len(raw) > 0 {
				text.raw(`\n`)
			}
			text.b = append(text.b, raw...)
			return nil
		case "image_url":
			return readImage(images, part, place)
		}
		return invalid(place, fmt.Sprintf("a part of type %.40q cannot be translated for Ollama; use text and image_url", kind))
	})
}

// readImage adds the data of an image. Ollama fetches none.
func readImage(images *writer, part []byte, place string) *openai.Error {
	value := get(part, "image_url")
	url := str(value)
	if url == "" {
		url = str(get(value, "url"))
	}
	_, data, inline := dataURL(url)
	switch {
	case strings.HasPrefix(url, "https://"), strings.HasPrefix(url, "http://"):
		return invalid(place, "Ollama does not fetch images; send the image itself as data:image/png;base64,…")
	case !inline || data == "":
		return invalid(place, "the URL of an image must begin with data:image/png;base64, or the same of another type")
	}
	if len(images.b) > 0 {
		images.raw(",")
	}
	images.b = jsonspan.AppendString(images.b, data)
	return nil
}

// calls writes the tool calls of the assistant, whose arguments Ollama wants as objects.
func (w *ollamaRequestWriter) calls(list []byte, place string) (problem *openai.Error) {
	if list == nil || isEmpty(list) {
		return nil
	}
	w.key("tool_calls")
	w.raw("[")
	i := -1
	jsonspan.Elements(list, func(call []byte) bool { // what is not a list has no calls
		i++
		at := place + ".tool_calls." + strconv.Itoa(i)
		var c [2][]byte
		object(call, []string{"id", "function"}, c[:])
		var f [2][]byte
		object(c[1], []string{"name", "arguments"}, f[:])
		arguments := []byte(str(f[1]))
		if len(f[1]) > 0 && f[1][0] == '{' {
			arguments = f[1]
		}
		if arguments = bytes.TrimSpace(arguments); len(arguments) == 0 {
			arguments = []byte("{}")
		}
		var o jsonspan.Object
		switch {
		case !isText(f[0]):
			problem = invalid(at+".function.name", "is missing")
		case o.Scan(arguments) != nil:
			problem = invalid(at+".function.arguments", "is not a JSON object, which Ollama demands")
		}
		if problem != nil {
			return false
		}
		w.comma()
		w.raw("{")
		if isText(c[0]) {
			w.member("id", c[0])
			if w.names == nil {
				w.names = map[string]string{}
			}
			w.names[str(c[0])] = str(f[0])
		}
		w.key("function")
		w.raw("{")
		w.number("index", int64(i))
		w.member("name", f[0])
		w.member("arguments", arguments)
		w.raw("}}")
		return true
	})
	w.raw("]")
	return problem
}

// result writes which call a result belongs to. Old versions know the name of the tool only, new ones the ID, too.
func (w *ollamaRequestWriter) result(id, name string) {
	if called := w.names[id]; called != "" {
		name = called
	}
	if name != "" {
		w.text("tool_name", name)
	}
	if id != "" {
		w.text("tool_call_id", id)
	}
}

// EmbedFromRequest translates a request for OpenAI's embeddings to Ollama's /api/embed.
func EmbedFromRequest(r *jsonspan.Object) ([]byte, *openai.Error) {
	v := present(r)
	input := v["input"]
	if problem := checkTexts(input); problem != nil {
		return nil, problem
	}
	w := ollamaRequestWriter{v: v}
	w.b = append(make([]byte, 0, len(r.Body)+32), '{')
	for _, name := range []string{"model", "input", "dimensions", "truncate", "keep_alive"} {
		if value, ok := v[name]; ok {
			w.member(name, value)
		}
	}
	w.appendOptions()
	w.raw("}")
	return w.b, nil
}

// checkTexts refuses an input that is not a text or a list of texts.
func checkTexts(input []byte) (problem *openai.Error) {
	if len(input) > 0 && input[0] == '"' {
		return nil
	}
	tokens := false
	isList := jsonspan.Elements(input, func(item []byte) bool {
		tokens = item[0] != '"'
		return !tokens
	})
	if tokens || !isList {
		return invalid("input", "must be a string or a list of strings; Ollama takes no tokens")
	}
	return nil
}
