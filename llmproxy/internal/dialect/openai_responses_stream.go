package dialect

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A ResponseStream translates an answer of OpenAI's chat completions to one of the Responses API: a stream to its events, a whole answer to
// a response. The grammar of the events is
//
//	response.created response.in_progress item* (response.completed | response.incomplete)
//	item: response.output_item.added, the events of its parts, response.output_item.done
//
// with one item open at a time, as OpenAI sends them. Chat completions may mix the arguments of several tool calls, and text with them.
// While the arguments of the open call are incomplete, everything else waits for its turn.
//
// The last event repeats all items, so that they are kept until then, and bounded. An error of the upstream passes as it came, and a
// stream that breaks off gets no end: the relay classifies failures, and reports them in the client's format.
type ResponseStream struct {
	// Request is what the translation of the request has found.
	Request *ResponseRequest
	// Model is the name of the model for an upstream that does not state it.
	Model string

	id       string // a part of all IDs
	model    []byte // raw, quotes included
	created  int64
	sequence int64

	started   bool
	finished  bool // the upstream has sent a finish reason
	ended     bool
	failed    bool
	whole     bool // the answer is not a stream: there are no events
	truncated bool // the answer ends before its time

	output []byte   // the items, with commas between them; the open one is the last
	items  int      // that have begun
	item   itemKind // the open one
	itemID string   // what its ID begins with
	itemAt int      // where it begins in output
	part   partKind // the open one
	parts  int      // of the open item that have begun
	partAt int      // where it begins in output
	textAt int      // where its text begins
	textTo int      // where the text of the last closed part ends

	annotations []byte // of the open text, with commas between them
	cited       int    // their number
	logprobs    []byte // of the open text, with commas between them
	newLogprobs []byte // those of the text that comes next
	blocks      []byte // thinking_blocks of the open reasoning, with commas between them
	details     []byte // its reasoning_details
	signatures  []byte // of the tool calls that follow it

	calls   streamedCalls
	current *streamedCall // whose item is open
	tool    responseTool  // that it calls
	input   customReader  // of the arguments of a custom tool
	waiting []waitingPart // until the open call is complete
	held    int           // bytes of texts and arguments that have waited

	reason                     []byte // the finish reason, raw
	usage                      tokens.Usage
	counted                    bool // the usage is known
	tier, fingerprint, timings []byte

	data    []byte // reused for the data of an event
	decoded []byte // reused for a part of a call's arguments
	inputs  []byte // reused for a part of a custom tool's input
}

type itemKind uint8

const (
	noItem itemKind = iota
	messageItem
	reasoningItem
	callItem
)

type partKind uint8

const (
	noPart partKind = iota
	outputText
	refusalText
	summaryText
	functionArguments
	customToolInput
)

