package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// TestAssemblerAgainstReference compares the assembler with the plain way, which decodes every chunk, adds up and encodes, over random
// streams: with members in any order, left out, empty or null, and choices and calls in turns.
func TestAssemblerAgainstReference(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5000) {
		stream := randomStream(rand.New(rand.NewPCG(seed, 0)))
		got, ok := assembled(stream)
		if !ok {
			t.Fatalf("seed %d: the assembler gave up on\n%s", seed, bytes.Join(stream, []byte("\n")))
		}
		if diff := cmp.Diff(addedUp(t, stream), canonical(t, got)); diff != "" {
			t.Fatalf("seed %d: (-reference +assembler)\n%s\n%s", seed, diff, bytes.Join(stream, []byte("\n")))
		}
	}
}

// FuzzAssembler checks on any chunks, one per line, that what the assembler makes of them is what the reference makes of them.
func FuzzAssembler(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(bytes.Join(randomStream(rand.New(rand.NewPCG(seed, 1))), []byte("\n")))
	}
	f.Add([]byte(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{}}]}}]}`))
	f.Add([]byte(`{"choices":[{"index":0,"delta":{}}]}`))
	f.Fuzz(func(t *testing.T, lines []byte) {
		stream := bytes.Split(lines, []byte("\n"))
		got, ok := assembled(stream)
		if !ok {
			return
		}
		if err := new(jsonspan.Object).Scan(got); err != nil {
			t.Fatalf("%v: %q became %q", err, lines, got)
		}
		if !slices.ContainsFunc(stream, hasOddKeys) {
			if diff := cmp.Diff(addedUp(t, stream), canonical(t, got)); diff != "" {
				t.Fatalf("%q became %q: (-reference +assembler)\n%s", lines, got, diff)
			}
		}
	})
}

// FuzzAssembleResponse checks that what is made of any events of the Responses API is an object.
func FuzzAssembleResponse(f *testing.F) {
	f.Add([]byte(`{"type":"response.output_item.done","output_index":0,"item":{"a":1}}` + "\n" + `{"type":"response.completed","response":{"output":[]}}`))
	f.Add([]byte(`{"type":"response.completed","response":{"output":[{"a":1}]}}`))
	f.Fuzz(func(t *testing.T, lines []byte) {
		a := Assembler{Framing: Typed}
		for line := range bytes.SplitSeq(lines, []byte("\n")) {
			a.Add(nil, line)
		}
		if got, ok := a.Answer(); ok {
			if err := new(jsonspan.Object).Scan(got); err != nil {
				t.Fatalf("%v: %q became %q", err, lines, got)
			}
		}
	})
}

func TestAssembleResponse(t *testing.T) {
	t.Parallel()
	const done = `{"type":"response.output_item.done","output_index":1,"item":{"b":1}}
{"type":"response.output_item.done","output_index":0,"item":{"a":1}}
`
	for _, test := range []struct{ name, events, want string }{
		{"completed", `{"type":"response.created","response":{"id":"r"}}` + "\n" + `{"type":"response.completed","response":{"id":"r","output":[{"a":1}]}}`, `{"id":"r","output":[{"a":1}]}`},
		{"incomplete", `{"type":"response.incomplete","response":{"id":"r"}}`, `{"id":"r"}`},
		{"the output is in the last event", done + `{"type":"response.completed","response":{"output":[{"c":1}]}}`, `{"output":[{"c":1}]}`},
		{"the output is empty there", done + `{"type":"response.completed","response":{"id":"r","output":[ ],"x":1}}`, `{"id":"r","output":[{"a":1},{"b":1}],"x":1}`},
		{"the output is missing there", done + `{"type":"response.completed","response":{"id":"r"}}`, `{"id":"r","output":[{"a":1},{"b":1}]}`},
		{"no output", `{"type":"response.completed","response":{"id":"r","output":[]}}`, `{"id":"r","output":[]}`},
		{"failed", done + `{"type":"response.failed","response":{"id":"r"}}`, ""},
		{"an error", `{"type":"error","message":"m"}` + "\n" + `{"type":"response.completed","response":{"id":"r"}}`, ""},
		{"no end", done, ""},
		{"a response that is not an object", `{"type":"response.completed","response":1}`, ""},
		{"transcription", `{"type":"transcript.text.done","text":"x"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := Assembler{Framing: Typed}
			for event := range strings.SplitSeq(test.events, "\n") {
				data := []byte(event)
				a.Add(nil, data)
				clear(data)
			}
			if got, ok := a.Answer(); ok != (test.want != "") || string(got) != test.want {
				t.Errorf("%s, %v; want %s", got, ok, test.want)
			}
		})
	}
}

