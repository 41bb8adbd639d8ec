package dialecttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Response is what a client of the Responses API has at the end of a stream, or of a whole answer.
type Response struct {
	ID, Model  string
	Status     string
	Incomplete string // the reason why it is not complete
	Output     []map[string]any
	Usage      map[string]any
	Err        map[string]any // of a stream that failed
	Object     map[string]any // the response itself; nil if the stream ended with an event that has none
}

// Texts returns the texts of the output's items of a type: of messages with their refusals, of reasoning, or the arguments of calls.
func (r *Response) Texts(kind string) (texts []string) {
	for _, item := range r.Output {
		if item["type"] != kind {
			continue
		}
		text := ""
		for _, name := range []string{"content", "summary"} {
			parts, _ := item[name].([]any)
			for _, part := range parts {
				for _, member := range []string{"text", "refusal"} {
					s, _ := part.(map[string]any)[member].(string)
					text += s
				}
			}
		}
		for _, name := range []string{"arguments", "input"} {
			s, _ := item[name].(string)
			text += s
		}
		texts = append(texts, text)
	}
	return texts
}

// ReadResponse reads a stream of the Responses API. It fails the test if the stream breaks the grammar of its events, or if an event or the
// response lacks a member that the SDKs' types require, or that the Open Responses specification does.
func ReadResponse(t testing.TB, stream []byte) Response {
	t.Helper()
	r, err := CheckResponses(stream)
	if err != nil {
		t.Fatalf("%v\nin the stream\n%s", err, stream)
	}
	return r
}

// CheckResponses is ReadResponse for streams that may break the grammar.
func CheckResponses(stream []byte) (Response, error) {
	var r responseReader
	for rest := stream; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		if e.OnlyComments {
			continue
		}
		if err := r.add(&e); err != nil {
			return Response{}, fmt.Errorf("%w: %s", err, e.Raw)
		}
	}
	if !r.ended {
		return Response{}, errors.New("the stream does not end")
	}
	return r.Response, nil
}

// ReadWholeResponse reads a response that is not a stream.
func ReadWholeResponse(t testing.TB, answer []byte) Response {
	t.Helper()
	r, err := CheckWholeResponse(answer)
	if err != nil {
		t.Fatalf("%v\nin the response\n%s", err, answer)
	}
	return r
}

// CheckWholeResponse is ReadWholeResponse for responses that may lack something.
func CheckWholeResponse(answer []byte) (r Response, err error) {
	var object map[string]any
	if err := json.Unmarshal(answer, &object); err != nil {
		return r, err
	}
	if err := responseShape.check("response", object); err != nil {
		return r, err
	}
	r.read(object)
	if r.Status != "completed" && r.Status != "incomplete" {
		return r, fmt.Errorf("the status is %q", r.Status)
	}
	return r, r.checkEnd()
}

func (r *Response) read(object map[string]any) {
	r.Object = object
	r.ID, r.Model, r.Status = object["id"].(string), object["model"].(string), object["status"].(string)
	r.Usage, _ = object["usage"].(map[string]any)
	r.Err, _ = object["error"].(map[string]any)
	details, _ := object["incomplete_details"].(map[string]any)
	r.Incomplete, _ = details["reason"].(string)
	r.Output = nil
	for _, item := range object["output"].([]any) {
		r.Output = append(r.Output, item.(map[string]any))
	}
}

// checkEnd checks what must hold of a response that has ended.
func (r *Response) checkEnd() error {
	_, atTime := r.Object["completed_at"].(float64)
	switch {
	case (r.Status == "completed") != atTime:
		return errors.New("completed_at does not fit the status")
	case (r.Status == "incomplete") != (r.Incomplete != ""):
		return errors.New("incomplete_details do not fit the status")
	case (r.Status == "failed") != (r.Err != nil):
		return errors.New("the error does not fit the status")
	}
	ids := map[string]bool{}
	for _, item := range r.Output {
		id, _ := item["id"].(string)
		if id == "" || ids[id] {
			return fmt.Errorf("an item without an ID, or with that of another one: %q", id)
		}
		ids[id] = true
		switch status := item["status"]; {
		case status == "in_progress":
			return errors.New("an item is in progress")
		case status == "incomplete" && r.Status == "completed":
			return errors.New("an incomplete item of a complete response")
		}
	}
	return nil
}

