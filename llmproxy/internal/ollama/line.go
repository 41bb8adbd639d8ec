// Package ollama knows the shape of what Ollama's own API sends and reads it in place: lines of JSON, each with a part of the answer.
//
// It does not translate them: dialect does. It does no output. It stands above openai, whose notion of an event it fills, and sse, in
// whose events lines are framed on their way through the gateway.
package ollama

import (
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A Line is what a line of /api/chat or /api/generate says, or a whole answer. The slices are parts of the line.
type Line struct {
	// Model, CreatedAt and Reason are raw, without quotes. The reason is why the answer is done.
	Model, CreatedAt, Reason []byte
	// Content and Thinking are JSON strings that are not empty, or nil.
	Content, Thinking []byte
	// Calls is a list of tool calls that is not empty, or nil. Logprobs is a list, or nil.
	Calls, Logprobs []byte
	// Done means that this is the last line.
	Done bool
	// PromptTokens and OutputTokens are counted in the last line.
	PromptTokens, OutputTokens int64
	// Total, Load, Prompt and Output are how long the parts of the answer took, in the last line.
	Total, Load, Prompt, Output time.Duration
	// Err is the raw value of an error, or nil.
	Err []byte
}

// Read reads a line. What is not an object says nothing.
func (l *Line) Read(data []byte) {
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // the members before a malformed one count
		switch string(key) {
		case "model":
			l.Model, _ = jsonspan.RawString(value)
		case "created_at":
			l.CreatedAt, _ = jsonspan.RawString(value)
		case "message":
			_ = jsonspan.EachMember(value, func(key, value []byte) bool { // it may be null
				l.said(key, value)
				return true
			})
		case "response", "thinking", "tool_calls":
			l.said(key, value)
		case "logprobs":
			if len(value) > len("[]") && value[0] == '[' {
				l.Logprobs = value
			}
		case "done":
			l.Done = string(value) == "true"
		case "done_reason":
			l.Reason, _ = jsonspan.RawString(value)
		case "error":
			if !jsonspan.IsNull(value) && string(value) != `""` {
				l.Err = value
			}
		case "prompt_eval_count":
			l.PromptTokens = count(value)
		case "eval_count":
			l.OutputTokens = count(value)
		case "total_duration":
			l.Total = time.Duration(count(value))
		case "load_duration":
			l.Load = time.Duration(count(value))
		case "prompt_eval_duration":
			l.Prompt = time.Duration(count(value))
		case "eval_duration":
			l.Output = time.Duration(count(value))
		}
		return true
	})
}

// said reads a member of what the model says.
func (l *Line) said(key, value []byte) {
	switch string(key) {
	case "content", "response":
		if isText(value) {
			l.Content = value
		}
	case "thinking":
		if isText(value) {
			l.Thinking = value
		}
	case "tool_calls":
		if len(value) > len("[]") && value[0] == '[' {
			l.Calls = value
		}
	}
}

// isText reports whether a value is a string that is not empty.
func isText(value []byte) bool { return len(value) > 2 && value[0] == '"' }

// count returns a number that is not negative, or zero.
func count(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Events reads lines that are framed as events, for clients of Ollama's API that get an answer as the upstream sent it. The last line ends
// the answer.
type Events struct{}

// First reads a line before anything was sent to the client.
func (Events) First(_, data []byte) openai.Event {
	e, _ := read(data)
	return e
}

// Next reads a line after the answer has begun, and counts its text.
func (Events) Next(_, data []byte) openai.Event {
	e, l := read(data)
	e.Content = e.Finish
	e.Text = l.text()
	return e
}

func read(data []byte) (e openai.Event, l Line) {
	if !openai.IsObject(data) {
		return openai.Event{Malformed: true}, l
	}
	l.Read(data)
	e.Content, e.Err = l.Content != nil || l.Thinking != nil || l.Calls != nil, l.Err
	if l.Done { // an empty answer is an answer
		e.Content, e.Finish, e.Finishes, e.Done, e.Usage = true, true, 1, true, data
	}
	return e, l
}

// text returns the size of the text in a line: its content, its thinking and its tool calls.
func (l *Line) text() (text jsonspan.TextCount) {
	for _, value := range [...][]byte{l.Content, l.Thinking} {
		if value != nil {
			text.AddString(value, 1)
		}
	}
	text.Add(jsonspan.TextCount{Chars: len(l.Calls), Bytes: len(l.Calls)})
	return text
}
