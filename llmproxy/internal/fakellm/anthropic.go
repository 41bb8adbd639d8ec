package fakellm

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

// anthropic is Anthropic's API. It demands anthropic-version and max_tokens, and its streams are typed events without [DONE].
var anthropic = &kind{
	jsonType: "application/json", streamType: "text/event-stream; charset=utf-8",
	headers: []string{
		"Request-Id", "req_011CSHoEeqs5C35K2UUqR7Fy", "Anthropic-Organization-Id", "org-1", "Anthropic-Ratelimit-Requests-Limit", "4000",
		"Anthropic-Ratelimit-Requests-Remaining", "3999", "Anthropic-Ratelimit-Requests-Reset", "2026-11-29T10:00:00Z",
	},
	errorBody: func(e apiError) string {
		return fmt.Sprintf(`{"type":"error","error":{"type":%s,"message":%s},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`, quote(cmp.Or(e.typ, anthropicTypes[e.status], "invalid_request_error")), quote(e.message))
	},
	streamError: func(*exchange) [][]byte {
		return events("event: error\n" + `data: {"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`)
	},
	endpoints: map[string]func(x *exchange) reply{messagesPath: renderMessage},
	probes: map[string]func(x *exchange) reply{
		"GET /v1/models":                 anthropicModels,
		"POST /v1/messages/count_tokens": constant(`{"input_tokens":14}`),
	},
	model: anthropicModel,
	validate: func(x *exchange) refusal {
		if x.r.Header.Get("Anthropic-Version") == "" || len(x.params.Messages) == 0 || x.params.MaxTokens < 1 {
			return missingInput
		}
		return accepted
	},
	errors: map[refusal]apiError{
		busy:          {status: 529, message: "Overloaded", typ: "overloaded_error"},
		loading:       {status: 529, message: "Overloaded", typ: "overloaded_error"},
		unknownModel:  {status: http.StatusNotFound, message: "model: {model}", typ: "not_found_error"},
		tooLong:       {status: http.StatusBadRequest, message: "prompt is too long: 210000 tokens > 200000 maximum"},
		outputTooLong: {status: http.StatusBadRequest, message: "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for {model}"},
		noTools:       {status: http.StatusBadRequest, message: "'{model}' does not support tool use."},
		internalError: {status: http.StatusInternalServerError, message: "Internal server error", typ: "api_error"},
		unauthorized:  {status: http.StatusUnauthorized, message: "invalid x-api-key", typ: "authentication_error"},
		rateLimited: {
			status: http.StatusTooManyRequests, message: "This request would exceed your organization's rate limit.", typ: "rate_limit_error",
			headers: []string{"Retry-After", "1"},
		},
		badJSON:      {status: http.StatusBadRequest, message: "The request body is not valid JSON: expected value at line 1 column 1 (char 0)"},
		missingModel: {status: http.StatusBadRequest, message: "model: Field required"},
		missingInput: {status: http.StatusBadRequest, message: "max_tokens: Field required"},
		wrongPath:    {status: http.StatusNotFound, message: "Not found", typ: "not_found_error"},
		wrongMethod:  {status: http.StatusMethodNotAllowed, message: "Method Not Allowed", typ: "invalid_request_error"},
	},
}

const messagesPath = "/v1/messages"

// anthropicTypes are the types of errors that do not follow from a refusal.
var anthropicTypes = map[int]string{
	401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
	500: "api_error", 504: "timeout_error", 529: "overloaded_error",
}