// A shape is what a JSON object must have.
type shape map[string]func(value any) bool

func (s shape) check(what string, object map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		value, ok := object[name]
		if !ok {
			return fmt.Errorf("%s without %s", what, name)
		}
		if !s[name](value) {
			return fmt.Errorf("%s with a wrong %s: %v", what, name, value)
		}
	}
	return nil
}

func isString(v any) bool { _, ok := v.(string); return ok }
func isName(v any) bool   { s, _ := v.(string); return s != "" }
func isNumber(v any) bool { _, ok := v.(float64); return ok }
func isCount(v any) bool  { n, ok := v.(float64); return ok && n >= 0 && n == float64(int64(n)) }
func isBool(v any) bool   { _, ok := v.(bool); return ok }
func isObject(v any) bool { _, ok := v.(map[string]any); return ok }
func isList(v any) bool   { _, ok := v.([]any); return ok }

func orNull(is func(any) bool) func(any) bool {
	return func(v any) bool { return v == nil || is(v) }
}

func oneOf(words ...string) func(any) bool {
	return func(v any) bool { s, ok := v.(string); return ok && slices.Contains(words, s) }
}

func either(a, b func(any) bool) func(any) bool {
	return func(v any) bool { return a(v) || b(v) }
}

func listOf(is func(any) bool) func(any) bool {
	return func(v any) bool {
		list, ok := v.([]any)
		return ok && !slices.ContainsFunc(list, func(e any) bool { return !is(e) })
	}
}

// has returns a check of an object.
func has(s shape) func(any) bool {
	return func(v any) bool {
		object, ok := v.(map[string]any)
		return ok && s.check("", object) == nil
	}
}

// responseShape has the members that the types of OpenAI's SDKs require, and those that the Open Responses specification does.
var responseShape = shape{
	"id": isName, "object": oneOf("response"), "created_at": isCount, "completed_at": orNull(isCount), "model": isName,
	"status":             oneOf("completed", "failed", "in_progress", "cancelled", "queued", "incomplete"),
	"error":              orNull(has(shape{"code": isName, "message": isString})),
	"incomplete_details": orNull(has(shape{"reason": oneOf("max_output_tokens", "content_filter")})),
	"output":             listOf(func(v any) bool { o, ok := v.(map[string]any); return ok && checkItem(o) == nil }),
	"usage":              orNull(has(usageShape)), "previous_response_id": orNull(isString), "instructions": orNull(either(isString, isList)),
	"tools": listOf(has(shape{"type": isName})), "tool_choice": either(isName, has(shape{"type": isName})),
	"truncation": oneOf("auto", "disabled"), "parallel_tool_calls": isBool, "text": isObject, "top_p": isNumber, "temperature": isNumber,
	"presence_penalty": isNumber, "frequency_penalty": isNumber, "top_logprobs": isCount, "reasoning": orNull(isObject),
	"max_output_tokens": orNull(isCount), "max_tool_calls": orNull(isCount), "store": isBool, "background": isBool, "service_tier": isName,
	"metadata": isObject, "safety_identifier": orNull(isString), "prompt_cache_key": orNull(isString),
}

var usageShape = shape{
	"input_tokens": isCount, "output_tokens": isCount, "total_tokens": isCount,
	"input_tokens_details": has(shape{"cached_tokens": isCount}), "output_tokens_details": has(shape{"reasoning_tokens": isCount}),
}

// itemShapes are the items of an output by their types.
var itemShapes = map[string]shape{
	"message":          {"role": oneOf("assistant"), "content": listOf(func(v any) bool { return checkPart(v) == nil })},
	"reasoning":        {"summary": listOf(has(partShapes["summary_text"]))},
	"function_call":    {"call_id": isName, "name": isName, "arguments": isString},
	"custom_tool_call": {"call_id": isName, "name": isName, "input": isString},
	"local_shell_call": {"call_id": isName, "action": has(shape{"type": oneOf("exec"), "env": isObject})},
	"shell_call":       {"call_id": isName, "action": isObject},
	"apply_patch_call": {"call_id": isName, "operation": isObject},
	"tool_search_call": {"call_id": isName, "arguments": isObject, "execution": oneOf("client")},
}

