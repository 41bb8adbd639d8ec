package openai

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Assembler joins the events of a stream into the answer that the same request would have got without streaming. It joins the
// chunks of chat and completions, and takes the answer of the Responses API from its last event. If it does not know how to join a
// part, it gives up instead of losing the part. It keeps no reference to the events.
type Assembler struct {
	Framing Framing

	chunks   chunks
	response response
	ended    bool // after [DONE]
	failed   bool
}

// Add adds the next event.
func (a *Assembler) Add(name, data []byte) {
	if a.failed || a.ended || len(bytes.TrimSpace(data)) == 0 {
		return
	}
	switch {
	case isDone(data):
		a.ended = true
	case a.Framing == Typed:
		a.failed = !a.response.add(name, data)
	default:
		a.failed = string(name) == "error" || !eachMember(data, a.chunks.add)
	}
}

// Answer returns the whole answer. It returns false if the assembler gave up, or if the stream has no answer.
func (a *Assembler) Answer() ([]byte, bool) {
	switch {
	case a.failed:
		return nil, false
	case a.Framing == Typed:
		return a.response.whole()
	case len(a.chunks.choices) == 0:
		return nil, false
	}
	return a.chunks.appendJSON(nil), true
}

// A response is what the events of the Responses API say of the answer.
type response struct {
	last  []byte // the response in the event that ends the stream
	items []item // that are complete
}

type item struct {
	index int
	value []byte
}

func (r *response) add(name, data []byte) bool {
	kind, failure := eventType(name, data)
	switch {
	case failure != nil || string(kind) == "response.failed":
		return false
	case string(kind) == "response.output_item.done":
		index, err := strconv.Atoi(string(member(data, "output_index")))
		if err != nil {
			index = len(r.items)
		}
		if value := member(data, "item"); value != nil {
			r.items = append(r.items, item{index, bytes.Clone(value)})
		}
	default:
		if last, ok := CompletedResponse(name, data); ok {
			r.last = bytes.Clone(last)
		}
	}
	return true
}

// whole returns the response. Some servers leave its output out of the last event, because the client has got every item already.
func (r *response) whole() ([]byte, bool) {
	var o jsonspan.Object
	if r.last == nil || o.Scan(r.last) != nil {
		return nil, false
	}
	output, _ := o.Get("output")
	if len(r.items) == 0 || len(elements(output)) > 0 {
		return r.last, true
	}
	slices.SortStableFunc(r.items, func(x, y item) int { return cmp.Compare(x.index, y.index) })
	list := []byte{'['}
	for i, item := range r.items {
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, item.value...)
	}
	var e jsonspan.Edit
	e.Reset(&o)
	e.Set("output", append(list, ']'))
	return e.Bytes(), true
}

// chunks are the joined chunks of chat or completions.
type chunks struct {
	top     fields
	choices []*choice
	usage   []byte
}

// add adds a member of a chunk.
func (c *chunks) add(key, value []byte) bool {
	switch string(key) {
	case "choices":
		n := -1
		return jsonspan.IsNull(value) || eachElement(value, func(raw []byte) bool { n++; return c.addChoice(raw, n) })
	case "usage":
		if !isEmpty(value) {
			c.usage = bytes.Clone(value)
		}
		return true
	case "error":
		return isNoError(value)
	case "obfuscation", "prompt_progress": // they are about the stream, not the answer
		return true
	case "object":
		c.top.keepFirst(key, bytes.Replace(value, []byte(`.chunk"`), []byte(`"`), 1))
		return true
	case "id", "created", "model":
		c.top.keepFirst(key, value)
		return true
	case "system_fingerprint", "service_tier", "timings", "time_info", "x_groq", "citations", "search_results":
		c.top.keepLast(key, value)
		return true
	}
	return c.top.addConstant(key, value)
}

// addChoice adds a choice of a chunk, the nth one in it.
func (c *chunks) addChoice(raw []byte, n int) bool {
	index, ok := indexOf(raw, n)
	if !ok {
		return false
	}
	i := slices.IndexFunc(c.choices, func(x *choice) bool { return x.index == index })
	if i < 0 {
		i = len(c.choices)
		c.choices = append(c.choices, &choice{index: index})
	}
	return eachMember(raw, c.choices[i].add)
}

// appendJSON appends the whole answer.
func (c *chunks) appendJSON(b []byte) []byte {
	object := c.top.text("object")
	slices.SortStableFunc(c.choices, func(x, y *choice) int { return cmp.Compare(x.index, y.index) })
	b = append(b, '{')
	if len(c.top) > 0 {
		b = append(c.top.appendJSON(b), ',')
	}
	b = append(b, `"choices":[`...)
	for i, choice := range c.choices {
		if i > 0 {
			b = append(b, ',')
		}
		b = choice.appendJSON(b, object == "text_completion")
	}
	b = append(b, ']')
	if c.usage != nil {
		b = append(append(b, `,"usage":`...), c.usage...)
	}
	return append(b, '}')
}

