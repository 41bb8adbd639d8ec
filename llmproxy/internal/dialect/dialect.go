// Package dialect translates requests and answers between the formats of different APIs. OpenAI's chat completions are the format
// in the middle: the pipeline routes, caches and relays them, and every other dialect is translated to it and from it.
//
// A translation is a function of bytes: it reads JSON in place, writes JSON, and keeps what the other format can express. What it
// cannot express is an error that names the place, or is left out where the table in docs/dialects.md says so. It never talks to a
// client or an upstream, and never decides which dialect to use. It stands on the floor of relay and upstream.
package dialect

import (
	"encoding/base64"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// invalid returns the error for a request that cannot be translated. The place is written as Anthropic does: messages.0.content.1.
func invalid(place, problem string) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Param: place, Message: place + ": " + problem}
}

// A writer appends JSON. Commas are set by member and element.
type writer struct{ b []byte }

// comma separates the next member or element from the previous one.
func (w *writer) comma() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) raw(s string) { w.b = append(w.b, s...) }

// key begins a member.
func (w *writer) key(name string) {
	w.comma()
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

// member adds a member with a value that is JSON.
func (w *writer) member(name string, value []byte) {
	w.key(name)
	w.b = append(w.b, value...)
}

// text adds a member with a string.
func (w *writer) text(name, value string) {
	w.key(name)
	w.b = jsonspan.AppendString(w.b, value)
}

// rawText adds a member with a string that is already escaped, without its quotes.
func (w *writer) rawText(name string, raw []byte) {
	w.key(name)
	w.b = append(append(append(w.b, '"'), raw...), '"')
}

// addLine adds the text of a part to others, on a line of its own. All of them are still escaped.
func (w *writer) addLine(part []byte, place string) *openai.Error {
	raw, ok := jsonspan.RawString(get(part, "text"))
	if !ok {
		return invalid(place+".text", "must be a string")
	}
	if len(raw) > 0 && len(w.b) > 0 {
		w.raw(`\n`)
	}
	w.b = append(w.b, raw...)
	return nil
}

func (w *writer) number(name string, n int64) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

// object reads the members of an object that have one of the names. The values of others are nil, and so are those that are null.
// Without an object, all are nil.
func object(value []byte, names []string, values [][]byte) {
	clear(values)
	jsonspan.Members(value, func(key, v []byte) bool { // a value that is not an object has no members
		for i, name := range names {
			if string(key) == name && !jsonspan.IsNull(v) {
				values[i] = v
			}
		}
		return true
	})
}

// get returns one member of an object, or nil.
func get(value []byte, name string) (found []byte) {
	jsonspan.Members(value, func(key, v []byte) bool { // a value that is not an object has no members
		if string(key) == name && !jsonspan.IsNull(v) {
			found = v
		}
		return true
	})
	return found
}

// str returns the decoded string of a value, or "" if it is not a string.
func str(value []byte) string {
	s, _ := jsonspan.String(value)
	return s
}

// isText reports whether a value is a string that is not empty.
func isText(value []byte) bool { return len(value) > 2 && value[0] == '"' }

// firstChoice returns the first of an answer's choices, or nil. Other APIs than OpenAI's have one.
func firstChoice(choices []byte) (first []byte) {
	jsonspan.Elements(choices, func(choice []byte) bool { // an answer without choices has none
		first = choice
		return false
	})
	return first
}

// maxWaiting bounds what a translated stream holds back, in bytes.
const maxWaiting = sse.MaxEvent

// errWaiting ends a stream that would hold back more.
var errWaiting = &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error", Message: "The tool calls of the answer are too long to be translated."}

// callPart reads a part of a tool call in a chunk. Without an index, it is negative. Arguments are a string or, on some servers, an object.
func callPart(raw []byte) (index int, id, name string, arguments []byte) {
	index = -1
	jsonspan.Members(raw, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "index":
			if n, err := strconv.Atoi(string(value)); err == nil {
				index = n
			}
		case "id":
			id = str(value)
		case "function", "custom":
			jsonspan.Members(value, func(key, value []byte) bool { // it may be null
				switch string(key) {
				case "name":
					name = str(value)
				case "arguments", "input":
					arguments = value
				}
				return true
			})
		}
		return true
	})
	return index, id, name, arguments
}

// messagePlaces are the places of most messages, to save allocations.
var messagePlaces = func() (places [100]string) {
	for i := range places {
		places[i] = "messages." + strconv.Itoa(i)
	}
	return places
}()

// messagePlace returns the place of a message.
func messagePlace(i int) string {
	if i < len(messagePlaces) {
		return messagePlaces[i]
	}
	return "messages." + strconv.Itoa(i)
}

