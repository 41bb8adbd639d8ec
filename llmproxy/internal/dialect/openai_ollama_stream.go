package dialect

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An OllamaStream translates a stream of OpenAI's chat completions to the lines of Ollama's API. Each line is one object, and there is
// never an empty one.
type OllamaStream struct {
	// Model is the name by which the client knows the model.
	Model string
	// Generate makes the lines those of /api/generate instead of /api/chat.
	Generate bool
	// Started is when the upstream got the request. With the times of the content, it gives the durations that the upstream does not state.
	Started time.Time

	first   time.Time // when the first content came
	finish  []byte    // the last finish_reason, quotes included
	usage   tokens.Usage
	timings timings
	calls   []collectedCall
	held    int // bytes of their arguments
	ended   bool
}

// A collectedCall is a tool call whose parts are collected, because Ollama sends calls whole.
type collectedCall struct {
	index     int
	id, name  string
	arguments []byte // raw
	object    []byte // arguments that came as an object
	extra     []byte // its extra_content
}

// Append translates the data of one event, and appends what it becomes.
func (s *OllamaStream) Append(b, data []byte) []byte {
	if s.ended {
		return b
	}
	if string(data) == "[DONE]" {
		return s.End(b)
	}
	var choices []byte
	jsonspan.Members(data, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "choices":
			choices = value
		case "usage":
			if u, ok := openai.ParseUsage(value); ok {
				s.usage = u
			}
		case "timings":
			s.timings.read(value)
		}
		return true
	})
	jsonspan.Elements(choices, func(choice []byte) bool { // the last chunk has none
		b = s.choice(b, choice)
		return true
	})
	return b
}

func (s *OllamaStream) choice(b, choice []byte) []byte {
	var delta, logprobs []byte
	first := true
	jsonspan.Members(choice, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "index":
			first = string(value) == "0"
		case "delta":
			delta = value
		case "logprobs":
			logprobs = value
		case "finish_reason":
			if isText(value) {
				s.finish = append(s.finish[:0], value...)
			}
		}
		return true
	})
	if !first { // Ollama's API gives one answer
		return b
	}
	d := readDelta(delta)
	d.eachCall(func(call []byte) {
		if s.held <= maxWaiting {
			s.collect(call)
		}
	})
	if s.held > maxWaiting {
		s.ended, s.calls = true, nil
		return append(AppendOllamaError(b, errWaiting), '\n')
	}
	content, thinking := d.said()
	if content == nil && thinking == nil {
		return b
	}
	now := time.Now()
	if s.first.IsZero() {
		s.first = now
	}
	b = s.begin(b, now)
	b = s.text(b, content, thinking)
	b = s.endMessage(b)
	b = appendLogprobs(b, logprobs)
	return append(b, `,"done":false}`+"\n"...)
}

// said returns what a delta says as JSON strings, or nil if there is nothing.
func (d *delta) said() (content, thinking []byte) {
	for _, text := range [...][]byte{d.content, d.refusal} {
		if isText(text) {
			content = text
		}
	}
	return content, d.reasoning
}

