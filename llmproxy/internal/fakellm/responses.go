package fakellm

import (
	"fmt"
	"strings"
)

// renderResponse answers POST /v1/responses.
func renderResponse(c *call) reply {
	if !c.ask.Stream {
		return c.json(c.responseObject("completed", c.item("completed"), c.responseUsage()))
	}
	t := &typed{c: c}
	item, part := `"item_id":`+quote(c.itemID()), t.place(`"output_index":0`)
	inPart := item + part + t.place(`"content_index":0`)
	logprobs := t.place(`"logprobs":[]`)
	opening := [][]byte{
		t.event("response.created", `"response":`+c.responseStart()),
		t.event("response.in_progress", `"response":`+c.responseStart()),
		t.event("response.output_item.added", `"item":`+c.item("in_progress")+part),
		t.event("response.content_part.added", inPart+`,"part":`+t.part("", "")),
	}
	var tokens [][]byte
	for _, token := range c.answer.tokens {
		tokens = append(tokens, t.event("response.output_text.delta", inPart+`,"delta":`+quote(token)+logprobs))
	}
	text := c.answer.text()
	closing := [][]byte{
		t.event("response.output_text.done", inPart+logprobs+`,"text":`+quote(text)),
		t.event("response.content_part.done", inPart+`,"part":`+t.part(text, `"annotations":[],"logprobs":[],`)),
		t.event("response.output_item.done", `"item":`+c.item("completed")+part),
	}
	if !c.answer.noFinish {
		closing = append(closing, t.completed())
	}
	rep := c.stream(opening, tokens, closing)
	if c.kind.name == "ollama" {
		rep.header = []string{"Cache-Control", "no-cache"} // on this endpoint's stream only
	}
	return rep
}

// typed writes events that have a name. llama-server's say less than those of the others.
type typed struct {
	c *call
	n int // sequence number
}

func (t *typed) lean() bool { return t.c.kind.name == "llamacpp" }

// place is a field that llama-server does not have.
func (t *typed) place(field string) string {
	if t.lean() {
		return ""
	}
	return "," + field
}

func (t *typed) event(name, fields string) []byte {
	number := t.place(`"sequence_number":` + itoa(t.n))
	t.n++
	if t.c.kind.name == "ollama" { // keys in the order of the alphabet
		return []byte("event: " + name + "\ndata: {" + fields + number + `,"type":"` + name + "\"}\n\n")
	}
	return []byte("event: " + name + "\n" + `data: {"type":"` + name + `"` + number + "," + fields + "}\n\n")
}

func (t *typed) part(text, lists string) string {
	if !t.lean() {
		lists = `"annotations":[],"logprobs":[],`
	}
	return `{"type":"output_text",` + lists + `"text":` + quote(text) + `}`
}

func (t *typed) completed() []byte {
	object := t.c.responseObject("completed", t.c.item("completed"), t.c.responseUsage())
	timings := ""
	if t.lean() {
		object = strings.Replace(object, `"completed_at":`+created+`,`, "", 1)
		timings = llamaTimings
	}
	return t.event("response.completed", `"response":`+object+timings)
}

func (c *call) itemID() string { return fmt.Sprintf("msg_%d", c.id) }

func (c *call) item(status string) string {
	content := ""
	if status == "completed" {
		content = `{"type":"output_text","annotations":[],"logprobs":[],"text":` + quote(c.answer.text()) + `}`
	}
	return `{"id":` + quote(c.itemID()) + `,"type":"message","status":"` + status + `","role":"assistant","content":[` + content + `]}`
}

func (c *call) responseUsage() string {
	u := c.answer.usage
	details := `,"output_tokens_details":{"reasoning_tokens":0}`
	if c.kind.name == "llamacpp" {
		details = ""
	}
	return fmt.Sprintf(`{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d,"input_tokens_details":{"cached_tokens":%d}%s}`,
		u.input, u.output, u.input+u.output, u.cached, details)
}

func (c *call) responseStart() string {
	if c.kind.name == "llamacpp" {
		return fmt.Sprintf(`{"id":"resp_%032d","object":"response","status":"in_progress"}`, c.id)
	}
	return c.responseObject("in_progress", "", "null")
}

// responseObject is the whole of what is known of a response: with llama-server little, with the others all of OpenAI's fields.
func (c *call) responseObject(status, output, usage string) string {
	if c.kind.name == "llamacpp" {
		return fmt.Sprintf(`{"completed_at":%s,"created_at":%s,"id":"resp_%032d","model":%s,"object":"response","output":[%s],"status":"%s","usage":%s}`,
			created, created, c.id, quote(c.ask.Model), output, status, usage)
	}
	completed := created
	if status != "completed" {
		completed = "null"
	}
	return fmt.Sprintf(`{"id":"resp_%d","object":"response","created_at":%s,"completed_at":%s,"status":"%s","incomplete_details":null,"model":%s,`+
		`"previous_response_id":null,"instructions":null,"output":[%s],"error":null,"tools":[],"tool_choice":"auto","truncation":"disabled",`+
		`"parallel_tool_calls":true,"text":{"format":{"type":"text"}},"top_p":1,"presence_penalty":0,"frequency_penalty":0,"top_logprobs":0,`+
		`"temperature":1,"reasoning":null,"usage":%s,"max_output_tokens":null,"max_tool_calls":null,"store":false,"background":false,`+
		`"service_tier":"default","metadata":{},"safety_identifier":null,"prompt_cache_key":null}`,
		c.id, created, completed, status, quote(c.ask.Model), output, usage)
}

// chunked tells whether the endpoint streams chunks; the others stream events that have a type.
func (c *call) chunked() bool { return c.path == chatPath || c.path == "/v1/completions" }