// responseParts says how the parts of items look. Arguments and inputs are members of their item.
var responseParts = [...]struct {
	item          itemKind
	added, closed string // the events around those of its text
	delta, done   string // the events of its text
	index         string // the member of these events with the part's index
	text          string // the member of done with the text
	begin         string // the part up to its text
	end           string // what follows the text
}{
	outputText: {messageItem, "response.content_part.added", "response.content_part.done", "response.output_text.delta", "response.output_text.done",
		"content_index", "text", `{"type":"output_text","text":"`, `","annotations":[],"logprobs":[]}`},
	refusalText: {messageItem, "response.content_part.added", "response.content_part.done", "response.refusal.delta", "response.refusal.done",
		"content_index", "refusal", `{"type":"refusal","refusal":"`, `"}`},
	summaryText: {reasoningItem, "response.reasoning_summary_part.added", "response.reasoning_summary_part.done", "response.reasoning_summary_text.delta",
		"response.reasoning_summary_text.done", "summary_index", "text", `{"type":"summary_text","text":"`, `"}`},
	functionArguments: {callItem, "", "", "response.function_call_arguments.delta", "response.function_call_arguments.done", "", "arguments", "", `"`},
	customToolInput:   {callItem, "", "", "response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "", "input", "", `"`},
}

// A waitingPart is a text that waits.
type waitingPart struct {
	kind partKind
	raw  []byte // quotes included
}

// responseFrame is more than an event adds to the items and to what the request said.
const responseFrame = 8 << 10

var (
	errLongResponse = &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error", Message: "The answer is too long to be translated."}
	errNoJSON       = &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error", Message: "The upstream sent an event that is not JSON."}
	errFinishError  = &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error", Message: "The upstream ended its answer with an error."}
)

// Append translates the data of one event, and appends what it becomes.
func (s *ResponseStream) Append(dst, data []byte) []byte {
	if s.ended {
		return dst
	}
	e := openai.Chunks.Next(nil, data)
	switch {
	case e.Done:
		return s.End(dst)
	case len(bytes.TrimSpace(data)) == 0:
		return dst
	case e.Err != nil:
		s.fail()
		return sse.AppendData(dst, append(append([]byte(`{"error":`), e.Err...), '}'))
	}
	choices, ok := s.read(data)
	if !ok {
		return s.failWith(dst, errNoJSON)
	}
	jsonspan.Elements(choices, func(choice []byte) bool { // the last chunk has none
		if !s.started {
			dst = s.start(dst)
		}
		dst = s.choice(dst, choice)
		return true
	})
	if e.Usage != nil {
		s.count(e.Usage)
	}
	if e.Reason != nil {
		if jsonspan.EqualString(e.Reason, "error") {
			return s.failWith(dst, errFinishError)
		}
		s.finished, s.reason = true, append(s.reason[:0], e.Reason...)
	}
	if s.finished && s.counted { // some servers send no [DONE]
		return s.End(dst)
	}
	return dst
}

// read reads the members of a chunk, and returns its choices. It returns false if that is not valid JSON.
func (s *ResponseStream) read(data []byte) (choices []byte, ok bool) {
	err := jsonspan.EachMember(data, func(key, value []byte) bool {
		if string(key) == "choices" {
			choices = value
		} else {
			s.member(key, value)
		}
		return true
	})
	return choices, err == nil
}

// member reads another member of a chunk or an answer than its choices.
func (s *ResponseStream) member(key, value []byte) {
	switch string(key) {
	case "model":
		if isText(value) && !s.started {
			s.model = append(s.model[:0], value...)
		}
	case "created":
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 && !s.started {
			s.created = n
		}
	case "service_tier":
		if isText(value) {
			s.tier = append(s.tier[:0], value...)
		}
	case "system_fingerprint":
		if isText(value) {
			s.fingerprint = append(s.fingerprint[:0], value...)
		}
	case "timings": // of llama.cpp
		if value[0] == '{' {
			s.timings = append(s.timings[:0], value...)
		}
	default:
		if s.whole {
			s.count(openai.UsageIn(key, value))
		}
	}
}

func (s *ResponseStream) count(usage []byte) {
	if u, ok := openai.ParseUsage(usage); ok {
		s.usage, s.counted = u, true
	}
}

func (s *ResponseStream) choice(dst, choice []byte) []byte {
	var delta, message, logprobs []byte
	first := true
	jsonspan.Members(choice, func(key, value []byte) bool { // it has been read as a part of the chunk
		switch string(key) {
		case "index":
			first = string(value) == "0"
		case "delta":
			delta = value
		case "message": // of a server that cannot stream
			message = value
		case "logprobs":
			logprobs = value
		}
		return true
	})
	if !first { // a response is one answer
		return dst
	}
	if delta == nil && s.items == 0 {
		delta = message
	}
	return s.delta(dst, delta, logprobs)
}

// delta adds what a chunk, or a whole message, says.
func (s *ResponseStream) delta(dst, value, logprobs []byte) []byte {
	d := readDelta(value)
	dst = s.text(dst, summaryText, d.reasoning)
	if d.thinkingBlocks != nil || d.reasoningDetails != nil {
		dst = s.keep(dst, d.thinkingBlocks, d.reasoningDetails)
	}
	if len(d.content) > 0 && d.content[0] == '[' { // Mistral
		eachPart(d.content, func(kind blockKind, raw []byte) {
			if kind == thinkingBlock {
				dst = s.text(dst, summaryText, raw)
			} else {
				dst = s.text(dst, outputText, raw)
			}
		})
	} else {
		s.newLogprobs = appendElements(s.newLogprobs[:0], get(logprobs, "content"))
		dst = s.text(dst, outputText, d.content)
	}
	dst = s.annotate(dst, d.annotations)
	dst = s.text(dst, refusalText, d.refusal)
	d.eachCall(func(call []byte) { dst = s.call(dst, call) })
	return dst
}

// appendElements appends the elements of a list to others, with commas between all of them.
func appendElements(b, list []byte) []byte {
	if len(list) < 2 || list[0] != '[' {
		return b
	}
	list = bytes.TrimSpace(list[1 : len(list)-1])
	if len(b) > 0 && len(list) > 0 {
		b = append(b, ',')
	}
	return append(b, list...)
}

// text adds a text, quotes included. While a call is incomplete, it waits.
func (s *ResponseStream) text(dst []byte, kind partKind, raw []byte) []byte {
	switch {
	case !isText(raw) || s.failed:
		return dst
	case !s.fits(len(raw)):
		return s.failWith(dst, errLongResponse)
	case s.busy():
		s.held += len(raw)
		s.waiting = append(s.waiting, waitingPart{kind, bytes.Clone(raw)})
		return dst
	}
	return s.add(s.ensure(dst, kind), raw[1:len(raw)-1])
}

// busy reports whether the arguments of the open call are incomplete.
func (s *ResponseStream) busy() bool { return s.current != nil && !s.current.json.complete() }

// fits reports whether the last event has room for so many bytes more.
func (s *ResponseStream) fits(n int) bool {
	return s.whole || len(s.output)+len(s.blocks)+len(s.details)+len(s.signatures)+len(s.logprobs)+s.held+len(s.Request.Echo)+responseFrame+n <= maxWaiting
}

// fail ends the stream without an end.
func (s *ResponseStream) fail() {
	s.ended, s.failed, s.item, s.part, s.current = true, true, noItem, noPart, nil
	s.output, s.calls, s.waiting = nil, nil, nil
}

// failWith ends the stream with an error.
func (s *ResponseStream) failWith(dst []byte, e *openai.Error) []byte {
	s.fail()
	return sse.AppendData(dst, e.AppendJSON(s.data[:0]))
}

// start appends the first two events.
func (s *ResponseStream) start(dst []byte) []byte {
	s.begin()
	for _, event := range [...]string{"response.created", "response.in_progress"} {
		b := s.appendHead(append(s.event(event), `,"response":`...), "in_progress")
		dst = s.emit(dst, event, s.appendTail(b))
	}
	return dst
}

// begin sets what all responses state.
func (s *ResponseStream) begin() {
	s.started, s.id = true, rand.Text()
	if s.model == nil {
		s.model = jsonspan.AppendString(nil, s.Model)
	}
	if s.created == 0 {
		s.created = time.Now().Unix()
	}
}

// appendHead appends the response up to its output.
func (s *ResponseStream) appendHead(b []byte, status string) []byte {
	b = append(append(b, `{"id":"resp_`...), s.id...)
	b = strconv.AppendInt(append(b, `","object":"response","created_at":`...), s.created, 10)
	b = append(b, `,"completed_at":`...)
	if status == "completed" {
		b = strconv.AppendInt(b, time.Now().Unix(), 10)
	} else {
		b = append(b, "null"...)
	}
	b = append(append(append(b, `,"status":"`...), status...), `","error":null,"incomplete_details":`...)
	if status == "incomplete" {
		b = append(append(append(b, `{"reason":"`...), s.incomplete()...), `"}`...)
	} else {
		b = append(b, "null"...)
	}
	b = append(append(b, `,"model":`...), s.model...)
	return append(b, `,"output":[`...)
}

// incomplete returns the reason why the answer is not complete, or "".
func (s *ResponseStream) incomplete() string {
	switch string(s.reason) {
	case `"length"`:
		return "max_output_tokens"
	case `"content_filter"`:
		return "content_filter"
	}
	return ""
}

// appendTail appends the response from the end of its output on.
func (s *ResponseStream) appendTail(b []byte) []byte {
	b = append(b, ']')
	if len(s.Request.Echo) > 0 {
		b = append(append(b, ','), s.Request.Echo...)
	}
	b = append(b, `,"service_tier":`...)
	if s.tier == nil {
		b = append(b, `"default"`...)
	}
	b = append(append(b, s.tier...), `,"usage":`...)
	if s.counted && s.ended {
		b = appendResponseUsage(b, s.usage)
	} else {
		b = append(b, "null"...)
	}
	if s.fingerprint != nil {
		b = append(append(b, `,"system_fingerprint":`...), s.fingerprint...)
	}
	if s.timings != nil {
		b = append(append(b, `,"timings":`...), s.timings...)
	}
	return append(b, '}')
}

// appendResponseUsage appends the usage of a response.
func appendResponseUsage(b []byte, u tokens.Usage) []byte {
	b = strconv.AppendInt(append(b, `{"input_tokens":`...), u.Input, 10)
	b = strconv.AppendInt(append(b, `,"input_tokens_details":{"cached_tokens":`...), u.Cached, 10)
	b = strconv.AppendInt(append(b, `,"cache_write_tokens":`...), u.CacheWrite, 10)
	b = strconv.AppendInt(append(b, `},"output_tokens":`...), u.Output, 10)
	b = strconv.AppendInt(append(b, `,"output_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
	b = strconv.AppendInt(append(b, `},"total_tokens":`...), u.Input+u.Output, 10)
	return append(b, '}')
}

// event begins the data of an event.
func (s *ResponseStream) event(kind string) []byte {
	return append(append(append(s.data[:0], `{"type":"`...), kind...), '"')
}

// emit ends the data of an event, and appends the event. The sequence number is last, because the relay looks for it from the end.
func (s *ResponseStream) emit(dst []byte, kind string, data []byte) []byte {
	if s.failed {
		return dst
	}
	data = append(strconv.AppendInt(append(data, `,"sequence_number":`...), s.sequence, 10), '}')
	s.sequence++
	s.data = data
	return sse.AppendEvent(dst, kind, data)
}

// emitItem appends an event about the open item, which ends with the tail.
func (s *ResponseStream) emitItem(dst []byte, kind, tail string) []byte {
	if s.whole {
		return dst
	}
	b := strconv.AppendInt(append(s.event(kind), `,"output_index":`...), int64(s.items-1), 10)
	b = append(append(append(b, `,"item":`...), s.output[s.itemAt:]...), tail...)
	return s.emit(dst, kind, b)
}

// emitPart appends an event about the open part, which ends with the tail.
func (s *ResponseStream) emitPart(dst []byte, kind, tail string) []byte {
	if s.whole {
		return dst
	}
	b := append(append(s.aboutPart(kind), `,"part":`...), s.output[s.partAt:]...)
	return s.emit(dst, kind, append(b, tail...))
}

// aboutPart begins the data of an event about the open part.
func (s *ResponseStream) aboutPart(kind string) []byte {
	b := s.appendItemID(append(s.event(kind), `,"item_id":`...))
	b = strconv.AppendInt(append(b, `,"output_index":`...), int64(s.items-1), 10)
	if index := responseParts[s.part].index; index != "" {
		b = append(append(append(b, `,"`...), index...), `":`...)
		b = strconv.AppendInt(b, int64(s.parts-1), 10)
	}
	return b
}

func (s *ResponseStream) appendItemID(b []byte) []byte {
	b = append(append(append(b, '"'), s.itemID...), s.id...)
	b = strconv.AppendInt(append(b, '_'), int64(s.items-1), 10)
	return append(b, '"')
}

// ensure opens a part of this kind, unless one is open.
func (s *ResponseStream) ensure(dst []byte, kind partKind) []byte {
	if s.part == kind {
		return dst
	}
	p := &responseParts[kind]
	dst = s.closePart(s.ensureItem(dst, p.item))
	if s.parts > 0 {
		s.output = append(s.output, ',')
	}
	s.part, s.parts, s.partAt = kind, s.parts+1, len(s.output)
	s.output = append(s.output, p.begin...)
	s.textAt = len(s.output)
	return s.emitPart(dst, p.added, p.end)
}

// ensureItem opens a message or reasoning, unless it is open.
func (s *ResponseStream) ensureItem(dst []byte, item itemKind) []byte {
	if s.item == item {
		return dst
	}
	dst = s.closeItem(dst)
	s.item = item
	if item == messageItem {
		s.beginItem("msg_")
		s.output = append(s.output, `,"type":"message","role":"assistant","content":[`...)
	} else {
		s.beginItem("rs_")
		s.output = append(s.output, `,"type":"reasoning","summary":[`...)
	}
	return s.emitItem(dst, "response.output_item.added", `],"status":"in_progress"}`)
}

// beginItem begins an item with its ID.
func (s *ResponseStream) beginItem(id string) {
	if s.items > 0 {
		s.output = append(s.output, ',')
	}
	s.itemID, s.itemAt = id, len(s.output)
	s.items, s.parts = s.items+1, 0
	s.output = s.appendItemID(append(s.output, `{"id":`...))
}

// add adds to the text of the open part.
func (s *ResponseStream) add(dst, raw []byte) []byte {
	s.output = append(s.output, raw...)
	if s.part == outputText && len(s.newLogprobs) > 0 {
		if len(s.logprobs) > 0 {
			s.logprobs = append(s.logprobs, ',')
		}
		s.logprobs = append(s.logprobs, s.newLogprobs...)
	}
	if s.whole || len(raw) == 0 {
		return dst
	}
	kind := responseParts[s.part].delta
	b := append(append(append(s.aboutPart(kind), `,"delta":"`...), raw...), '"')
	if s.part == outputText {
		b = append(append(append(b, `,"logprobs":[`...), s.newLogprobs...), ']')
	}
	return s.emit(dst, kind, b)
}

// closePart closes the open part, if there is one.
func (s *ResponseStream) closePart(dst []byte) []byte {
	if s.part == noPart {
		return dst
	}
	p := &responseParts[s.part]
	s.textTo = len(s.output)
	if !s.whole {
		b := append(append(append(s.aboutPart(p.done), `,"`...), p.text...), `":"`...)
		b = append(append(b, s.output[s.textAt:]...), '"')
		switch s.part {
		case outputText:
			b = append(append(append(b, `,"logprobs":[`...), s.logprobs...), ']')
		case functionArguments:
			b = jsonspan.AppendString(append(b, `,"name":`...), s.tool.name)
		}
		dst = s.emit(dst, p.done, b)
	}
	if s.part == outputText {
		s.output = append(append(s.output, `","annotations":[`...), s.annotations...)
		s.output = append(append(s.output, `],"logprobs":[`...), s.logprobs...)
		s.output = append(s.output, `]}`...)
		s.annotations, s.cited, s.logprobs = s.annotations[:0], 0, s.logprobs[:0]
	} else {
		s.output = append(s.output, p.end...)
	}
	if p.closed != "" {
		dst = s.emitPart(dst, p.closed, "")
	}
	s.part = noPart
	return dst
}

// closeItem closes the open item, if there is one.
func (s *ResponseStream) closeItem(dst []byte) []byte {
	complete := !s.truncated
	switch s.item {
	case noItem:
		return dst
	case callItem:
		complete = complete || !s.busy()
		dst = s.endCall(dst)
		s.current.closed, s.current = true, nil
	case messageItem:
		dst = s.closePart(dst)
		s.output = append(s.output, ']')
	case reasoningItem:
		hasText := s.part == summaryText
		dst = s.closePart(dst)
		s.output = append(s.output, ']')
		if !s.encrypt(hasText) {
			return s.failWith(dst, errLongResponse)
		}
	}
	status := `,"status":"incomplete"}`
	if complete {
		status = `,"status":"completed"}`
	}
	s.item, s.output = noItem, append(s.output, status...)
	return s.emitItem(dst, "response.output_item.done", "")
}

// keep keeps what the upstream wants back besides the text of its reasoning: signatures, and what is encrypted.
func (s *ResponseStream) keep(dst, blocks, details []byte) []byte {
	switch {
	case s.failed || s.busy() || len(blocks) <= 2 && len(details) <= 2:
		return dst
	case !s.fits(len(blocks) + len(details)):
		return s.failWith(dst, errLongResponse)
	}
	dst = s.ensureItem(dst, reasoningItem)
	s.blocks, s.details = appendElements(s.blocks, blocks), appendElements(s.details, details)
	return dst
}

// encrypt adds encrypted_content to the open reasoning, in which the client sends it back. It does so whether or not the request includes
// that: nothing is stored, and models that reason between tool calls need it. Summaries are not sent to models as reasoning, because the
// summary of a service is a different text. It returns false if the content is too long.
func (s *ResponseStream) encrypt(hasText bool) bool {
	w := writer{s.data[:0]}
	if hasText {
		w.rawText("reasoning_content", s.output[s.textAt:s.textTo])
	}
	for _, list := range [...]struct {
		name     string
		elements []byte
	}{{"thinking_blocks", s.blocks}, {"reasoning_details", s.details}, {"tool_calls", s.signatures}} {
		if len(list.elements) > 0 {
			w.key(list.name)
			w.b = append(append(append(w.b, '['), list.elements...), ']')
		}
	}
	s.data, s.blocks, s.details, s.signatures = w.b, s.blocks[:0], s.details[:0], s.signatures[:0]
	encrypted := encodeReasoning(w.b)
	if !s.fits(len(encrypted)) {
		return false
	}
	s.output = append(append(append(s.output, `,"encrypted_content":"`...), encrypted...), '"')
	return true
}

// annotate adds the citations of a text.
func (s *ResponseStream) annotate(dst, list []byte) []byte {
	jsonspan.Elements(list, func(annotation []byte) bool { // it may be null
		citation := get(annotation, "url_citation")
		if citation == nil || s.failed || s.busy() {
			return true
		}
		if !s.fits(len(s.annotations) + len(annotation)) {
			dst = s.failWith(dst, errLongResponse)
			return false
		}
		dst = s.ensure(dst, outputText)
		if s.cited > 0 {
			s.annotations = append(s.annotations, ',')
		}
		at := len(s.annotations)
		s.annotations = appendCitation(s.annotations, citation)
		if s.cited++; s.whole {
			return true
		}
		const kind = "response.output_text.annotation.added"
		b := strconv.AppendInt(append(s.aboutPart(kind), `,"annotation_index":`...), int64(s.cited-1), 10)
		dst = s.emit(dst, kind, append(append(b, `,"annotation":`...), s.annotations[at:]...))
		return true
	})
	return dst
}

// appendCitation appends a citation with all members that SDKs expect.
func appendCitation(b, citation []byte) []byte {
	var v [4][]byte
	object(citation, []string{"start_index", "end_index", "url", "title"}, v[:])
	w := writer{append(b, `{"type":"url_citation"`...)}
	for i, name := range [...]string{"start_index", "end_index"} {
		n, _ := strconv.ParseInt(string(v[i]), 10, 64) // zero if it is not there
		w.number(name, n)
	}
	w.text("url", str(v[2]))
	w.text("title", str(v[3]))
	return append(w.b, '}')
}

// call adds a part of a tool call. One item is open at a time; the parts of other calls wait.
func (s *ResponseStream) call(dst, raw []byte) []byte {
	index, id, name, arguments := callPart(raw)
	c, fragment := s.calls.of(index, id, name), rawArguments(arguments)
	switch {
	case s.failed, c.closed: // its arguments were complete
		return dst
	case !s.fits(len(fragment)):
		return s.failWith(dst, errLongResponse)
	case c == s.current:
		dst = s.arguments(dst, fragment)
		if s.busy() {
			return dst
		}
		return s.release(dst)
	}
	if extra := get(raw, "extra_content"); extra != nil {
		c.extra = bytes.Clone(extra)
	}
	s.held += len(fragment) + len(c.extra)
	c.pending = append(c.pending, fragment...)
	if c.name == "" || s.busy() { // it cannot be opened yet
		return dst
	}
	return s.openCall(dst, c)
}

// release adds what has waited for the open call: texts, and then other calls until one is incomplete.
func (s *ResponseStream) release(dst []byte) []byte {
	waiting := s.waiting
	s.waiting = nil
	for _, w := range waiting {
		s.newLogprobs = s.newLogprobs[:0]
		dst = s.text(dst, w.kind, w.raw)
	}
	for _, c := range s.calls {
		if s.busy() {
			break
		}
		if c != s.current && !c.closed && c.name != "" {
			dst = s.openCall(dst, c)
		}
	}
	return dst
}

// openCall closes what is open and opens the item of a call, with what has come of it.
func (s *ResponseStream) openCall(dst []byte, c *streamedCall) []byte {
	if c.id == "" {
		c.id = "call_" + s.id + "_" + strconv.Itoa(s.items)
	}
	if c.extra != nil { // Gemini's signature, which has no place in the call
		dst = s.ensureItem(dst, reasoningItem)
		if len(s.signatures) > 0 {
			s.signatures = append(s.signatures, ',')
		}
		s.signatures = append(jsonspan.AppendString(append(s.signatures, `{"id":`...), c.id), `,"extra_content":`...)
		s.signatures = append(append(s.signatures, c.extra...), '}')
	}
	if dst = s.closeItem(dst); s.failed {
		return dst
	}
	s.current, s.item, s.tool = c, callItem, s.Request.tool(c.name)
	switch s.tool.kind {
	case functionTool:
		s.part = functionArguments
	case customTool:
		s.part, s.input = customToolInput, customReader{}
	}
	if s.part != noPart {
		s.beginCall()
		s.output = append(s.output, '"')
		dst = s.emitItem(dst, "response.output_item.added", `","status":"in_progress"}`)
		s.textAt = len(s.output)
	}
	pending := c.pending
	c.pending = nil
	return s.arguments(dst, pending)
}

// beginCall begins the item of a call, up to its arguments.
func (s *ResponseStream) beginCall() {
	item := &callItems[s.tool.kind]
	s.beginItem(item.id)
	w := writer{s.output}
	w.text("type", item.call)
	w.text("call_id", s.current.id)
	if s.tool.namespace != "" {
		w.text("namespace", s.tool.namespace)
	}
	switch s.tool.kind {
	case functionTool, customTool:
		w.text("name", s.tool.name)
	case toolSearchTool:
		w.raw(`,"execution":"client"`)
	}
	w.key(item.argument)
	s.output = w.b
}

// arguments adds to the arguments of the open call.
func (s *ResponseStream) arguments(dst, fragment []byte) []byte {
	if len(fragment) == 0 {
		return dst
	}
	s.decoded = jsonspan.AppendUnescaped(s.decoded[:0], fragment)
	s.current.json.add(s.decoded)
	switch s.part {
	case functionArguments:
		return s.add(dst, fragment)
	case customToolInput:
		s.inputs = s.input.add(s.inputs[:0], s.decoded)
		s.held += max(0, len(fragment)-len(s.inputs))
		return s.add(dst, s.inputs)
	}
	s.held += len(fragment)
	s.current.pending = append(s.current.pending, fragment...) // the item has an object
	return dst
}

// endCall completes the item of the open call, but for its status. Clients decode the arguments of a function even if it has none.
func (s *ResponseStream) endCall(dst []byte) []byte {
	switch s.part {
	case functionArguments:
		if len(s.output) == s.textAt && !s.truncated {
			dst = s.add(dst, []byte("{}"))
		}
		return s.closePart(dst)
	case customToolInput:
		s.inputs = s.input.end(s.inputs[:0])
		return s.closePart(s.add(dst, s.inputs))
	}
	action := argumentsObject(append(append([]byte{'"'}, s.current.pending...), '"'))
	s.beginCall()
	if s.tool.kind == localShellTool {
		s.output = appendExec(s.output, action)
	} else {
		s.output = append(s.output, action...)
	}
	return s.emitItem(dst, "response.output_item.added", `,"status":"in_progress"}`)
}

// appendExec appends the action of local_shell with the members that the model is not asked for, and SDKs require.
func appendExec(b, action []byte) []byte {
	w := writer{append(b, `{"type":"exec"`...)}
	hasEnv := false
	jsonspan.Members(action, func(key, value []byte) bool { // it is an object
		if name := string(key); name != "type" {
			hasEnv = hasEnv || name == "env"
			w.member(name, value)
		}
		return true
	})
	if !hasEnv {
		w.raw(`,"env":{}`)
	}
	return append(w.b, '}')
}

// Close implements Answer.
func (s *ResponseStream) Close(b []byte) []byte {
	if !s.finished {
		return b
	}
	return s.End(b)
}

// End appends the end of the response, once the upstream has sent its own.
func (s *ResponseStream) End(dst []byte) []byte {
	if s.ended {
		return dst
	}
	if !s.started {
		dst = s.start(dst)
	}
	dst = s.complete(dst)
	if s.failed {
		return dst
	}
	s.ended = true
	status, kind := "completed", "response.completed"
	if s.truncated {
		status, kind = "incomplete", "response.incomplete"
	}
	b := s.appendHead(append(s.event(kind), `,"response":`...), status)
	b = append(b, s.output...)
	return s.emit(dst, kind, s.appendTail(b))
}

// complete closes all items.
func (s *ResponseStream) complete(dst []byte) []byte {
	s.truncated = s.incomplete() != ""
	for !s.failed && (len(s.waiting) > 0 || s.calls.wait()) {
		dst = s.release(s.closeItem(dst))
	}
	if s.items == 0 && s.item == noItem && !s.failed {
		dst = s.ensure(dst, outputText) // clients expect at least one item
	}
	return s.closeItem(dst)
}

// Whole appends the response that a whole chat completion becomes. It returns false if the answer has no choice.
func (s *ResponseStream) Whole(b, answer []byte) (response []byte, said openai.Answer, ok bool) {
	s.whole = true
	var choices []byte
	ok = jsonspan.Members(answer, func(key, value []byte) bool { // it was validated before
		if string(key) == "choices" {
			choices = value
		} else {
			s.member(key, value)
		}
		return true
	})
	var c [4][]byte
	object(firstChoice(choices), []string{"message", "finish_reason", "logprobs", "usage"}, c[:])
	if !ok || c[0] == nil || jsonspan.EqualString(c[1], "error") {
		return b, said, false
	}
	s.count(c[3]) // of Moonshot
	s.ended, s.reason = true, c[1]
	s.begin()
	status := "completed"
	if s.incomplete() != "" {
		status = "incomplete"
	}
	s.output = s.appendHead(slices.Grow(b, len(answer)+len(s.Request.Echo)+512), status)
	s.delta(nil, c[0], c[2])
	s.complete(nil)
	said = openai.Answer{Usage: s.usage, HasUsage: s.counted, ServiceTier: openai.ParseServiceTier(s.tier), Timings: openai.ParseTimings(s.timings)}
	return s.appendTail(s.output), said, true
}

// A responseAnswer is a ResponseStream with what the translation of the request has found. It is pooled, because it is large.
type responseAnswer struct {
	ResponseStream
	about ResponseRequest
}

var responseAnswers = sync.Pool{New: func() any { return new(responseAnswer) }}

// Whole implements Answer.
func (a *responseAnswer) Whole(b, answer []byte) (translated []byte, said openai.Answer, ok bool) {
	translated, said, ok = a.ResponseStream.Whole(b, answer)
	echo := a.about.Echo
	if *a = (responseAnswer{}); cap(echo) <= maxDraft {
		a.about.Echo = echo[:0]
	}
	responseAnswers.Put(a)
	return translated, said, ok
}
