package fakellm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// The Responses API, as OpenAI has it. Differences between kinds are in responsesStyle.

// responsesStyle is how a kind's Responses API differs from OpenAI's.
type responsesStyle struct {
	minimal       bool     // llama-server: few fields, and no sequence numbers
	timings       string   // llama-server: a field next to the completed response
	typeLast      bool     // Ollama: the keys of an event are in alphabetical order
	streamHeaders []string // instead of the kind's
}

// responseEvents writes the output of a response, and the events of a stream of it.
type responseEvents struct {
	*exchange
	responsesStyle
	list     [][]byte
	deltas   []int // which of them have a token
	sequence int
	items    []string // of the output
	ends     []int    // the events with which they end
	id       string   // of the current item
}

// renderCompaction answers POST /v1/responses/compact.
func renderCompaction(x *exchange) reply {
	e := &responseEvents{exchange: x, responsesStyle: x.kind.responses}
	return x.json(`{"id":"cmp_1","object":"response.compaction","output":[],"usage":` + e.usage() + `}`)
}

// renderInputTokens answers POST /v1/responses/input_tokens.
func renderInputTokens(x *exchange) reply {
	return x.json(`{"object":"response.input_tokens","input_tokens":11}`)
}

// renderResponse answers POST /v1/responses.
func renderResponse(x *exchange) reply {
	a := &x.answer
	e := &responseEvents{exchange: x, responsesStyle: x.kind.responses}
	start := e.object("in_progress", "null", "null")
	if e.minimal {
		start = fmt.Sprintf(`{"id":"resp_%032d","object":"response","status":"in_progress"}`, x.id)
	}
	e.event("response.created", `"response":`+start)
	e.event("response.in_progress", `"response":`+start)
	if len(a.thinking) > 0 {
		e.reasoning()
	}
	if len(a.tokens) > 0 || len(a.calls) == 0 {
		e.message()
	}
	for i, c := range a.calls {
		e.call(i, c)
	}
	status := "completed"
	if a.finish == "length" || a.finish == "content_filter" {
		status = "incomplete"
	}
	if !x.params.Stream {
		return x.json(e.object(status, "null", e.usage()))
	}
	opening, tokens, closing := e.parts()
	if !a.noFinish {
		object := e.object(status, "null", e.usage())
		if e.minimal {
			object = strings.Replace(object, `"completed_at":`+created+`,`, "", 1)
		}
		closing = append(closing, e.framed("response."+status, `"response":`+object+e.timings))
	}
	rep := x.stream(opening, tokens, closing)
	if e.streamHeaders != nil {
		rep.headers = e.streamHeaders
	}
	if a.failure != nil {
		rep.failure = [][]byte{e.failed(len(opening))}
	}
	return rep
}

// failed returns the event that ends the stream where the script says so: with the items that are done by then.
func (e *responseEvents) failed(opening int) []byte {
	a := &e.answer
	switch sent := min(a.after, len(e.deltas)); {
	case sent > 0:
		e.sequence = e.deltas[sent-1] + 1
	case a.roleFirst:
		e.sequence = opening
	default:
		e.sequence = 0
	}
	done := 0
	for done < len(e.ends) && e.ends[done] < e.sequence {
		done++
	}
	e.items = e.items[:done]
	why := fmt.Sprintf(`{"code":%s,"message":%s}`, quote(a.failure.code), quote(a.failure.message))
	return e.framed("response.failed", `"response":`+e.object("failed", why, "null"))
}

// parts returns the events before the first token, the tokens, and the events after the last one. An event between two tokens belongs to
// the second.
func (e *responseEvents) parts() (opening, tokens, closing [][]byte) {
	if len(e.deltas) == 0 {
		return e.list[:2], nil, e.list[2:]
	}
	from := e.deltas[0]
	opening = e.list[:from]
	for _, delta := range e.deltas {
		tokens = append(tokens, bytes.Join(e.list[from:delta+1], nil))
		from = delta + 1
	}
	return opening, tokens, e.list[from:]
}

