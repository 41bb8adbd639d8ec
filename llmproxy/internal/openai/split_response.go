package openai

import (
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// splitResponse makes the events of a stream of a whole response, in the order in which the Responses API sends them. Clients take
// different ones for the answer: SDKs the last, Codex the items that are done, user interfaces the deltas.
func splitResponse(body []byte, visit func(name string, data []byte, usage bool)) bool {
	var response jsonspan.Object
	if response.Scan(body) != nil {
		return false
	}
	last := "response.completed"
	if status, ok := response.Get("status"); ok {
		switch string(status) {
		case `"completed"`:
		case `"incomplete"`:
			last = "response.incomplete"
		default:
			return false
		}
	}
	items, ok := response.Get("output")
	if !ok {
		return false
	}
	s := &responseSplitter{visit: visit}
	var start jsonspan.Edit
	start.Reset(&response)
	start.Set("status", inProgress)
	start.Set("output", emptyArray)
	for _, later := range [...]string{"usage", "completed_at", "incomplete_details"} {
		if start.Has(later) {
			start.Set(later, null)
		}
	}
	begun := start.Bytes()
	s.emit("response.created", field{key: []byte("response"), value: begun})
	s.emit("response.in_progress", field{key: []byte("response"), value: begun})
	if !eachElement(items, s.item) {
		return false
	}
	s.emit(last, field{key: []byte("response"), value: body})
	return true
}

var (
	inProgress  = []byte(`"in_progress"`)
	emptyArray  = []byte("[]")
	emptyString = []byte(`""`)
	null        = []byte("null")
)

// A responseSplitter makes the events of one stream.
type responseSplitter struct {
	visit    func(name string, data []byte, usage bool)
	sequence int
	output   int    // index of the current item
	id       []byte // of the current item
}

// emit visits an event with a type, a sequence number and other members.
func (s *responseSplitter) emit(kind string, members ...field) {
	b := strconv.AppendQuote([]byte(`{"type":`), kind)
	b = strconv.AppendInt(append(b, `,"sequence_number":`...), int64(s.sequence), 10)
	s.sequence++
	for _, m := range members {
		b = appendMember(append(b, ','), m.key, m.value)
	}
	s.visit(kind, oneLine(append(b, '}')), false)
}

// emitOf visits an event about the current item.
func (s *responseSplitter) emitOf(kind string, members ...field) {
	about := []field{{key: []byte("item_id"), value: s.id}, {key: []byte("output_index"), value: number(s.output)}}
	s.emit(kind, append(about, members...)...)
}

func number(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

// item visits the events of an item of the output. Of an item that it does not know, these are its beginning and its end.
func (s *responseSplitter) item(item []byte) bool {
	var parsed jsonspan.Object
	if parsed.Scan(item) != nil {
		return false
	}
	s.id = emptyString
	if id, ok := parsed.Get("id"); ok {
		s.id = id
	}
	var begun jsonspan.Edit
	begun.Reset(&parsed)
	for _, empty := range [...]field{
		{key: []byte("status"), value: inProgress}, {key: []byte("content"), value: emptyArray}, {key: []byte("summary"), value: emptyArray},
		{key: []byte("arguments"), value: emptyString}, {key: []byte("input"), value: emptyString},
	} {
		if value, ok := parsed.Get(string(empty.key)); ok && value[0] == empty.value[0] {
			begun.Set(string(empty.key), empty.value)
		}
	}
	begun.Drop("encrypted_content")
	index := field{key: []byte("output_index"), value: number(s.output)}
	s.emit("response.output_item.added", index, field{key: []byte("item"), value: begun.Bytes()})
	s.content(&parsed)
	s.emit("response.output_item.done", index, field{key: []byte("item"), value: item})
	s.output++
	return true
}

// content visits the events of what an item contains. Values of the wrong type are left to the event of the whole item.
func (s *responseSplitter) content(item *jsonspan.Object) {
	kind, _ := item.Get("type")
	switch string(kind) {
	case `"reasoning"`:
		s.parts(item, "summary")
		s.parts(item, "content")
	case `"message"`:
		s.parts(item, "content")
	case `"function_call"`:
		name, _ := item.Get("name")
		s.argument(item, "arguments", "response.function_call_arguments", field{key: []byte("name"), value: name})
	case `"custom_tool_call"`:
		s.argument(item, "input", "response.custom_tool_call_input")
	}
}

// argument visits the events of a tool call's argument. The last one has more members, unless their values are nil.
func (s *responseSplitter) argument(item *jsonspan.Object, key, kind string, more ...field) {
	if value, ok := item.Get(key); ok && value[0] == '"' {
		s.emitOf(kind+".delta", field{key: []byte("delta"), value: value})
		more = slices.DeleteFunc(more, func(f field) bool { return f.value == nil })
		s.emitOf(kind+".done", append([]field{{key: []byte(key), value: value}}, more...)...)
	}
}

// parts visits the events of the parts of a message or of a reasoning item.
func (s *responseSplitter) parts(item *jsonspan.Object, list string) {
	parts, _ := item.Get(list)
	i := 0
	_ = jsonspan.EachElement(parts, func(part []byte) bool { // a value that is not an array has no parts
		s.part(part, list == "summary", i)
		i++
		return true
	})
}

// part visits the events of one part. Text is the member that has its text.
func (s *responseSplitter) part(part []byte, isSummary bool, i int) {
	var parsed jsonspan.Object
	if parsed.Scan(part) != nil {
		return
	}
	index, around, kind, text := "content_index", "response.content_part", "", "text"
	switch t, _ := parsed.Get("type"); {
	case isSummary:
		index, around, kind = "summary_index", "response.reasoning_summary_part", "response.reasoning_summary_text"
	case string(t) == `"output_text"`:
		kind = "response.output_text"
	case string(t) == `"reasoning_text"`:
		kind = "response.reasoning_text"
	case string(t) == `"refusal"`:
		kind, text = "response.refusal", "refusal"
	}
	at := field{key: []byte(index), value: number(i)}
	var begun jsonspan.Edit
	begun.Reset(&parsed)
	value, hasText := parsed.Get(text)
	if hasText = hasText && kind != "" && value[0] == '"'; hasText {
		begun.Set(text, emptyString)
	}
	annotations, _ := parsed.Get("annotations")
	logprobs, _ := parsed.Get("logprobs")
	for _, list := range [...]string{"annotations", "logprobs"} {
		if begun.Has(list) {
			begun.Set(list, emptyArray)
		}
	}
	s.emitOf(around+".added", at, field{key: []byte("part"), value: begun.Bytes()})
	if hasText {
		event := []field{at, {key: []byte("delta"), value: value}}
		if kind == "response.output_text" { // SDKs require them
			if len(logprobs) == 0 || logprobs[0] != '[' {
				logprobs = emptyArray
			}
			event = append(event, field{key: []byte("logprobs"), value: logprobs})
		}
		if !isEmpty(value) {
			s.emitOf(kind+".delta", event...)
		}
		s.annotations(annotations, at)
		event[1].key = []byte(text)
		s.emitOf(kind+".done", event...)
	}
	s.emitOf(around+".done", at, field{key: []byte("part"), value: part})
}

func (s *responseSplitter) annotations(list []byte, at field) {
	i := 0
	_ = jsonspan.EachElement(list, func(annotation []byte) bool { // a value that is not an array has none
		s.emitOf("response.output_text.annotation.added", at, field{key: []byte("annotation_index"), value: number(i)}, field{key: []byte("annotation"), value: annotation})
		i++
		return true
	})
}
