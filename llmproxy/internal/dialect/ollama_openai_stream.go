package dialect

import (
	"crypto/rand"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// An OllamaChunkStream translates the lines of Ollama's /api/chat and /api/generate to a stream of OpenAI's chat completions.
type OllamaChunkStream struct {
	id, model []byte // raw, without quotes
	created   int64
	calls     int
	chunk     []byte // reused
	ended     bool
}

// An ollamaLine is what a line, or a whole answer, says.
type ollamaLine struct {
	model, createdAt, content, thinking, calls, logprobs, failure []byte
	reason                                                        []byte
	done                                                          bool
	prompt, output                                                int64
	times                                                         timings
}

func (l *ollamaLine) read(line []byte) {
	_ = jsonspan.EachMember(line, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "model":
			l.model, _ = jsonspan.RawString(value)
		case "created_at":
			l.createdAt, _ = jsonspan.RawString(value)
		case "message":
			l.readMessage(value)
		case "response", "thinking", "tool_calls":
			l.readSaid(key, value)
		case "logprobs":
			l.logprobs = value
		case "done":
			l.done = string(value) == "true"
		case "done_reason":
			l.reason, _ = jsonspan.RawString(value)
		case "error":
			l.failure = value
		case "prompt_eval_count":
			l.prompt = whole(value)
		case "eval_count":
			l.output = whole(value)
		case "total_duration":
			l.times.total = time.Duration(whole(value))
		case "load_duration":
			l.times.load = time.Duration(whole(value))
		case "prompt_eval_duration":
			l.times.prompt = time.Duration(whole(value))
		case "eval_duration":
			l.times.eval = time.Duration(whole(value))
		}
		return true
	})
}

func (l *ollamaLine) readMessage(message []byte) {
	_ = jsonspan.EachMember(message, func(key, value []byte) bool { // it may be null
		l.readSaid(key, value)
		return true
	})
}

// readSaid reads a member of what the model says.
func (l *ollamaLine) readSaid(key, value []byte) {
	switch string(key) {
	case "content", "response":
		if isText(value) {
			l.content = value
		}
	case "thinking":
		if isText(value) {
			l.thinking = value
		}
	case "tool_calls":
		l.calls = value
	}
}

// whole returns a number that is not negative, or zero.
func whole(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Append translates one line, and appends what it becomes.
func (c *OllamaChunkStream) Append(dst, line []byte) []byte {
	if c.ended || len(line) == 0 {
		return dst
	}
	var l ollamaLine
	l.read(line)
	if l.failure != nil {
		c.ended = true
		return sse.AppendData(dst, append(append([]byte(`{"error":`), l.failure...), '}'))
	}
	if c.id == nil {
		dst = c.start(dst, &l)
	}
	if l.thinking != nil {
		dst = c.emit(dst, "reasoning_content", l.thinking, l.logprobs)
	}
	if l.content != nil {
		dst = c.emit(dst, "content", l.content, l.logprobs)
	}
	if len(l.calls) > 0 && l.calls[0] == '[' && !isEmpty(l.calls) {
		var w writer
		w.b, c.calls = appendOllamaCalls(append(w.b, '['), l.calls, c.calls, true)
		dst = c.emit(dst, "tool_calls", append(w.b, ']'), nil)
	}
	if l.done {
		dst = c.end(dst, &l)
	}
	return dst
}

func (c *OllamaChunkStream) start(dst []byte, l *ollamaLine) []byte {
	c.id = []byte("chatcmpl-" + rand.Text())
	c.model = append(c.model, l.model...)
	c.created = createdAt(l.createdAt)
	b := append(c.begin(), `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`...)
	c.chunk = b
	return sse.AppendData(dst, b)
}

// createdAt returns the seconds of a time, or those of now.
func createdAt(raw []byte) int64 {
	t, err := time.Parse(time.RFC3339Nano, string(raw))
	if err != nil {
		t = time.Now()
	}
	return t.Unix()
}

// begin begins a chunk up to its choices.
func (c *OllamaChunkStream) begin() []byte {
	b := append(append(append(c.chunk[:0], `{"id":"`...), c.id...), `","object":"chat.completion.chunk","created":`...)
	b = strconv.AppendInt(b, c.created, 10)
	return append(append(append(b, `,"model":"`...), c.model...), '"')
}

// emit appends a chunk with a delta of one member.
func (c *OllamaChunkStream) emit(dst []byte, member string, value, logprobs []byte) []byte {
	b := append(append(append(c.begin(), `,"choices":[{"index":0,"delta":{"`...), member...), `":`...)
	b = append(append(b, value...), '}')
	b = appendChatLogprobs(b, logprobs)
	b = append(b, `,"finish_reason":null}]}`...)
	c.chunk = b
	return sse.AppendData(dst, b)
}

// appendChatLogprobs appends log probabilities, whose elements are the same in both formats.
func appendChatLogprobs(b, logprobs []byte) []byte {
	if len(logprobs) == 0 || logprobs[0] != '[' || isEmpty(logprobs) {
		return b
	}
	return append(append(append(b, `,"logprobs":{"content":`...), logprobs...), '}')
}

func (c *OllamaChunkStream) end(dst []byte, l *ollamaLine) []byte {
	c.ended = true
	b := append(append(append(c.begin(), `,"choices":[{"index":0,"delta":{},"finish_reason":"`...), l.finish(c.calls)...), `"}]`...)
	b = append(l.appendTimings(b), '}')
	dst = sse.AppendData(dst, b)
	c.chunk = b
	b = append(c.begin(), `,"choices":[],"usage":`...)
	c.chunk = append(l.appendUsage(b), '}')
	dst = sse.AppendData(dst, c.chunk)
	return append(dst, "data: [DONE]\n\n"...)
}

// finish returns OpenAI's finish_reason. Ollama stops even if the answer calls tools.
func (l *ollamaLine) finish(calls int) string {
	switch {
	case string(l.reason) == "length":
		return "length"
	case calls > 0:
		return "tool_calls"
	}
	return "stop"
}

func (l *ollamaLine) appendUsage(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), l.prompt, 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), l.output, 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), l.prompt+l.output, 10)
	return append(b, '}')
}