// renderMessage answers POST /v1/messages.
func renderMessage(x *exchange) reply {
	a := &x.answer
	stop := map[string]string{"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[a.finish]
	head := fmt.Sprintf(`"id":"msg_%d","type":"message","role":"assistant","model":%s`, x.id, quote(x.params.Model))
	usage := fmt.Sprintf(`"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":%d`, a.usage.input-a.usage.cached, a.usage.cached)
	blocks := x.blocks()
	if !x.params.Stream {
		content := make([]string, len(blocks))
		for i, b := range blocks {
			content[i] = b.whole
		}
		return x.json(fmt.Sprintf(`{%s,"content":[%s],"stop_reason":%s,"stop_sequence":null,"usage":{%s,"output_tokens":%d,"service_tier":"standard"}}`,
			head, strings.Join(content, ","), quote(stop), usage, a.usage.output))
	}
	opening := events(
		"event: message_start\n"+fmt.Sprintf(`data: {"type":"message_start","message":{%s,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{%s,"output_tokens":1}}}`, head, usage),
		blocks[0].startEvent(0),
		"event: ping\n"+`data: {"type": "ping"}`,
	)
	var tokens []string
	for i, b := range blocks {
		between := ""
		if i > 0 { // a block begins and ends together with a token, because faults count these
			between = stopEvent(i-1) + "\n\n" + b.startEvent(i) + "\n\n"
		}
		for _, delta := range b.deltas {
			tokens = append(tokens, between+"event: content_block_delta\n"+fmt.Sprintf(`data: {"type":"content_block_delta","index":%d,"delta":{%s}}`, i, delta))
			between = ""
		}
	}
	closing := []string{stopEvent(len(blocks) - 1)}
	if !a.noFinish {
		closing = append(closing, "event: message_delta\n"+fmt.Sprintf(`data: {"type":"message_delta","delta":{"stop_reason":%s,"stop_sequence":null},"usage":{"output_tokens":%d}}`, quote(stop), a.usage.output))
	}
	if !a.noDone {
		closing = append(closing, "event: message_stop\n"+`data: {"type":"message_stop"}`)
	}
	return x.stream(opening, events(tokens...), events(closing...))
}

// A messageBlock is a block of a message: in a whole answer, and in the parts of a stream.
type messageBlock struct {
	whole, start string
	deltas       []string // without their braces
}

func (b messageBlock) startEvent(index int) string {
	return "event: content_block_start\n" + fmt.Sprintf(`data: {"type":"content_block_start","index":%d,"content_block":%s}`, index, b.start)
}

func stopEvent(index int) string {
	return "event: content_block_stop\n" + fmt.Sprintf(`data: {"type":"content_block_stop","index":%d}`, index)
}

// blocks returns the answer's thinking, text and tool calls. There is always one block.
func (x *exchange) blocks() (blocks []messageBlock) {
	a := &x.answer
	if len(a.thinking) > 0 {
		thought := messageBlock{
			whole: `{"type":"thinking","thinking":` + quote(strings.Join(a.thinking, "")) + `,"signature":"` + signature + `"}`,
			start: `{"type":"thinking","thinking":"","signature":""}`,
		}
		for _, t := range a.thinking {
			thought.deltas = append(thought.deltas, `"type":"thinking_delta","thinking":`+quote(t))
		}
		thought.deltas = append(thought.deltas, `"type":"signature_delta","signature":"`+signature+`"`)
		blocks = append(blocks, thought)
	}
	if len(a.tokens) > 0 || len(a.calls) == 0 {
		text := messageBlock{whole: `{"type":"text","text":` + quote(a.text()) + `}`, start: `{"type":"text","text":""}`}
		for _, t := range a.tokens {
			text.deltas = append(text.deltas, `"type":"text_delta","text":`+quote(t))
		}
		blocks = append(blocks, text)
	}
	for i, c := range a.calls {
		head := `{"type":"tool_use","id":` + quote(x.callID("toolu", i)) + `,"name":` + quote(c.name) + `,"input":`
		call := messageBlock{whole: head + c.arguments + `}`, start: head + `{}}`}
		for _, piece := range c.pieces() {
			call.deltas = append(call.deltas, `"type":"input_json_delta","partial_json":`+quote(piece))
		}
		blocks = append(blocks, call)
	}
	return blocks
}

// signature is that of every thinking block.
const signature = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"

func anthropicModels(x *exchange) reply {
	var list []string
	for _, name := range x.server.names() {
		list = append(list, anthropicModel(x, name))
	}
	names := x.server.names()
	return x.json(fmt.Sprintf(`{"data":[%s],"has_more":false,"first_id":%s,"last_id":%s}`, strings.Join(list, ","), quote(names[0]), quote(names[len(names)-1])))
}

func anthropicModel(_ *exchange, id string) string {
	return `{"type":"model","id":` + quote(id) + `,"display_name":` + quote(id) + `,"created_at":"2025-09-29T00:00:00Z","max_input_tokens":200000,"max_tokens":64000}`
}

// A messagesStyle is the Messages API of a server whose main API is another one. Unlike Anthropic's, it sends no pings.
type messagesStyle struct {
	cache    bool     // usage says what was read from the cache
	sequence bool     // the stop sequence is always there, mostly as null
	both     bool     // the usage at the end has the input, too
	error    bool     // a failure in a stream is an event; otherwise the stream just ends
	headers  []string // of a stream, instead of the kind's
}

var (
	ollamaMessages = messagesStyle{both: true, headers: []string{"Cache-Control", "no-cache"}}
	llamaMessages  = messagesStyle{cache: true, sequence: true, error: true}
	vllmMessages   = messagesStyle{sequence: true, both: true, error: true}
)

// render answers POST /v1/messages.
func (m messagesStyle) render(x *exchange) reply {
	a := &x.answer
	stop := map[string]string{"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[a.finish]
	head := fmt.Sprintf(`"id":"msg_%d","type":"message","role":"assistant","model":%s`, x.id, quote(x.params.Model))
	input := fmt.Sprintf(`"input_tokens":%d`, a.usage.input)
	if m.cache {
		input = fmt.Sprintf(`"cache_read_input_tokens":%d,"input_tokens":%d`, a.usage.cached, a.usage.input-a.usage.cached)
	}
	end := `"stop_reason":` + quote(stop)
	if a.stopSequence != "" {
		end += `,"stop_sequence":` + quote(a.stopSequence)
	} else if m.sequence {
		end += `,"stop_sequence":null`
	}
	output := fmt.Sprintf(`"output_tokens":%d`, a.usage.output)
	if !x.params.Stream {
		return x.json(fmt.Sprintf(`{%s,"content":[{"type":"text","text":%s}],%s,"usage":{%s,%s}}`, head, quote(a.text()), end, input, output))
	}
	open := ""
	if m.sequence {
		open = `"stop_reason":null,"stop_sequence":null,`
	}
	opening := events(
		"event: message_start\n"+fmt.Sprintf(`data: {"type":"message_start","message":{%s,"content":[],%s"usage":{%s,"output_tokens":0}}}`, head, open, input),
		"event: content_block_start\n"+`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
	)
	var tokens []string
	for _, t := range a.tokens {
		tokens = append(tokens, "event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`+quote(t)+`}}`)
	}
	if m.both {
		output = input + "," + output
	}
	closing := []string{"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}`}
	if !a.noFinish {
		closing = append(closing, "event: message_delta\n"+fmt.Sprintf(`data: {"type":"message_delta","delta":{%s},"usage":{%s}}`, end, output))
	}
	if !a.noDone {
		closing = append(closing, "event: message_stop\n"+`data: {"type":"message_stop"}`)
	}
	rep := x.stream(opening, events(tokens...), events(closing...))
	if m.headers != nil {
		rep.headers = m.headers
	}
	rep.failure = nil
	if m.error {
		rep.failure = events("event: error\n" + `data: {"type":"error","error":{"type":"internal_error","message":"The engine is dead"}}`)
	}
	return rep
}