func (e *responseEvents) unlessMinimal(field string) string {
	if e.minimal {
		return ""
	}
	return field
}

// framed returns the next event.
func (e *responseEvents) framed(name, fields string) []byte {
	number := e.unlessMinimal(fmt.Sprintf(`,"sequence_number":%d`, e.sequence))
	e.sequence++
	if e.typeLast {
		return []byte("event: " + name + "\ndata: {" + fields + number + `,"type":"` + name + "\"}\n\n")
	}
	return []byte("event: " + name + "\n" + `data: {"type":"` + name + `"` + number + "," + fields + "}\n\n")
}

func (e *responseEvents) event(name, fields string) { e.list = append(e.list, e.framed(name, fields)) }

// about adds an event about the current item. The fields may be empty.
func (e *responseEvents) about(name, fields string) {
	e.event(name, `"item_id":`+quote(e.id)+e.output()+fields)
}

// output is the index of the current item, which is added last.
func (e *responseEvents) output() string {
	return e.unlessMinimal(fmt.Sprintf(`,"output_index":%d`, len(e.items)))
}

// delta adds an event with a token.
func (e *responseEvents) delta(name, fields, token string) {
	e.deltas = append(e.deltas, len(e.list))
	e.about(name+".delta", fields+`,"delta":`+quote(token))
}

// begin begins an item.
func (e *responseEvents) begin(id, item string) {
	e.id = id
	e.event("response.output_item.added", `"item":`+item+e.output())
}

// end ends the current item.
func (e *responseEvents) end(item string) {
	e.ends = append(e.ends, len(e.list))
	e.event("response.output_item.done", `"item":`+item+e.output())
	e.items = append(e.items, item)
}

// reasoning adds the reasoning, as a summary.
func (e *responseEvents) reasoning() {
	item := func(status, summary, encrypted string) string {
		return fmt.Sprintf(`{"id":"rs_%d","type":"reasoning","status":"%s","summary":[%s],"encrypted_content":%s}`, e.exchange.id, status, summary, quote(encrypted))
	}
	text := strings.Join(e.answer.thinking, "")
	part := func(text string) string { return `{"type":"summary_text","text":` + quote(text) + `}` }
	const index = `,"summary_index":0`
	e.begin(fmt.Sprintf("rs_%d", e.exchange.id), item("in_progress", "", ""))
	e.about("response.reasoning_summary_part.added", index+`,"part":`+part(""))
	for _, token := range e.answer.thinking {
		e.delta("response.reasoning_summary_text", index, token)
	}
	e.about("response.reasoning_summary_text.done", index+`,"text":`+quote(text))
	e.about("response.reasoning_summary_part.done", index+`,"part":`+part(text))
	e.end(item("completed", part(text), "gAAAAA"))
}

// message adds the message.
func (e *responseEvents) message() {
	item := func(status, content string) string {
		return fmt.Sprintf(`{"id":"msg_%d","type":"message","status":"%s","role":"assistant","content":[%s]}`, e.exchange.id, status, content)
	}
	text := e.answer.text()
	part := `{"type":"output_text","annotations":[],"logprobs":[],"text":` + quote(text) + `}`
	index, logprobs := e.unlessMinimal(`,"content_index":0`), e.unlessMinimal(`,"logprobs":[]`)
	e.begin(fmt.Sprintf("msg_%d", e.exchange.id), item("in_progress", ""))
	e.about("response.content_part.added", index+`,"part":{"type":"output_text",`+e.unlessMinimal(`"annotations":[],"logprobs":[],`)+`"text":""}`)
	for _, token := range e.answer.tokens {
		e.delta("response.output_text", index+logprobs, token)
	}
	e.about("response.output_text.done", index+logprobs+`,"text":`+quote(text))
	e.about("response.content_part.done", index+`,"part":`+part)
	e.end(item("completed", part))
}