// appendTimings appends how long the parts of the answer took, as llama.cpp's server does.
func (l *ollamaLine) appendTimings(b []byte) []byte {
	if l.times == (timings{}) {
		return b
	}
	b = append(b, `,"timings":{`...)
	for i, t := range [...]struct {
		name string
		d    time.Duration
	}{{"total_ms", l.times.total}, {"load_ms", l.times.load}, {"prompt_ms", l.times.prompt}, {"predicted_ms", l.times.eval}} {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), t.name...), `":`...)
		b = strconv.AppendFloat(b, float64(t.d)/float64(time.Millisecond), 'f', -1, 64)
	}
	return append(b, '}')
}

// appendOllamaCalls appends tool calls, and returns the number of all calls so far. Their arguments become a string. In a stream they have
// running indices, because those of Ollama may repeat.
func appendOllamaCalls(b, calls []byte, n int, streamed bool) ([]byte, int) {
	w := writer{b}
	_ = jsonspan.EachElement(calls, func(call []byte) bool { // without calls, there is no list
		var v [2][]byte
		object(call, []string{"id", "function"}, v[:])
		var f [2][]byte
		object(v[1], []string{"name", "arguments"}, f[:])
		id := str(v[0])
		if id == "" {
			id = "call_" + rand.Text()
		}
		arguments := f[1]
		if arguments == nil {
			arguments = []byte("{}")
		}
		w.comma()
		w.raw("{")
		if streamed {
			w.number("index", int64(n))
		}
		w.text("id", id)
		w.raw(`,"type":"function","function":{`)
		w.text("name", str(f[0]))
		w.text("arguments", string(arguments))
		w.raw("}}")
		n++
		return true
	})
	return w.b, n
}

// ChatFromOllamaAnswer translates a whole answer of /api/chat or /api/generate to a chat completion. It returns false if the answer is not
// one, or not complete.
func ChatFromOllamaAnswer(answer []byte) ([]byte, bool) {
	var l ollamaLine
	l.read(answer)
	if !l.done || l.failure != nil {
		return nil, false
	}
	w := writer{append(make([]byte, 0, len(answer)+256), '{')}
	w.text("id", "chatcmpl-"+rand.Text())
	w.raw(`,"object":"chat.completion"`)
	w.number("created", createdAt(l.createdAt))
	w.rawText("model", l.model)
	w.raw(`,"choices":[{"index":0,"message":{"role":"assistant"`)
	var calls []byte
	n := 0
	if len(l.calls) > 0 && l.calls[0] == '[' {
		calls, n = appendOllamaCalls(nil, l.calls, 0, false)
	}
	switch {
	case l.content != nil:
		w.member("content", l.content)
	case n > 0:
		w.raw(`,"content":null`)
	default:
		w.raw(`,"content":""`)
	}
	if l.thinking != nil {
		w.member("reasoning_content", l.thinking)
	}
	if n > 0 {
		w.key("tool_calls")
		w.b = append(append(append(w.b, '['), calls...), ']')
	}
	w.raw("}")
	w.b = appendChatLogprobs(w.b, l.logprobs)
	w.raw(`,"finish_reason":"` + l.finish(n) + `"}],"usage":`)
	w.b = l.appendTimings(l.appendUsage(w.b))
	w.raw("}")
	return w.b, true
}

// EmbeddingsFromEmbed translates an answer of /api/embed to one of OpenAI's embeddings. It returns false if the answer has no list of
// vectors.
func EmbeddingsFromEmbed(answer []byte) ([]byte, bool) {
	var v [3][]byte
	object(answer, []string{"model", "embeddings", "prompt_eval_count"}, v[:])
	w := writer{append(make([]byte, 0, len(answer)+256), `{"object":"list","data":[`...)}
	i := 0
	err := jsonspan.EachElement(v[1], func(vector []byte) bool {
		w.comma()
		w.raw(`{"object":"embedding"`)
		w.number("index", int64(i))
		w.member("embedding", vector)
		w.raw("}")
		i++
		return true
	})
	if err != nil {
		return nil, false
	}
	w.raw("]")
	w.text("model", str(v[0]))
	n := strconv.FormatInt(whole(v[2]), 10)
	w.raw(`,"usage":{"prompt_tokens":` + n + `,"total_tokens":` + n + "}}")
	return w.b, true
}