func assembled(stream [][]byte) ([]byte, bool) {
	var a Assembler
	for _, data := range stream {
		data = bytes.Clone(data)
		a.Add(nil, data)
		clear(data) // the assembler keeps no reference to it
	}
	return a.Answer()
}

func canonical(t *testing.T, text []byte) string {
	t.Helper()
	var e canonjson.Encoder
	b, err := e.Value(text)
	if err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return string(b)
}

// hasOddKeys reports whether an object in the JSON has a key twice, or one with an escape: decoders read these as other keys.
func hasOddKeys(text []byte) (odd bool) {
	var value func(v []byte)
	value = func(v []byte) {
		seen := map[string]bool{}
		_ = jsonspan.EachMember(v, func(key, v []byte) bool {
			odd = odd || seen[string(key)] || bytes.IndexByte(key, '\\') >= 0
			seen[string(key)] = true
			value(v)
			return true
		})
		_ = jsonspan.EachElement(v, func(v []byte) bool { value(v); return true })
	}
	value(text)
	return odd
}

type object = map[string]any

// deltasKey is the key of what the deltas of a choice say, until it is finished. No chunk has such a key.
const deltasKey = "\x00deltas"

// addedUp assembles a stream the plain way and returns it in canonical form. It expects a stream that the assembler accepts.
func addedUp(t *testing.T, stream [][]byte) string {
	t.Helper()
	whole := object{}
	choices := map[int]object{}
	for _, data := range stream {
		if isDone(data) {
			break
		}
		if len(bytes.TrimSpace(data)) == 0 {
			continue
		}
		for key, value := range decodeObject(t, data) {
			switch key {
			case "choices":
				for n, c := range list(value) {
					addUpChoice(choices, c.(object), n)
				}
			case "usage":
				if !empty(value) {
					whole[key] = value
				}
			case "error", "obfuscation", "prompt_progress":
			case "object":
				if text, ok := value.(string); ok {
					value = strings.TrimSuffix(text, ".chunk")
				}
				first(whole, key, value)
			case "id", "created", "model":
				first(whole, key, value)
			case "system_fingerprint", "service_tier", "timings", "time_info", "x_groq", "citations", "search_results":
				if old, ok := whole[key]; !ok || value != nil || old == nil {
					whole[key] = value
				}
			default:
				constant(whole, key, value)
			}
		}
	}
	var all []any
	for _, i := range slices.Sorted(maps.Keys(choices)) {
		all = append(all, finished(choices[i], i, whole["object"] == "text_completion"))
	}
	whole["choices"] = all
	b, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, b)
}

func decodeObject(t *testing.T, data []byte) (o object) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		t.Fatalf("%v: %q", err, data)
	}
	return o
}

func list(value any) []any {
	elements, _ := value.([]any)
	return elements
}

func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case object:
		return len(v) == 0
	}
	return false
}

func first(o object, key string, value any) {
	if o[key] == nil {
		o[key] = value
	}
}

func constant(o object, key string, value any) {
	if old, ok := o[key]; !ok || empty(old) && !empty(value) {
		o[key] = value
	}
}

// add appends texts and lists.
func add(o object, key string, value any) {
	switch v := value.(type) {
	case nil:
		first(o, key, nil)
	case string:
		if old, ok := o[key].(string); ok {
			v = old + v
		}
		o[key] = v
	case []any:
		o[key] = append(list(o[key]), v...)
		if o[key].([]any) == nil {
			o[key] = []any{}
		}
	}
}

func index(o object, missing int) int {
	n, ok := o["index"].(json.Number)
	if !ok {
		return missing
	}
	i, _ := n.Int64()
	return int(i)
}

