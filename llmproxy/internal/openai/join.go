package openai

import (
	"bytes"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// maxJoined bounds the events that a Joiner joins, in bytes. What it keeps of them is less.
const maxJoined = 32 << 20

// A Joiner joins the events of a stream of any endpoint into the answer that the same request would have got without streaming.
// SplitAnswer is its counterpart.
type Joiner struct {
	endpoint *Endpoint
	added    int // bytes of the events
	count    int
	only     []byte    // the data of the only event so far
	parts    Assembler // of chat, completions and responses
	images   imageJoiner
}

// NewJoiner returns a Joiner of streams of an endpoint.
func NewJoiner(e *Endpoint) *Joiner {
	return &Joiner{endpoint: e, parts: Assembler{Framing: e.Framing}}
}

// Add adds the next event. It returns false if the stream is too long to be joined. It keeps no reference to the event.
func (j *Joiner) Add(name, data []byte) bool {
	if isDone(data) {
		return true
	}
	if j.count++; j.count == 1 {
		j.only = bytes.Clone(data)
	} else {
		j.only = nil
	}
	switch j.endpoint.events() {
	case chunksOfChoices, responseEvents:
		j.added += len(data)
		j.parts.Add(name, data)
	case imageEvents:
		if kind, _ := eventType(name, data); bytes.HasSuffix(kind, []byte(".completed")) {
			j.added += len(data)
			j.images.add(data)
		}
	}
	return j.added <= maxJoined
}

// Answer returns the whole answer. It returns false if the events cannot be joined without losing a part of them.
func (j *Joiner) Answer() ([]byte, bool) {
	whole, ok := j.joined()
	if !ok && j.only != nil && j.endpoint.events() != chunksOfChoices { // a server that wraps whole answers in events
		return j.only, true
	}
	return whole, ok
}

func (j *Joiner) joined() ([]byte, bool) {
	switch j.endpoint.events() {
	case chunksOfChoices, responseEvents:
		return j.parts.Answer()
	case imageEvents:
		return j.images.answer()
	}
	return nil, false
}

// jsonArray returns an array of values.
func jsonArray(values [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(values, []byte{','})...), ']')
}

// An imageJoiner joins the events that each have a complete image.
type imageJoiner struct {
	data   [][]byte // an element for each image
	rest   fields   // what the events say about all images
	failed bool
}

func (j *imageJoiner) add(event []byte) {
	var image fields
	err := jsonspan.EachMember(event, func(key, value []byte) bool {
		switch string(key) {
		case "type", "sequence_number", "partial_image_index":
		case "b64_json", "url", "revised_prompt":
			image.keepLast(key, value)
		case "created_at":
			j.rest.keepFirst([]byte("created"), value)
		default:
			j.rest.keepLast(key, value)
		}
		return true
	})
	j.failed = j.failed || err != nil || len(image) == 0
	j.data = append(j.data, append(image.appendJSON([]byte{'{'}), '}'))
}

func (j *imageJoiner) answer() ([]byte, bool) {
	if j.failed || len(j.data) == 0 {
		return nil, false
	}
	j.rest.keepFirst([]byte("data"), jsonArray(j.data))
	return append(j.rest.appendJSON([]byte{'{'}), '}'), true
}

// SplitAnswer converts a whole answer into the events of a stream, and visits the name and the data of each. Usage means that it is
// the event that only stream_options.include_usage asks for. It returns false if the answer cannot be converted; events that were
// visited before that must be discarded.
func SplitAnswer(e *Endpoint, body []byte, visit func(name string, data []byte, usage bool)) bool {
	switch e.events() {
	case chunksOfChoices:
		return Split(body, func(data []byte, usage bool) { visit("", data, usage) })
	case responseEvents:
		return splitResponse(body, visit)
	case imageEvents:
		return splitImages(e, body, visit)
	}
	return false
}

// splitImages makes an event of each image.
func splitImages(e *Endpoint, body []byte, visit func(name string, data []byte, usage bool)) bool {
	kind := "image_generation.completed"
	if e.Name == "image_edits" {
		kind = "image_edit.completed"
	}
	var images [][]byte
	var common, usage []byte
	ok := eachMember(body, func(key, value []byte) bool {
		switch string(key) {
		case "data":
			return eachElement(value, func(image []byte) bool { images = append(images, image); return image[0] == '{' })
		case "usage":
			usage = value
		case "created":
			common = appendMember(append(common, ','), []byte("created_at"), value)
		default:
			common = appendMember(append(common, ','), key, value)
		}
		return true
	})
	if !ok || len(images) == 0 {
		return false
	}
	for i, image := range images {
		b := append([]byte(`{"type":`), strconv.Quote(kind)...)
		if !eachMember(image, func(key, value []byte) bool { b = appendMember(append(b, ','), key, value); return true }) {
			return false
		}
		b = append(b, common...)
		if usage != nil && i == len(images)-1 {
			b = append(append(b, `,"usage":`...), usage...)
		}
		visit(kind, oneLine(append(b, '}')), false)
	}
	return true
}

// oneLine replaces the line breaks between the values of a JSON text, which has none within its strings: an event is one line.
func oneLine(text []byte) []byte {
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text[i] = ' '
		}
	}
	return text
}