func checkItem(item map[string]any) error {
	kind, _ := item["type"].(string)
	s, ok := itemShapes[kind]
	if !ok {
		return fmt.Errorf("unknown item %q", kind)
	}
	if err := (shape{"id": isName, "status": oneOf("in_progress", "completed", "incomplete")}).check("item", item); err != nil {
		return err
	}
	return s.check(kind, item)
}

var partShapes = map[string]shape{
	"output_text":    {"text": isString, "annotations": listOf(checkAnnotation), "logprobs": listOf(has(logprobShape))},
	"refusal":        {"refusal": isString},
	"summary_text":   {"type": oneOf("summary_text"), "text": isString},
	"reasoning_text": {"text": isString},
}

var logprobShape = shape{"token": isString, "logprob": isNumber, "top_logprobs": listOf(has(shape{"token": isString, "logprob": isNumber}))}

func checkAnnotation(v any) bool {
	return has(shape{"type": oneOf("url_citation"), "start_index": isCount, "end_index": isCount, "url": isString, "title": isString})(v)
}

func checkPart(v any) error {
	part, _ := v.(map[string]any)
	kind, _ := part["type"].(string)
	s, ok := partShapes[kind]
	if !ok {
		return fmt.Errorf("unknown part %q", kind)
	}
	return s.check(kind, part)
}

// ofItem are the members of events about an item, or a part of it.
var (
	ofItem    = shape{"output_index": isCount, "item_id": isName}
	ofContent = shape{"output_index": isCount, "item_id": isName, "content_index": isCount}
	ofSummary = shape{"output_index": isCount, "item_id": isName, "summary_index": isCount}
)

// with returns a shape with more members.
func (s shape) with(more shape) shape {
	all := maps.Clone(s)
	maps.Copy(all, more)
	return all
}

var withResponse = shape{"response": has(responseShape)}

// eventShapes are the events by their types.
var eventShapes = map[string]shape{
	"response.created":                       withResponse,
	"response.in_progress":                   withResponse,
	"response.completed":                     withResponse,
	"response.incomplete":                    withResponse,
	"response.failed":                        withResponse,
	"response.output_item.added":             {"output_index": isCount, "item": isObject},
	"response.output_item.done":              {"output_index": isCount, "item": isObject},
	"response.content_part.added":            ofContent.with(shape{"part": isObject}),
	"response.content_part.done":             ofContent.with(shape{"part": isObject}),
	"response.output_text.delta":             ofContent.with(shape{"delta": isName, "logprobs": listOf(has(logprobShape))}),
	"response.output_text.done":              ofContent.with(shape{"text": isString, "logprobs": listOf(has(logprobShape))}),
	"response.output_text.annotation.added":  ofContent.with(shape{"annotation_index": isCount, "annotation": checkAnnotation}),
	"response.refusal.delta":                 ofContent.with(shape{"delta": isName}),
	"response.refusal.done":                  ofContent.with(shape{"refusal": isString}),
	"response.reasoning_summary_part.added":  ofSummary.with(shape{"part": isObject}),
	"response.reasoning_summary_part.done":   ofSummary.with(shape{"part": isObject}),
	"response.reasoning_summary_text.delta":  ofSummary.with(shape{"delta": isName}),
	"response.reasoning_summary_text.done":   ofSummary.with(shape{"text": isString}),
	"response.function_call_arguments.delta": ofItem.with(shape{"delta": isName}),
	"response.function_call_arguments.done":  ofItem.with(shape{"arguments": isString, "name": isName}),
	"response.custom_tool_call_input.delta":  ofItem.with(shape{"delta": isName}),
	"response.custom_tool_call_input.done":   ofItem.with(shape{"input": isString}),
}

// A responseReader follows a stream. One item and one part of it are open at a time.
type responseReader struct {
	Response
	next        int
	ended       bool
	item        map[string]any // the open one, with the parts that are closed
	part        map[string]any // the open one
	closed      bool           // the text of the open part, or of the open call, is done
	text        strings.Builder
	logprobs    []any // of the deltas of the open part
	annotations []any
}

