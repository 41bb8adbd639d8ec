package dialect

import (
	"crypto/rand"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ollama"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
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

// Append translates one line, and appends what it becomes.
func (c *OllamaChunkStream) Append(dst, line []byte) []byte {
	if c.ended || len(line) == 0 {
		return dst
	}
	var l ollama.Line
	l.Read(line)
	if l.Err != nil {
		c.ended = true
		return sse.AppendData(dst, append(append([]byte(`{"error":`), l.Err...), '}'))
	}
	if c.id == nil {
		dst = c.start(dst, &l)
	}
	if l.Thinking != nil {
		dst = c.emit(dst, "reasoning_content", l.Thinking, l.Logprobs)
	}
	if l.Content != nil {
		dst = c.emit(dst, "content", l.Content, l.Logprobs)
	}
	if l.Calls != nil {
		var w writer
		w.b, c.calls = appendOllamaCalls(append(w.b, '['), l.Calls, c.calls, true)
		dst = c.emit(dst, "tool_calls", append(w.b, ']'), nil)
	}
	if l.Done {
		dst = c.end(dst, &l)
	}
	return dst
}

func (c *OllamaChunkStream) start(dst []byte, l *ollama.Line) []byte {
	c.id = []byte("chatcmpl-" + rand.Text())
	c.model = append(c.model, l.Model...)
	c.created = createdAt(l.CreatedAt)
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
	if logprobs == nil {
		return b
	}
	return append(append(append(b, `,"logprobs":{"content":`...), logprobs...), '}')
}

func (c *OllamaChunkStream) end(dst []byte, l *ollama.Line) []byte {
	c.ended = true
	b := append(append(append(c.begin(), `,"choices":[{"index":0,"delta":{},"finish_reason":"`...), finishOfLine(l, c.calls)...), `"}]`...)
	b = append(appendTimings(b, l), '}')
	dst = sse.AppendData(dst, b)
	c.chunk = b
	b = append(c.begin(), `,"choices":[],"usage":`...)
	c.chunk = append(appendLineUsage(b, l), '}')
	dst = sse.AppendData(dst, c.chunk)
	return append(dst, "data: [DONE]\n\n"...)
}

// finishOfLine returns OpenAI's finish_reason. Ollama stops even if the answer calls tools.
func finishOfLine(l *ollama.Line, calls int) string {
	switch {
	case string(l.Reason) == "length":
		return "length"
	case calls > 0:
		return "tool_calls"
	}
	return "stop"
}

func appendLineUsage(b []byte, l *ollama.Line) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), l.PromptTokens, 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), l.OutputTokens, 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), l.PromptTokens+l.OutputTokens, 10)
	return append(b, '}')
}

// appendTimings appends how long the parts of the answer took, as llama.cpp's server does.
func appendTimings(b []byte, l *ollama.Line) []byte {
	if l.Total == 0 {
		return b
	}
	b = append(b, `,"timings":{`...)
	for i, t := range [...]struct {
		name string
		d    time.Duration
	}{{"total_ms", l.Total}, {"load_ms", l.Load}, {"prompt_ms", l.Prompt}, {"predicted_ms", l.Output}} {
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
	jsonspan.Elements(calls, func(call []byte) bool { // without calls, there is no list
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
	var l ollama.Line
	l.Read(answer)
	if !l.Done || l.Err != nil {
		return nil, false
	}
	w := writer{append(make([]byte, 0, len(answer)+256), '{')}
	w.text("id", "chatcmpl-"+rand.Text())
	w.raw(`,"object":"chat.completion"`)
	w.number("created", createdAt(l.CreatedAt))
	w.rawText("model", l.Model)
	w.raw(`,"choices":[{"index":0,"message":{"role":"assistant"`)
	var calls []byte
	n := 0
	if l.Calls != nil {
		calls, n = appendOllamaCalls(nil, l.Calls, 0, false)
	}
	switch {
	case l.Content != nil:
		w.member("content", l.Content)
	case n > 0:
		w.raw(`,"content":null`)
	default:
		w.raw(`,"content":""`)
	}
	if l.Thinking != nil {
		w.member("reasoning_content", l.Thinking)
	}
	if n > 0 {
		w.key("tool_calls")
		w.b = append(append(append(w.b, '['), calls...), ']')
	}
	w.raw("}")
	w.b = appendChatLogprobs(w.b, l.Logprobs)
	w.raw(`,"finish_reason":"` + finishOfLine(&l, n) + `"}],"usage":`)
	w.b = appendTimings(appendLineUsage(w.b, &l), &l)
	w.raw("}")
	return w.b, true
}

// EmbeddingsFromEmbed translates an answer of /api/embed, or of the older /api/embeddings, to one of OpenAI's embeddings. It returns false if the answer has no list of
// vectors.
func EmbeddingsFromEmbed(answer []byte) ([]byte, bool) {
	var v [3][]byte
	object(answer, []string{"model", "embeddings", "embedding"}, v[:])
	if v[2] != nil { // of the older endpoint
		v[1] = append(append([]byte{'['}, v[2]...), ']')
	}
	w := writer{append(make([]byte, 0, len(answer)+256), `{"object":"list","data":[`...)}
	i := 0
	isList := jsonspan.Elements(v[1], func(vector []byte) bool {
		w.comma()
		w.raw(`{"object":"embedding"`)
		w.number("index", int64(i))
		w.member("embedding", vector)
		w.raw("}")
		i++
		return true
	})
	if !isList {
		return nil, false
	}
	w.raw("]")
	w.text("model", str(v[0]))
	usage, _ := openai.ParseUsage(answer)
	w.raw(`,"usage":{`)
	w.number("prompt_tokens", usage.Input)
	w.number("total_tokens", usage.Input)
	w.raw("}}")
	return w.b, true
}