func addUpChoice(choices map[int]object, part object, n int) {
	i := index(part, n)
	c := choices[i]
	if c == nil {
		c = object{deltasKey: object{}, "logprobs": nil, "finish_reason": nil}
		choices[i] = c
	}
	deltas := c[deltasKey].(object)
	for key, value := range part {
		switch key {
		case "index":
		case "delta", "message":
			first(deltas, "chat", true)
			message, _ := value.(object)
			b, _ := json.Marshal(message)
			switch {
			case message == nil:
			case key == "message" && hasContent(b):
				deltas["whole"] = message
			case deltas["whole"] == nil:
				first(deltas, "message", object{})
				addUpMessage(deltas["message"].(object), message)
			}
		case "text", "token_ids":
			add(c, key, value)
		case "logprobs":
			o, _ := value.(object)
			for name, v := range o {
				first(c, key, object{})
				add(c[key].(object), name, v)
			}
		case "finish_reason":
			if b, _ := json.Marshal(value); namesReason(b) {
				c[key] = value
			}
		default:
			constant(c, key, value)
		}
	}
}

func addUpMessage(m, delta object) {
	for key, value := range delta {
		switch key {
		case "role":
			first(m, key, value)
		case "content", "reasoning_content", "reasoning", "refusal":
			add(m, key, value)
		case "function_call":
			o, _ := value.(object)
			for name, v := range o {
				first(m, key, object{})
				if name == "arguments" {
					add(m[key].(object), name, v)
				} else {
					constant(m[key].(object), name, v)
				}
			}
		case "tool_calls":
			for _, part := range list(value) {
				m[key] = addUpCall(list(m[key]), part.(object))
			}
		default:
			constant(m, key, value)
		}
	}
}

func toolName(call object) string {
	for _, kind := range []string{"function", "custom"} {
		if tool, ok := call[kind].(object); ok && !empty(tool["name"]) {
			return fmt.Sprint(tool["name"])
		}
	}
	return ""
}

// addUpCall adds a part of a call. It knows the rule for parts without an index, and for several calls of one index.
func addUpCall(calls []any, part object) []any {
	i := index(part, -1)
	var call object
	for _, c := range calls {
		c := c.(object)
		if i < 0 && !empty(part["id"]) && cmp.Equal(part["id"], c["id"]) {
			call = c
			break
		}
		if i < 0 || c["index"] == i {
			call = c
		}
	}
	if call != nil && (i >= 0 || call["id"] != part["id"] || empty(part["id"])) {
		another := !empty(part["id"]) && !empty(call["id"]) && !cmp.Equal(part["id"], call["id"])
		unknown := i < 0 && empty(part["id"]) && empty(call["id"])
		if another && i < 0 || (another || unknown) && toolName(part) != "" && toolName(call) != "" {
			call = nil
		}
	}
	if call == nil {
		if i < 0 {
			i = len(calls)
		}
		call = object{"index": i}
		calls = append(calls, call)
	}
	for key, value := range part {
		switch key {
		case "index":
		case "id":
			if !empty(value) {
				first(call, key, value)
			}
		case "function", "custom":
			tool, _ := value.(object)
			if tool != nil {
				first(call, key, object{})
			}
			for name, v := range tool {
				if name == "arguments" && key == "function" || name == "input" && key == "custom" {
					add(call[key].(object), name, v)
				} else if !empty(v) {
					constant(call[key].(object), name, v)
				}
			}
		default:
			if !empty(value) {
				constant(call, key, value)
			}
		}
	}
	return calls
}

// finished returns a choice in the form of a whole answer.
func finished(c object, i int, isText bool) object {
	deltas := c[deltasKey].(object)
	delete(c, deltasKey)
	c["index"] = i
	_, hasText := c["text"]
	switch {
	case deltas["whole"] != nil:
		c["message"] = deltas["whole"]
	case deltas["chat"] != nil || !isText && !hasText:
		m, _ := deltas["message"].(object)
		c["message"] = finishedMessage(m)
	case !hasText:
		c["text"] = ""
	}
	return c
}

func finishedMessage(m object) object {
	if m == nil {
		m = object{}
	}
	first(m, "role", "assistant")
	calls := list(m["tool_calls"])
	if content, ok := m["content"]; !ok || content == "" && (len(calls) > 0 || m["function_call"] != nil) {
		m["content"] = nil
	}
	delete(m, "tool_calls")
	if len(calls) > 0 {
		slices.SortStableFunc(calls, func(x, y any) int { return x.(object)["index"].(int) - y.(object)["index"].(int) })
		m["tool_calls"] = calls
	}
	for _, call := range calls {
		call := call.(object)
		delete(call, "index")
		kind := ""
		for _, name := range []string{"function", "custom"} {
			if _, ok := call[name]; ok {
				kind = name
			}
		}
		if declared := call["type"]; kind == "" && (declared == nil || declared == "function" || declared == "custom") {
			kind = "function"
			if declared == "custom" {
				kind = "custom"
			}
		}
		if kind == "" {
			continue
		}
		first(call, "type", kind)
		first(call, kind, object{})
		tool := call[kind].(object)
		first(tool, "name", "")
		if kind == "custom" {
			first(tool, "input", "")
		} else {
			first(tool, "arguments", "")
		}
	}
	return m
}