// begin begins a line.
func (s *OllamaStream) begin(b []byte, now time.Time) []byte {
	b = append(b, `{"model":`...)
	b = jsonspan.AppendString(b, s.Model)
	b = append(b, `,"created_at":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// text appends what the model says, and leaves the message of a chat open.
func (s *OllamaStream) text(b, content, thinking []byte) []byte {
	if s.Generate {
		b = append(b, `,"response":`...)
	} else {
		b = append(b, `,"message":{"role":"assistant","content":`...)
	}
	if content == nil {
		b = append(b, `""`...)
	}
	b = append(b, content...)
	if thinking != nil {
		b = append(append(b, `,"thinking":`...), thinking...)
	}
	return b
}

func (s *OllamaStream) endMessage(b []byte) []byte {
	if s.Generate {
		return b
	}
	return append(b, '}')
}

// appendLogprobs appends the log probabilities of a choice. Their elements are the same in both formats.
func appendLogprobs(b, logprobs []byte) []byte {
	if len(logprobs) == 0 || logprobs[0] != '{' {
		return b
	}
	content := get(logprobs, "content")
	if content == nil || isEmpty(content) {
		return b
	}
	return append(append(b, `,"logprobs":`...), content...)
}

// collect adds a part of a tool call.
func (s *OllamaStream) collect(raw []byte) {
	index, id, name, arguments := callPart(raw)
	c := s.callOf(index, id, name)
	if extra := get(raw, "extra_content"); extra != nil {
		c.extra = bytes.Clone(extra)
	}
	s.held += len(arguments) + len(c.extra)
	if fragment, ok := jsonspan.RawString(arguments); ok {
		c.arguments = append(c.arguments, fragment...)
	} else if len(arguments) > 0 && arguments[0] == '{' {
		c.object = append(c.object[:0], arguments...)
	}
}

// callOf returns the call that a part belongs to. Without an index, a new ID or name begins a new call, and so does another ID with a name:
// old versions of Ollama sent all calls with index 0.
func (s *OllamaStream) callOf(index int, id, name string) *collectedCall {
	if index < 0 {
		if last := len(s.calls) - 1; last >= 0 && (id == "" && name == "" || id != "" && s.calls[last].id == id) {
			return &s.calls[last]
		}
		index = len(s.calls)
	}
	for i := len(s.calls) - 1; i >= 0; i-- {
		c := &s.calls[i]
		if c.index == index {
			if id != "" && c.id != "" && c.id != id && name != "" {
				break
			}
			if c.name == "" {
				c.name = name
			}
			if c.id == "" {
				c.id = id
			}
			return c
		}
	}
	s.calls = append(s.calls, collectedCall{index: index, id: id, name: name})
	return &s.calls[len(s.calls)-1]
}

// End appends the end of the answer, once the upstream has sent its own: the tool calls, and the line with done.
func (s *OllamaStream) End(b []byte) []byte {
	if s.ended {
		return b
	}
	s.ended = true
	now := time.Now()
	if s.dropNameless(); len(s.calls) > 0 {
		if s.first.IsZero() {
			s.first = now
		}
		b = s.begin(b, now)
		b = s.text(b, nil, nil)
		b = s.appendCalls(b)
		b = s.endMessage(b)
		b = append(b, `,"done":false}`+"\n"...)
	}
	b = s.begin(b, now)
	b = s.text(b, nil, nil)
	b = s.endMessage(b)
	return append(s.appendEnd(b, now), '\n')
}

// dropNameless removes calls that name no tool, which clients cannot decode.
func (s *OllamaStream) dropNameless() {
	s.calls = slices.DeleteFunc(s.calls, func(c collectedCall) bool { return c.name == "" })
}

// appendCalls appends the tool calls with running indices.
func (s *OllamaStream) appendCalls(b []byte) []byte {
	w := writer{append(b, `,"tool_calls":[`...)}
	for i, c := range s.calls {
		w.comma()
		w.raw("{")
		if id := ollamaCallID(c.id, c.extra, i); id != "" {
			w.text("id", id)
		}
		w.key("function")
		w.raw("{")
		w.number("index", int64(i))
		w.text("name", c.name)
		w.member("arguments", c.whole())
		w.raw("}}")
	}
	w.raw("]")
	return w.b
}

// ollamaCallID returns the ID of a tool call, which may be empty.
func ollamaCallID(id string, extra []byte, i int) string {
	if extra == nil {
		return id
	}
	if id == "" {
		id = "call_" + strconv.Itoa(i)
	}
	return encodeCall(id, extra)
}

// whole returns the arguments of a call as an object.
func (c *collectedCall) whole() []byte {
	if c.object != nil {
		return argumentsObject(c.object)
	}
	return argumentsObject(append(append([]byte{'"'}, c.arguments...), '"'))
}

// appendEnd appends the members of the last line, and its brace. Clients divide by durations, so none of them is zero.
func (s *OllamaStream) appendEnd(b []byte, now time.Time) []byte {
	reason := "stop"
	if string(s.finish) == `"length"` {
		reason = "length"
	}
	b = append(append(append(b, `,"done":true,"done_reason":"`...), reason...), '"')
	total := max(now.Sub(s.Started), 1)
	if s.Started.IsZero() {
		total = 1
	}
	t := s.timings
	if t.total == 0 {
		t.total = total
	}
	if t.prompt == 0 && t.eval == 0 {
		if t.prompt = 1; !s.first.IsZero() && !s.Started.IsZero() {
			t.prompt = s.first.Sub(s.Started)
		}
		t.eval = t.total - t.prompt
	}
	b = strconv.AppendInt(append(b, `,"total_duration":`...), int64(t.total), 10)
	b = strconv.AppendInt(append(b, `,"load_duration":`...), int64(max(t.load, 1)), 10)
	b = strconv.AppendInt(append(b, `,"prompt_eval_count":`...), s.usage.Input, 10)
	b = strconv.AppendInt(append(b, `,"prompt_eval_duration":`...), int64(max(t.prompt, 1)), 10)
	b = strconv.AppendInt(append(b, `,"eval_count":`...), s.usage.Output, 10)
	b = strconv.AppendInt(append(b, `,"eval_duration":`...), int64(max(t.eval, 1)), 10)
	return append(b, '}')
}

// timings are how long the parts of an answer took. OpenAI's format has no members for them, but llama.cpp adds an object of this name, and so
// does the translation from Ollama's format.
type timings struct{ total, load, prompt, eval time.Duration }

func (t *timings) read(value []byte) {
	jsonspan.Members(value, func(key, value []byte) bool { // it may be null
		ms, err := strconv.ParseFloat(string(value), 64)
		d := time.Duration(min(ms, 1e12) * float64(time.Millisecond))
		switch {
		case err != nil || d < 0:
		case string(key) == "total_ms":
			t.total = d
		case string(key) == "load_ms":
			t.load = d
		case string(key) == "prompt_ms":
			t.prompt = d
		case string(key) == "predicted_ms":
			t.eval = d
		}
		return true
	})
}

// OllamaFromChat translates a whole chat completion to an answer of /api/chat, and appends it. It returns false if the answer has no choice.
func OllamaFromChat(b, answer []byte, a *About) ([]byte, bool) {
	return ollamaFromChat(b, answer, &OllamaStream{Model: a.Model, Started: a.Started})
}

// GenerateFromChat is OllamaFromChat for /api/generate.
func GenerateFromChat(b, answer []byte, a *About) ([]byte, bool) {
	return ollamaFromChat(b, answer, &OllamaStream{Model: a.Model, Started: a.Started, Generate: true})
}

func ollamaFromChat(b, answer []byte, s *OllamaStream) ([]byte, bool) {
	var v [3][]byte
	object(answer, []string{"choices", "usage", "timings"}, v[:])
	choice := firstChoice(v[0])
	var c [3][]byte
	object(choice, []string{"message", "finish_reason", "logprobs"}, c[:])
	if c[0] == nil {
		return b, false
	}
	s.usage, _ = openai.ParseUsage(v[1])
	s.timings.read(v[2])
	s.finish = c[1]
	d := readDelta(c[0])
	d.eachCall(s.collect)
	s.dropNameless()
	now := time.Now()
	b = s.begin(slices.Grow(b, len(answer)+256), now)
	content, thinking := d.said()
	b = s.text(b, content, thinking)
	if len(s.calls) > 0 {
		b = s.appendCalls(b)
	}
	b = s.endMessage(b)
	b = appendLogprobs(b, c[2])
	return s.appendEnd(b, now), true
}

// EmbedFromEmbeddings translates an answer of OpenAI's embeddings to one of /api/embed, and appends it. It returns false if the answer has
// no list, or a vector that is not a list of numbers.
func EmbedFromEmbeddings(b, answer []byte, a *About) ([]byte, bool) {
	var v [2][]byte
	object(answer, []string{"data", "usage"}, v[:])
	w := writer{append(slices.Grow(b, len(answer)+256), '{')}
	w.text("model", a.Model)
	w.raw(`,"embeddings":[`)
	good := true
	isList := jsonspan.Elements(v[0], func(item []byte) bool {
		var vector []byte
		if vector, good = vectorOf(item); good {
			w.comma()
			w.b = append(w.b, vector...)
		}
		return good
	})
	if !isList || !good {
		return b, false
	}
	usage, _ := openai.ParseUsage(v[1])
	total := time.Duration(1)
	if !a.Started.IsZero() {
		total = max(time.Since(a.Started), 1)
	}
	w.raw("]")
	w.number("total_duration", int64(total))
	w.number("load_duration", 1)
	w.number("prompt_eval_count", usage.Input)
	w.raw("}")
	return w.b, true
}

// EmbeddingFromEmbeddings is EmbedFromEmbeddings for the older /api/embeddings, which has one vector.
func EmbeddingFromEmbeddings(b, answer []byte, _ *About) ([]byte, bool) {
	vector, good := []byte("[]"), true
	isList := jsonspan.Elements(get(answer, "data"), func(item []byte) bool {
		vector, good = vectorOf(item)
		return false
	})
	if !isList || !good {
		return b, false
	}
	return append(append(append(b, `{"embedding":`...), vector...), '}'), true
}

// vectorOf returns the vector of an item. It returns false if that is not a list of numbers.
func vectorOf(item []byte) (vector []byte, ok bool) {
	vector = get(item, "embedding")
	return vector, len(vector) > 0 && vector[0] == '['
}

// AppendOllamaLoad appends the answer to a request that only loads a model, or unloads it.
func AppendOllamaLoad(b []byte, s *OllamaStream, unload bool) []byte {
	reason := "load"
	if unload {
		reason = "unload"
	}
	b = s.begin(b, time.Now())
	b = s.text(b, nil, nil)
	b = s.endMessage(b)
	return append(append(append(b, `,"done":true,"done_reason":"`...), reason...), `"}`...)
}

// AppendOllamaError appends an error as Ollama sends it, without a line end.
func AppendOllamaError(b []byte, e *openai.Error) []byte {
	if e.Original != nil {
		return append(b, e.Original...)
	}
	return append(jsonspan.AppendString(append(b, `{"error":`...), e.Message), '}')
}