// A choice is joined from the parts of it in all chunks.
type choice struct {
	index        int
	fields       fields
	chat         bool   // it has deltas
	message      fields // joined from deltas
	whole        []byte // the message of a server that sends it in one piece
	calls        []*toolCall
	functionCall fields // what preceded tool calls in OpenAI's API
	logprobs     fields // whose values are arrays
	finish       []byte // nil until there is one
}

// add adds a member.
func (c *choice) add(key, value []byte) bool {
	switch string(key) {
	case "index":
		return true
	case "delta":
		c.chat = true
		switch {
		case jsonspan.IsNull(value):
			return true
		case c.whole != nil:
			return !hasContent(value) // nothing can follow a complete message
		}
		return eachMember(value, c.addDelta)
	case "message":
		return c.addMessage(value)
	case "text", "reasoning_content", "reasoning": // of completions
		return c.fields.addText(key, value)
	case "token_ids":
		return c.fields.addArray(key, value)
	case "logprobs":
		return jsonspan.IsNull(value) || eachMember(value, c.logprobs.addArray)
	case "finish_reason":
		if namesReason(value) {
			c.finish = bytes.Clone(value)
		}
		return true
	}
	return c.fields.addConstant(key, value)
}

// addMessage adds a message. Servers that cannot stream send only that, and MiniMax sends it after all deltas: it is complete, and
// counts instead of them. One without content is like a delta.
func (c *choice) addMessage(value []byte) bool {
	c.chat = true
	if jsonspan.IsNull(value) {
		return true
	}
	if !hasContent(value) {
		return c.whole != nil || eachMember(value, c.addDelta)
	}
	c.whole = bytes.Clone(value)
	return true
}

func (c *choice) addDelta(key, value []byte) bool {
	switch string(key) {
	case "role":
		c.message.keepFirst(key, value)
		return true
	case "content", "reasoning_content", "reasoning", "refusal":
		return c.message.addText(key, value)
	case "tool_calls":
		return jsonspan.IsNull(value) || eachElement(value, c.addCall)
	case "function_call":
		return jsonspan.IsNull(value) || eachMember(value, func(key, value []byte) bool {
			if string(key) == "arguments" {
				return c.functionCall.addText(key, value)
			}
			return c.functionCall.addConstant(key, value)
		})
	}
	return c.message.addConstant(key, value)
}

