package openai

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// maxContent bounds the text of a user's message that rules look at, in bytes as it stands in the body.
const maxContent = 16 << 10

// Content is the text of the last message of a user, of its first 16 KiB; several texts in it are lines.
func (s *Signals) Content() string {
	if s.content == "" && s.user != nil {
		s.content = strings.ToValidUTF8(string(appendText(nil, s.user)), "")
	}
	return s.content
}

// A turn is a message, or what stands in the place of one in the Responses API: a call of a function, its output.
type turn struct {
	role, content, output              []byte
	arguments, toolCalls, functionCall []byte
}

func turnOf(item []byte) (t turn) {
	_ = jsonspan.EachMember(item, func(key, value []byte) bool { // no object: the upstream will say so
		switch string(jsonspan.Unescape(key)) {
		case "role":
			t.role = value
		case "content":
			t.content = value
		case "output":
			t.output = value
		case "arguments":
			t.arguments = value
		case "tool_calls":
			t.toolCalls = value
		case "function_call":
			t.functionCall = value
		}
		return true
	})
	return t
}

func (s *Signals) item(value []byte) {
	t := turnOf(value)
	s.Messages++
	s.all.tokens += messageTokens
	s.all.bytes += len(t.arguments) + len(t.toolCalls) + len(t.functionCall)
	s.text(t.output)
	switch {
	case t.content != nil:
		s.text(t.content)
		if jsonspan.Is(t.role, "user") {
			s.user = t.content
		}
	case t.role == nil:
		s.part(value)
	}
}

// text reads a text, or the parts of a message.
func (s *Signals) text(value []byte) {
	if len(value) == 0 {
		return
	}
	switch value[0] {
	case '"':
		s.all.bytes += textLen(value[1 : len(value)-1])
	case '{':
		s.part(value)
	case '[':
		_ = jsonspan.EachElement(value, func(element []byte) bool { s.text(element); return true })
	}
}

// part reads one part of a message: a text, or something that is none.
func (s *Signals) part(value []byte) {
	var kind, text []byte
	_ = jsonspan.EachMember(value, func(key, value []byte) bool {
		switch string(jsonspan.Unescape(key)) {
		case "type":
			kind, _ = jsonspan.Inside(value)
		case "text":
			text = value
		}
		return true
	})
	switch string(jsonspan.Unescape(kind)) {
	case "image_url", "input_image", "image":
		s.Images++
		s.all.tokens += imageTokens
	case "input_audio", "audio":
		s.Audio++
		s.all.tokens += audioTokens
	case "file", "input_file", "document":
		s.Files++
		s.all.tokens += fileTokens
	default:
		if len(text) > 0 && text[0] == '"' {
			s.all.bytes += textLen(text[1 : len(text)-1])
		}
	}
}

// textLen is the length that the inside of a valid string has once it is unescaped.
func textLen(inside []byte) int {
	n := len(inside)
	for {
		i := bytes.IndexByte(inside, '\\')
		if i < 0 {
			return n
		}
		inside = inside[i:]
		if inside[1] != 'u' {
			n, inside = n-1, inside[2:]
			continue
		}
		r, size := jsonspan.UnicodeEscape(inside)
		n, inside = n-size+utf8.RuneLen(r), inside[size:]
	}
}

// appendText appends the texts of a message's content.
func appendText(b, content []byte) []byte {
	room := maxContent - len(b)
	switch {
	case room <= 0 || len(content) == 0:
	case content[0] == '"':
		inside := content[1 : len(content)-1]
		if len(b) > 0 {
			b = append(b, '\n')
		}
		b = jsonspan.AppendUnescaped(b, inside[:min(len(inside), room)])
	case content[0] == '[':
		_ = jsonspan.EachElement(content, func(element []byte) bool {
			if element[0] == '"' {
				b = appendText(b, element)
			} else if text := memberOf(element, "text"); len(text) > 0 && text[0] == '"' {
				b = appendText(b, text)
			}
			return true
		})
	}
	return b
}