func (r *responseReader) add(e *sse.Event) error {
	var event map[string]any
	if err := json.Unmarshal(e.Data, &event); err != nil {
		return err
	}
	kind, _ := event["type"].(string)
	if r.ended {
		return errors.New("event after the end")
	}
	if failed, ok := event["error"].(map[string]any); ok && kind == "" { // of an upstream, as it came
		r.ended, r.Err = true, failed
		return nil
	}
	s, ok := eventShapes[kind]
	switch {
	case !ok || string(e.Name) != kind:
		return fmt.Errorf("unknown event %q, with the name %q", kind, e.Name)
	case event["sequence_number"] != float64(r.next):
		return fmt.Errorf("the sequence number is not %d", r.next)
	case r.next == 0 && kind != "response.created", r.next == 1 && kind != "response.in_progress" && kind != "response.failed", r.next > 0 && kind == "response.created", r.next > 1 && kind == "response.in_progress":
		return errors.New("the first events are response.created and response.in_progress")
	}
	r.next++
	if err := s.check(kind, event); err != nil {
		return err
	}
	switch kind {
	case "response.created", "response.in_progress":
		r.read(event["response"].(map[string]any))
		if r.Status != "in_progress" || len(r.Output) > 0 || r.Usage != nil || r.Object["completed_at"] != nil {
			return errors.New("a response in progress has something already")
		}
		return nil
	case "response.completed", "response.incomplete", "response.failed":
		return r.end(strings.TrimPrefix(kind, "response."), event["response"].(map[string]any))
	case "response.output_item.added":
		return r.startItem(event)
	}
	if event["output_index"] != float64(len(r.Output)) || r.item == nil {
		return errors.New("event about an item that is not open")
	}
	if kind == "response.output_item.done" {
		return r.stopItem(event["item"].(map[string]any))
	}
	if event["item_id"] != r.item["id"] {
		return errors.New("event with the ID of another item")
	}
	switch kind {
	case "response.function_call_arguments.delta", "response.custom_tool_call_input.delta", "response.function_call_arguments.done", "response.custom_tool_call_input.done":
		return r.argument(kind, event)
	}
	return r.content(kind, event)
}

// end ends the stream with a response.
func (r *responseReader) end(status string, object map[string]any) error {
	begun, items := r.Object, r.Output
	r.ended = true
	r.read(object)
	switch {
	case r.item != nil && status != "failed":
		return errors.New("the response ends while an item is open")
	case r.Status != status:
		return errors.New("the status does not fit the event")
	case len(items) != len(r.Output):
		return fmt.Errorf("%d items were done, but the output has %d", len(items), len(r.Output))
	}
	for i, item := range items {
		if !reflect.DeepEqual(item, r.Output[i]) {
			return fmt.Errorf("item %d has changed from %v", i, item)
		}
	}
	for name, value := range begun {
		switch name {
		case "status", "output", "usage", "completed_at", "incomplete_details", "error", "service_tier", "system_fingerprint", "timings":
		default:
			if !reflect.DeepEqual(value, object[name]) {
				return fmt.Errorf("%s has changed from %v", name, value)
			}
		}
	}
	return r.checkEnd()
}

func (r *responseReader) startItem(event map[string]any) error {
	item := event["item"].(map[string]any)
	if r.item != nil || event["output_index"] != float64(len(r.Output)) {
		return errors.New("item starts inside another one, or has not the next index")
	}
	if err := checkItem(item); err != nil {
		return err
	}
	if item["status"] != "in_progress" {
		return errors.New("an item that starts is in progress")
	}
	for _, name := range []string{"content", "summary", "arguments", "input"} {
		switch value := item[name].(type) {
		case string:
			if value != "" {
				return fmt.Errorf("an item starts with %s", name)
			}
		case []any:
			if len(value) > 0 {
				return fmt.Errorf("an item starts with %s", name)
			}
		}
	}
	r.item, r.closed = item, false
	r.text.Reset()
	return nil
}

// stopItem compares the item with what its events said.
func (r *responseReader) stopItem(item map[string]any) error {
	if r.part != nil {
		return errors.New("an item is done while a part is open")
	}
	if err := checkItem(item); err != nil {
		return err
	}
	for _, name := range []string{"arguments", "input"} {
		if text, ok := item[name].(string); ok && (text != r.text.String() || !r.closed) {
			return fmt.Errorf("%s are not what was streamed", name)
		}
	}
	for name, value := range r.item {
		switch name {
		case "status", "encrypted_content": // OpenAI sends a part of it when the item starts
		case "arguments", "input":
			if isString(value) {
				continue
			}
			fallthrough
		default:
			if !reflect.DeepEqual(item[name], value) {
				return fmt.Errorf("%s is not what was streamed: %v", name, value)
			}
		}
	}
	r.Output = append(r.Output, item)
	r.item = nil
	return nil
}