// call adds a call of a tool, which is a custom tool or one of a namespace if the request says so.
func (e *responseEvents) call(i int, c toolCall) {
	tool := e.toolOf(c.name)
	kind, argument, events, id := "function_call", "arguments", "response.function_call_arguments", fmt.Sprintf("fc_%d_%d", e.exchange.id, i)
	done := `,"name":` + quote(c.name)
	if tool.Type == "custom" {
		kind, argument, events, id, done = "custom_tool_call", "input", "response.custom_tool_call_input", fmt.Sprintf("ctc_%d_%d", e.exchange.id, i), ""
	}
	namespace := ""
	if tool.namespace != "" {
		namespace = `,"namespace":` + quote(tool.namespace)
	}
	item := func(status, text string) string {
		return fmt.Sprintf(`{"id":%s,"type":"%s","status":"%s","call_id":%s,"name":%s%s,"%s":%s}`,
			quote(id), kind, status, quote(e.callID("call", i)), quote(c.name), namespace, argument, quote(text))
	}
	e.begin(id, item("in_progress", ""))
	for _, piece := range c.pieces() {
		if piece != "" {
			e.delta(events, "", piece)
		}
	}
	e.about(events+".done", `,"`+argument+`":`+quote(c.arguments)+done)
	e.end(item("completed", c.arguments))
}

// A requestTool is a tool of a request, in the format of chat or of the Responses API.
type requestTool struct {
	Type, Name string
	Function   struct{ Name string }
	Tools      []requestTool // of a namespace

	namespace string
}

// requestTools returns the tools of a request, those in namespaces included.
func requestTools(body []byte) (tools []requestTool) {
	var request requestTool
	if json.Unmarshal(body, &request) != nil {
		return nil // the kind refuses it
	}
	for _, tool := range request.Tools {
		if tool.Function.Name != "" {
			tool.Name = tool.Function.Name
		}
		if tool.Type != "namespace" {
			tools = append(tools, tool)
		}
		for _, inner := range tool.Tools {
			inner.namespace = tool.Name
			tools = append(tools, inner)
		}
	}
	return tools
}

// toolOf returns the request's tool of a name. Without one, it is a function.
func (e *responseEvents) toolOf(name string) requestTool {
	for _, tool := range requestTools(e.body) {
		if tool.Name == name {
			return tool
		}
	}
	return requestTool{Type: "function", Name: name}
}

func (e *responseEvents) usage() string {
	u := e.answer.usage
	return fmt.Sprintf(`{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d,"input_tokens_details":{"cached_tokens":%d}%s}`,
		u.input, u.output, u.input+u.output, u.cached, e.unlessMinimal(`,"output_tokens_details":{"reasoning_tokens":0}`))
}

// object is the response itself, with the items so far.
func (e *responseEvents) object(status, failure, usage string) string {
	output := strings.Join(e.items, ",")
	if e.minimal {
		return fmt.Sprintf(`{"completed_at":%s,"created_at":%s,"id":"resp_%032d","model":%s,"object":"response","output":[%s],"status":"%s","usage":%s}`,
			created, created, e.exchange.id, quote(e.params.Model), output, status, usage)
	}
	completed, details := "null", "null"
	switch {
	case status == "completed":
		completed = created
	case status == "incomplete" && e.answer.finish == "length":
		details = `{"reason":"max_output_tokens"}`
	case status == "incomplete":
		details = `{"reason":"content_filter"}`
	}
	return fmt.Sprintf(`{"id":"resp_%d","object":"response","created_at":%s,"completed_at":%s,"status":"%s","incomplete_details":%s,"model":%s,`+
		`"previous_response_id":null,"instructions":null,"output":[%s],"error":%s,"tools":[],"tool_choice":"auto","truncation":"disabled",`+
		`"parallel_tool_calls":true,"text":{"format":{"type":"text"}},"top_p":1,"presence_penalty":0,"frequency_penalty":0,"top_logprobs":0,`+
		`"temperature":1,"reasoning":null,"usage":%s,"max_output_tokens":null,"max_tool_calls":null,"store":false,"background":false,`+
		`"service_tier":"default","metadata":{},"safety_identifier":null,"prompt_cache_key":null}`,
		e.exchange.id, created, completed, status, details, quote(e.params.Model), output, failure, usage)
}