// eachMessage visits the messages of a request with their places.
func eachMessage(list []byte, visit func(message []byte, place string) *openai.Error) (problem *openai.Error) {
	i := -1
	isList := jsonspan.Elements(list, func(message []byte) bool {
		i++
		place := messagePlace(i)
		if message[0] != '{' {
			problem = invalid(place, "must be an object with role and content")
			return false
		}
		problem = visit(message, place)
		return problem == nil
	})
	switch {
	case problem != nil:
		return problem
	case !isList:
		return invalid("messages", "must be a list of messages")
	case i < 0:
		return invalid("messages", "is empty; send at least one message")
	}
	return nil
}

// A ToolNames maps the names of tools that the other format does not allow to allowed ones, and back.
type ToolNames struct{ original map[string]string }

// allow returns the name under which the other format gets a tool.
func (t *ToolNames) allow(name string) string {
	short := shortName(name)
	if short != name {
		if t.original == nil {
			t.original = map[string]string{}
		}
		t.original[short] = name
	}
	return short
}

// longestName is the length of the longest name of a tool that OpenAI allows.
const longestName = 64

// shortName returns a name that OpenAI allows for a tool: letters, digits, _ and -. It has a hash if the name is not allowed itself.
func shortName(name string) string {
	const digits = 8
	if len(name) <= longestName && isID(name) {
		return name
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	hash := strconv.FormatUint(1<<32|uint64(h.Sum32()), 16)[1:]
	short := safeID(name)
	return short[:min(len(short), longestName-digits-1)] + "_" + hash
}

// Original returns the name by which the client knows a tool.
func (t *ToolNames) Original(name string) string {
	if t != nil {
		if original, ok := t.original[name]; ok {
			return original
		}
	}
	return name
}

func isIDByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func isID(s string) bool {
	for i := range len(s) {
		if !isIDByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// safeID returns an ID without other characters than letters, digits, _ and -.
func safeID(id string) string {
	if isID(id) {
		return id
	}
	b := []byte(id)
	for i, c := range b {
		if !isIDByte(c) {
			b[i] = '_'
		}
	}
	return string(b)
}

// encoded begins the ID of a tool call that stands for another one, which follows in base64.
const encoded = "llm_proxy_"

var callIDs = base64.RawURLEncoding.Strict()

// encodeCallID returns the ID of a tool call in a form that Anthropic accepts, which allows letters, digits, _ and - only. Kimi's models
// call functions.f:0, and understand a conversation only if they see that again.
func encodeCallID(id string) string {
	if isID(id) && !strings.HasPrefix(id, encoded) {
		return id
	}
	return encoded + callIDs.EncodeToString([]byte(id))
}

// keeping is between the ID of a tool call and its extra_content, in base64.
const keeping = "_" + encoded

// encodeCall returns an ID of a tool call that keeps its extra_content as well: the other formats have no place for that, and all clients
// send the ID back. Gemini demands its signature, which is there, in the next request.
func encodeCall(id string, extra []byte) string {
	if id = encodeCallID(id); extra != nil {
		id += keeping + callIDs.EncodeToString(extra)
	}
	return id
}

// decodeCall returns the ID and the extra_content that encodeCall was given.
func decodeCall(id string) (original string, extra []byte) {
	if i := strings.LastIndex(id, keeping); i >= 0 {
		decoded, err := callIDs.DecodeString(id[i+len(keeping):])
		var o jsonspan.Object
		if err == nil && o.Scan(decoded) == nil { // the client may have made it up
			id, extra = id[:i], decoded
		}
	}
	return decodeCallID(id), extra
}

// decodeCallID returns the ID that encodeCallID was given.
func decodeCallID(id string) string {
	if rest, ok := strings.CutPrefix(id, encoded); ok {
		if original, err := callIDs.DecodeString(rest); err == nil {
			return string(original)
		}
	}
	return id
}

// imageTypes are the images that all APIs take.
var imageTypes = []string{"image/jpeg", "image/png", "image/gif", "image/webp"}

const notAnImage = "is not a base64 image of type image/jpeg, image/png, image/gif or image/webp"

// imageType returns the media type of an image in base64, which its first bytes show, or "" if the data is not one of the images that all
// APIs take. Some clients name another type, which Anthropic refuses.
func imageType(data string) string {
	if !isBase64(data) {
		return ""
	}
	head, err := base64.StdEncoding.DecodeString(data[:min(len(data), 32)])
	if err != nil {
		return ""
	}
	if media := http.DetectContentType(head); slices.Contains(imageTypes, media) {
		return media
	}
	return ""
}

// isBase64 reports whether a string is data in base64, with its padding.
func isBase64(s string) bool {
	data := strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	for i := range len(data) {
		if c := data[i]; !isIDByte(c) && c != '+' && c != '/' || c == '_' || c == '-' {
			return false
		}
	}
	return data != "" && len(s)%4 == 0
}