// appendJSON appends the choice. Without a delta or a text, it is an empty one of the given kind.
func (c *choice) appendJSON(b []byte, isText bool) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(c.index), 10)
	switch {
	case c.whole != nil:
		b = append(append(b, `,"message":`...), c.whole...)
	case c.chat || !isText && !c.fields.has("text"):
		b = c.appendMessage(append(b, `,"message":`...))
	case !c.fields.has("text"):
		b = append(b, `,"text":""`...)
	}
	if len(c.fields) > 0 {
		b = c.fields.appendJSON(append(b, ','))
	}
	b = append(b, `,"logprobs":`...)
	if len(c.logprobs) > 0 {
		b = append(c.logprobs.appendJSON(append(b, '{')), '}')
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"finish_reason":`...)
	if c.finish == nil {
		return append(b, "null}"...)
	}
	return append(append(b, c.finish...), '}')
}

func (c *choice) appendMessage(b []byte) []byte {
	c.message.keepFirst([]byte("role"), []byte(`"assistant"`))
	hasCalls := len(c.calls) > 0 || len(c.functionCall) > 0
	if f := c.message.get([]byte("content")); f.value == nil || f.isText && len(f.value) == 0 && hasCalls {
		f.value, f.isText = []byte("null"), false
	}
	b = c.message.appendJSON(append(b, '{'))
	if len(c.functionCall) > 0 {
		b = append(c.functionCall.appendJSON(append(b, `,"function_call":{`...)), '}')
	}
	slices.SortStableFunc(c.calls, func(x, y *toolCall) int { return cmp.Compare(x.index, y.index) })
	for i, t := range c.calls {
		if i == 0 {
			b = append(b, `,"tool_calls":[`...)
		} else {
			b = append(b, ',')
		}
		b = t.appendJSON(b)
	}
	if len(c.calls) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// A toolCall is joined from the parts of it in all chunks.
type toolCall struct {
	index  int
	fields fields
	kind   string // the member that names the tool: "function" or "custom"
	inner  fields // of that member
}

// addCall adds a part of a tool call.
func (c *choice) addCall(raw []byte) bool {
	t, ok := c.callOf(raw)
	return ok && eachMember(raw, t.add)
}

// callOf returns the call that a part belongs to. A part without an index or an ID continues the last call; Gemini sends complete
// calls without an index, and old versions of Ollama sent all of them with index 0. It returns false if it cannot tell.
func (c *choice) callOf(raw []byte) (t *toolCall, ok bool) {
	index, ok := indexOf(raw, -1)
	if !ok {
		return nil, false
	}
	id := member(raw, "id")
	if id != nil && isEmpty(id) {
		id = nil
	}
	for _, call := range c.calls { // the last one that it can be
		if index < 0 && id != nil && bytes.Equal(call.fields.value("id"), id) {
			return call, true
		}
		if index < 0 || call.index == index {
			t = call
		}
	}
	if t != nil {
		known := t.fields.value("id")
		switch another := known != nil && id != nil && !bytes.Equal(known, id); {
		case another && index < 0:
		case another, index < 0 && id == nil && known == nil:
			if !namesTool(raw) || t.inner.value("name") == nil { // vLLM once sent a new ID with every part
				return t, true
			}
			if !t.complete() {
				return nil, false
			}
		default:
			return t, true
		}
	}
	if index < 0 {
		index = len(c.calls)
	}
	t = &toolCall{index: index}
	c.calls = append(c.calls, t)
	return t, true
}

// namesTool reports whether a part of a call has the name of the tool, so that it may begin a call.
func namesTool(raw []byte) bool {
	for _, kind := range [...]string{"function", "custom"} {
		if name := member(member(raw, kind), "name"); name != nil && !isEmpty(name) {
			return true
		}
	}
	return false
}

// complete reports whether the arguments are complete, so that another call may follow.
func (t *toolCall) complete() bool {
	for _, f := range t.inner {
		if f.isText && len(f.value) > 0 && new(jsonspan.Object).Scan(jsonspan.Unescape(f.value)) != nil {
			return false
		}
	}
	return true
}

// add adds a member.
func (t *toolCall) add(key, value []byte) bool {
	switch string(key) {
	case "index":
		return true
	case "id":
		if !isEmpty(value) {
			t.fields.keepFirst(key, value)
		}
		return true
	case "function", "custom":
		if jsonspan.IsNull(value) {
			return true
		}
		if t.kind != "" && t.kind != string(key) {
			return false
		}
		t.kind = string(key)
		return eachMember(value, func(key, value []byte) bool {
			if string(key) == argumentsKey(t.kind) {
				return t.inner.addText(key, value)
			}
			return isEmpty(value) || t.inner.addConstant(key, value)
		})
	}
	return isEmpty(value) || t.fields.addConstant(key, value)
}

// argumentsKey returns the member of a call in which the model's text is.
func argumentsKey(kind string) string {
	if kind == "custom" {
		return "input"
	}
	return "arguments"
}

// appendJSON appends the call, with all members that clients rely on: some servers leave out what is empty.
func (t *toolCall) appendJSON(b []byte) []byte {
	kind := t.kind
	if declared := t.fields.text("type"); kind == "" && (declared == "" || declared == "function" || declared == "custom") {
		kind = cmp.Or(declared, "function")
	}
	if kind == "" { // another kind of tool, whose members are in fields
		return append(t.fields.appendJSON(append(b, '{')), '}')
	}
	t.fields.keepFirst([]byte("type"), []byte(`"`+kind+`"`))
	for _, name := range [...]string{"name", argumentsKey(kind)} {
		if x := t.inner.get([]byte(name)); !x.isText && (x.value == nil || jsonspan.IsNull(x.value)) {
			x.value = []byte(`""`)
		}
	}
	b = t.fields.appendJSON(append(b, '{'))
	b = append(append(append(b, `,"`...), kind...), `":{`...)
	return append(t.inner.appendJSON(b), `}}`...)
}

// eachMember visits the members of an object. It reports whether the object is valid and add accepted every member.
func eachMember(object []byte, add func(key, value []byte) bool) bool {
	ok := true
	err := jsonspan.EachMember(object, func(key, value []byte) bool { ok = add(key, value); return ok })
	return err == nil && ok
}

// eachElement is eachMember for arrays.
func eachElement(array []byte, add func(value []byte) bool) bool {
	ok := true
	err := jsonspan.EachElement(array, func(value []byte) bool { ok = add(value); return ok })
	return err == nil && ok
}

// indexOf returns the index of a choice, a tool call or an embedding, or missing if it has none. It returns false if the index is
// invalid.
func indexOf(object []byte, missing int) (index int, ok bool) {
	index, ok = missing, true
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // a value that is not an object has no index
		if string(key) != "index" || jsonspan.IsNull(value) {
			return true
		}
		n, err := strconv.Atoi(string(value))
		index, ok = n, err == nil && n >= 0
		return false
	})
	return index, ok
}