// argument adds to the arguments of a call.
func (r *responseReader) argument(kind string, event map[string]any) error {
	call, member := "function_call", "arguments"
	if strings.HasPrefix(kind, "response.custom_tool_call") {
		call, member = "custom_tool_call", "input"
	}
	switch {
	case r.item["type"] != call || r.closed:
		return errors.New("arguments of another kind of item, or after their end")
	case strings.HasSuffix(kind, ".delta"):
		r.text.WriteString(event["delta"].(string))
		return nil
	case event[member] != r.text.String():
		return fmt.Errorf("the deltas add up to %q", r.text.String())
	case call == "function_call" && event["name"] != r.item["name"]:
		return errors.New("the name of another tool")
	}
	r.closed = true
	return nil
}

// content adds to a message or to reasoning.
func (r *responseReader) content(kind string, event map[string]any) error {
	list, index := "content", "content_index"
	if strings.HasPrefix(kind, "response.reasoning_summary") {
		list, index = "summary", "summary_index"
	}
	parts, ok := r.item[list].([]any)
	if !ok || event[index] != float64(len(parts)) {
		return fmt.Errorf("not the next part of %s", list)
	}
	what, _ := strings.CutPrefix(kind, "response.")
	switch what {
	case "content_part.added", "reasoning_summary_part.added":
		part := event["part"].(map[string]any)
		if err := checkPart(part); err != nil {
			return err
		}
		if r.part != nil || textOf(part) != "" {
			return errors.New("a part starts inside another one, or with a text")
		}
		r.part, r.closed, r.logprobs, r.annotations = part, false, []any{}, []any{}
		r.text.Reset()
		return nil
	case "content_part.done", "reasoning_summary_part.done":
		return r.stopPart(list, event["part"].(map[string]any))
	}
	if want := map[any]string{"output_text": "output_text.", "refusal": "refusal.", "summary_text": "reasoning_summary_text."}[r.part["type"]]; want == "" || !strings.HasPrefix(what, want) || r.closed {
		return errors.New("text of a part that is not open, or of another kind, or after its end")
	}
	logprobs, _ := event["logprobs"].([]any)
	switch what {
	case "output_text.annotation.added":
		if event["annotation_index"] != float64(len(r.annotations)) {
			return errors.New("not the next annotation")
		}
		r.annotations = append(r.annotations, event["annotation"])
	case "output_text.delta", "refusal.delta", "reasoning_summary_text.delta":
		r.text.WriteString(event["delta"].(string))
		r.logprobs = append(r.logprobs, logprobs...)
	default:
		r.closed = true
		if textOf(event) != r.text.String() {
			return fmt.Errorf("the deltas add up to %q", r.text.String())
		}
		if logprobs != nil && !reflect.DeepEqual(logprobs, r.logprobs) {
			return errors.New("the log probabilities are not those of the deltas")
		}
	}
	return nil
}

func (r *responseReader) stopPart(list string, part map[string]any) error {
	if err := checkPart(part); err != nil {
		return err
	}
	switch {
	case r.part == nil || !r.closed || part["type"] != r.part["type"]:
		return errors.New("a part is done that is not open, or whose text is not done")
	case textOf(part) != r.text.String():
		return fmt.Errorf("the deltas add up to %q", r.text.String())
	case part["type"] == "output_text" && (!reflect.DeepEqual(part["logprobs"], any(r.logprobs)) || !reflect.DeepEqual(part["annotations"], any(r.annotations))):
		return errors.New("the log probabilities or annotations are not those of the events")
	}
	r.item[list] = append(r.item[list].([]any), part)
	r.part = nil
	return nil
}

// textOf returns the text of a part, or of an event.
func textOf(object map[string]any) string {
	for _, name := range []string{"text", "refusal"} {
		if s, ok := object[name].(string); ok {
			return s
		}
	}
	return ""
}
