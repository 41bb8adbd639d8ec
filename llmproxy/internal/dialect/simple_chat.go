package dialect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	goopenai "github.com/sashabaranov/go-openai"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// The endpoints of the simple chat: the answer in one piece, or as a stream. A site chooses whether it has them.
var (
	SimpleChat       = &openai.Endpoint{Name: "simple_chat", Path: "/chat", Texts: true, Foreign: true}
	SimpleChatStream = &openai.Endpoint{Name: "simple_chat", Path: "/chat/stream", Texts: true, Foreign: true}
)

// chatFromSimple returns the function that makes the request for chat completions that a request of the simple chat stands for: its
// message, to the model of the site. It is the only request that the gateway makes instead of passing one on, so it is built with the types
// of an SDK.
func chatFromSimple(stream bool) func(*jsonspan.Object, ChatOptions) ([]byte, *ToolNames, *openai.Error) {
	return func(r *jsonspan.Object, o ChatOptions) ([]byte, *ToolNames, *openai.Error) {
		request := goopenai.ChatCompletionRequest{Model: o.Model, Stream: stream}
		var err *openai.Error
		if request.Messages, request.MaxCompletionTokens, err = readSimple(r); err != nil {
			return nil, nil, err
		}
		body, failed := json.Marshal(request)
		if failed != nil {
			return nil, nil, unprocessable("message", failed.Error())
		}
		return body, nil, nil
	}
}

// readSimple reads the members of a request. Others are ignored, as FastAPI does.
func readSimple(r *jsonspan.Object) (messages []goopenai.ChatCompletionMessage, maxTokens int, err *openai.Error) {
	seen := map[string]bool{}
	for _, m := range r.Members {
		name, value := string(jsonspan.Unescape(m.Key.Of(r.Body))), m.Value.Of(r.Body)
		if name != "message" && name != "max_tokens" {
			continue
		}
		if seen[name] {
			return nil, 0, unprocessable(name, "is there twice; send it once")
		}
		seen[name] = true
		if name == "max_tokens" {
			if maxTokens, err = readMaxTokens(value); err != nil {
				return nil, 0, err
			}
			continue
		}
		text, ok := jsonspan.String(value)
		if !ok {
			return nil, 0, unprocessable(name, fmt.Sprintf("must be a string, not %.40s", value))
		}
		if strings.TrimSpace(text) == "" {
			return nil, 0, unprocessable(name, "is empty")
		}
		messages = []goopenai.ChatCompletionMessage{{Role: goopenai.ChatMessageRoleUser, Content: text}}
	}
	if messages == nil {
		return nil, 0, unprocessable("message", `is missing; send {"message": "Hello"}`)
	}
	return messages, maxTokens, nil
}

func readMaxTokens(value []byte) (int, *openai.Error) {
	if jsonspan.IsNull(value) {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(value), 10, 32)
	if err != nil || n < 1 {
		return 0, unprocessable("max_tokens", fmt.Sprintf("must be a whole number of at least 1, not %.40s", value))
	}
	return int(n), nil
}

// unprocessable returns the error of a member that is invalid, with FastAPI's status.
func unprocessable(name, problem string) *openai.Error {
	return &openai.Error{Status: http.StatusUnprocessableEntity, Type: "invalid_request_error", Code: "invalid_request", Param: name,
		Message: fmt.Sprintf("%q %s.", name, problem)}
}

// simpleText returns the text of a message or of a part of one: its content or, if the model refuses to answer, what it says about that.
func simpleText(message []byte) string {
	var v [2][]byte
	object(message, []string{"content", "refusal"}, v[:])
	text := str(v[0])
	jsonspan.Elements(v[0], func(part []byte) bool { // of Mistral's reasoning models, beside their thoughts
		text += str(get(part, "text"))
		return true
	})
	if text == "" {
		return str(v[1])
	}
	return text
}

// A SimpleStream translates a stream of OpenAI's chat completions to the simple chat: the text in events, and then [DONE].
type SimpleStream struct {
	endsCR bool // the text so far ends with a CR, so that an LF after it belongs to the same line break
	ended  bool
	event  []byte // reused
}

// simpleDone ends a stream.
const simpleDone = "[DONE]"

func simpleStream(*About) Stream { return new(SimpleStream) }

// SimpleFromChat translates a whole chat completion to the simple chat, and appends it. It returns false if the answer has no message.
func SimpleFromChat(b, answer []byte, _ *About) ([]byte, bool) {
	found := false
	b = append(b, `{"response":`...)
	jsonspan.Elements(get(answer, "choices"), func(choice []byte) bool { // without choices, nothing is found
		if message := get(choice, "message"); message != nil {
			found, b = true, jsonspan.AppendString(b, simpleText(message))
		}
		return false
	})
	return append(b, '}'), found
}

// Append implements Stream.
func (s *SimpleStream) Append(dst, data []byte) []byte {
	if s.ended {
		return dst
	}
	if string(data) == simpleDone {
		s.ended = true
		return sse.AppendData(dst, data)
	}
	jsonspan.Elements(get(data, "choices"), func(choice []byte) bool { // the last chunk has none
		dst = s.text(dst, simpleText(get(choice, "delta")))
		return false
	})
	return dst
}

// text appends the events for a part of the text. Each of its lines becomes a line of the event, which readers join with LF.
//
// A reader that goes by lines instead of events must not lose anything either. Those of httpx end wherever Python's splitlines finds the
// end of a line, so all of these become line breaks. No line is [DONE], which would be taken for the end: such a line continues in an
// event of its own.
func (s *SimpleStream) text(dst []byte, text string) []byte {
	if text == "" {
		return dst
	}
	split := s.endsCR && text[0] == '\n'
	s.endsCR = strings.HasSuffix(text, "\r")
	if split {
		if text = text[1:]; text == "" {
			return dst
		}
	}
	event := s.event[:0]
	for more := true; more; {
		var line string
		if line, text, more = cutLine(text); line == simpleDone {
			dst = sse.AppendData(dst, append(event, line[0]))
			event, line = event[:0], line[1:]
		}
		event = append(event, line...)
		if more {
			event = append(event, '\n')
		}
	}
	s.event = event
	return sse.AppendData(dst, event)
}

// cutLine returns the first line of a text, and what follows its end.
func cutLine(text string) (line, rest string, more bool) {
	i := strings.IndexFunc(text, endsLine)
	if i < 0 {
		return text, "", false
	}
	if strings.HasPrefix(text[i:], "\r\n") {
		return text[:i], text[i+2:], true
	}
	_, size := utf8.DecodeRuneInString(text[i:])
	return text[:i], text[i+size:], true
}

// endsLine reports whether Python's str.splitlines ends a line at a character.
func endsLine(r rune) bool {
	switch r {
	case '\n', '\v', '\f', '\r', '\x1c', '\x1d', '\x1e', '\u0085', '\u2028', '\u2029':
		return true
	}
	return false
}

// AppendSimpleError appends an error as FastAPI sends it.
func AppendSimpleError(b []byte, e *openai.Error) []byte {
	return append(jsonspan.AppendString(append(b, `{"detail":`...), e.Message), '}')
}

// AppendSimpleErrorEvent appends the event that ends a stream with an error. A reader that takes every line after "data: " for text does
// not take this one, which has no space.
func AppendSimpleErrorEvent(b []byte, e *openai.Error) []byte {
	return append(AppendSimpleError(append(b, "event: error\ndata:"...), e), "\n\n"...)
}