// randomStream returns the chunks of a random stream of chat or completions.
func randomStream(r *rand.Rand) [][]byte {
	one := func(options ...string) string { return options[r.IntN(len(options))] }
	// members returns an object with some of the members, in any order; empty strings are left out.
	members := func(list ...string) string {
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return "{" + strings.Join(slices.DeleteFunc(list, func(m string) bool { return m == "" }), one(",", ", ")) + "}"
	}
	text := func() string {
		return one(`""`, `"a"`, `"b c"`, `"\n"`, `"é"`, `"\u00e9\""`, `"😀"`, `"\ud83d\ude00"`, "null")
	}
	sometimes := func(member string) string { return one("", "", member) }
	head := []string{`"id":"c"`, `"object":` + one(`"chat.completion.chunk"`, `"text_completion"`), `"created":` + one("1", "2"), `"model":"m"`, `"system_fingerprint":` + one("null", `"fp"`), `"provider":"p"`}
	head = head[:r.IntN(len(head)+1)]
	isText := r.IntN(4) == 0
	kinds := [3]string{one("function", "custom"), "function", one("function", "custom")} // of the calls
	call := func() string {
		i := r.IntN(len(kinds))
		kind := kinds[i]
		return members(
			fmt.Sprintf(`"index":%d`, i), sometimes(fmt.Sprintf(`"id":"call%d"`, i)), sometimes(`"id":""`), sometimes(`"type":"`+kind+`"`),
			sometimes(`"`+kind+`":`+members(sometimes(fmt.Sprintf(`"name":"f%d"`, i)), sometimes(`"`+argumentsKey(kind)+`":`+text()))))
	}
	once := func(m string) string { // an object without the repeated key, which a decoder would drop
		if strings.Count(m, `"id":`) > 1 {
			return strings.NewReplacer(`, "id":""`, "", `,"id":""`, "", `"id":"",`, "", `"id":"", `, "").Replace(m)
		}
		return m
	}
	calls := func() string {
		var list []string
		for range r.IntN(3) {
			list = append(list, once(call()))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	choice := func() string {
		content := ""
		switch {
		case isText:
			content = sometimes(`"text":` + text())
		default:
			content = one("", `"delta":`+one("null", "{}"), `"delta":`+members(
				sometimes(`"role":"assistant"`), sometimes(`"content":`+text()), sometimes(`"reasoning_content":`+text()), sometimes(`"refusal":null`),
				sometimes(`"tool_calls":`+one("null", calls())), sometimes(`"function_call":`+members(sometimes(`"name":"f"`), sometimes(`"arguments":`+text())))))
		}
		return members(fmt.Sprintf(`"index":%d`, r.IntN(3)), content, sometimes(`"finish_reason":`+one("null", `""`, `"stop"`, `"tool_calls"`)),
			sometimes(`"logprobs":`+one("null", members(sometimes(`"content":`+one("[]", "[ ]", `[{"token":"a"}]`, `[1, 2]`)), `"refusal":null`))),
			sometimes(`"stop_reason":7`), sometimes(`"content_filter_results":`+one("{}", `{"a":1}`)))
	}
	var stream [][]byte
	for range 1 + r.IntN(12) {
		var choices []string
		for range r.IntN(3) {
			choices = append(choices, choice())
		}
		list := append(slices.Clone(head), `"choices":[`+strings.Join(choices, ",")+`]`, sometimes(`"usage":`+one("null", "{}", `{"prompt_tokens":1}`, `{"prompt_tokens":2}`)), sometimes(`"obfuscation":"xx"`))
		stream = append(stream, []byte(members(list...)))
	}
	return append(stream, []byte(`{"choices":[{"index":0}]}`), []byte("[DONE]"))
}
