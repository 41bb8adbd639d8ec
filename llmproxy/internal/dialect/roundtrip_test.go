package dialect

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A conversation makes requests in the formats of OpenAI and Anthropic.
type conversation struct {
	*generator
	tools []string // names
	ids   []string // of the calls that have no result yet
}

// odd returns a text, which may be empty.
func (c *conversation) odd() string {
	if c.IntN(8) == 0 {
		return ""
	}
	return c.text()
}

func (c *conversation) newID(odd bool) string {
	c.calls++
	id := fmt.Sprintf("call_%d", c.calls)
	if odd {
		id = fmt.Sprintf([]string{"functions.f:%d", "a/b %d", "é%d", "llm_proxy_%d", "chatcmpl-tool-%d"}[c.IntN(5)], c.calls)
	}
	c.ids = append(c.ids, id)
	return id
}

func (c *conversation) tool() string { return c.tools[c.IntN(len(c.tools))] }

func (c *conversation) nameTools(longest int) {
	for i := range c.IntN(4) {
		c.tools = append(c.tools, fmt.Sprintf("f%d", i)+strings.Repeat("_n", c.IntN((longest-2)/2)))
	}
}

func (c *conversation) arguments() jsonObject {
	o := jsonObject{}
	c.some(o, jsonObject{"a": c.odd(), "b": c.IntN(9), "c": []any{true, nil, jsonObject{}}, "d": 1e21})
	return o
}

func pick[T any](c *conversation, from ...T) T { return from[c.IntN(len(from))] }

var schema = jsonObject{"type": "object", "properties": jsonObject{"a": jsonObject{"type": "string", "enum": []any{"x", nil}}}}

// chat returns a request for OpenAI's chat completions.
func (c *conversation) chat() jsonObject {
	c.nameTools(128)
	request := jsonObject{"model": "m"}
	if c.often() {
		request["stream"], request["stream_options"] = true, jsonObject{"include_usage": true}
	}
	c.some(request, jsonObject{
		"max_tokens": 1 + c.IntN(99), "max_completion_tokens": 100, "temperature": pick(c, 0.0, 0.7, 1.0, 1.5), "top_p": 0.25, "top_k": 4,
		"stop": pick[any](c, "a", []any{"a", " ", "b"}, []any{}, nil), "user": "u", "safety_identifier": "s", "seed": 7, "presence_penalty": 0.5,
		"reasoning_effort": pick(c, "none", "minimal", "low", "medium", "high", "xhigh", "max"), "parallel_tool_calls": c.IntN(2) == 0,
		"response_format": pick[any](c, jsonObject{"type": "text"}, jsonObject{"type": "json_object"}, jsonObject{"type": "json_schema", "json_schema": jsonObject{"name": "n", "description": "d", "schema": schema}}),
	})
	var tools []any
	for _, name := range c.tools {
		f := jsonObject{"name": name}
		c.some(f, jsonObject{"description": c.odd(), "parameters": pick(c, schema, jsonObject{}, jsonObject{"required": []any{}}), "strict": c.IntN(2) == 0})
		tools = append(tools, jsonObject{"type": "function", "function": f})
	}
	if tools != nil {
		request["tools"] = tools
		c.some(request, jsonObject{"tool_choice": pick[any](c, "auto", "none", "required", jsonObject{"type": "function", "function": jsonObject{"name": c.tool()}})})
	}
	var messages []any
	add := func(m jsonObject) { messages = append(messages, m) }
	for range 1 + c.IntN(6) {
		if c.IntN(3) == 0 {
			add(jsonObject{"role": pick(c, "system", "developer"), "content": pick[any](c, c.odd(), []any{part(c.odd()), part(c.odd())})})
		}
		if c.often() {
			user := jsonObject{"role": "user", "content": c.odd()}
			if c.often() {
				user["content"] = c.parts()
			}
			c.some(user, jsonObject{"name": "ann"})
			add(user)
		}
		assistant := jsonObject{"role": "assistant", "content": pick[any](c, c.odd(), nil, []any{part(c.odd()), part(c.odd())})}
		if c.IntN(3) == 0 {
			assistant["refusal"] = c.odd()
		}
		if c.often() {
			assistant["reasoning_content"] = "hm"
			assistant["thinking_blocks"] = []any{jsonObject{"type": "thinking", "thinking": "hm", "signature": "sig"}, pick(c, jsonObject{"type": "redacted_thinking", "data": "r"}, jsonObject{"type": "thinking", "thinking": "x"})}
		}
		if len(c.tools) > 0 && c.often() {
			var calls []any
			for range 1 + c.IntN(3) {
				arguments, _ := json.Marshal(c.arguments())
				calls = append(calls, jsonObject{"id": c.newID(c.IntN(2) == 0), "type": "function", "function": jsonObject{"name": c.tool(), "arguments": pick(c, "", " "+string(arguments))}})
			}
			assistant["tool_calls"] = calls
		}
		add(assistant)
		for _, id := range c.ids {
			add(jsonObject{"role": "tool", "tool_call_id": id, "content": pick[any](c, c.odd(), []any{part(c.odd()), part(c.odd())}, []any{})})
		}
		c.ids = nil
	}
	request["messages"] = append(messages, jsonObject{"role": "user", "content": "end"})
	return request
}

func part(text string) jsonObject { return jsonObject{"type": "text", "text": text} }

func (c *conversation) parts() (parts []any) {
	for range c.IntN(4) {
		parts = append(parts, pick[any](c, part(c.odd()),
			jsonObject{"type": "image_url", "image_url": jsonObject{"url": "data:image/png;base64," + png, "detail": "low"}}, jsonObject{"type": "image_url", "image_url": jsonObject{"url": "https://x/y.png"}},
			jsonObject{"type": "file", "file": jsonObject{"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}))
	}
	return append(parts, part("?"))
}

// texts returns the texts of a content that are not empty.
func texts(content any) (l []string) {
	switch content := content.(type) {
	case string:
		l = []string{content}
	case []any:
		for _, p := range content {
			if text, ok := p.(jsonObject)["text"].(string); ok {
				l = append(l, text)
			}
		}
	}
	return slices.DeleteFunc(l, func(s string) bool { return s == "" })
}

// strip removes members.
func strip(o jsonObject, names ...string) {
	for _, name := range names {
		delete(o, name)
	}
}

// lose applies to a request in OpenAI's format what docs/dialects.md says that two translations change.
func lose(request jsonObject) {
	strip(request, "seed", "presence_penalty")
	request["max_tokens"] = either(request["max_completion_tokens"], request["max_tokens"], float64(DefaultMaxTokens))
	if user := either(request["safety_identifier"], request["user"]); user != nil {
		request["user"] = user
	}
	strip(request, "max_completion_tokens", "safety_identifier")
	if t, ok := request["temperature"].(float64); ok {
		request["temperature"] = min(t, 1)
		strip(request, "top_p")
	}
	stops := slices.DeleteFunc(texts(asParts(request["stop"])), func(s string) bool { return strings.TrimSpace(s) == "" })
	if strip(request, "stop"); len(stops) > 0 {
		request["stop"] = anys(stops)
	}
	switch request["reasoning_effort"] {
	case "none":
		request["thinking"] = jsonObject{"type": "disabled"}
		strip(request, "reasoning_effort")
	case "minimal":
		request["reasoning_effort"] = "low"
	}
	if f, ok := request["response_format"].(jsonObject); ok {
		if strip(request, "response_format"); f["type"] == "json_schema" {
			request["response_format"] = jsonObject{"type": "json_schema", "json_schema": jsonObject{"name": "answer", "strict": true, "schema": f["json_schema"].(jsonObject)["schema"]}}
		}
	}
	single := request["parallel_tool_calls"] == false && request["tools"] != nil && request["tool_choice"] != "none"
	if strip(request, "parallel_tool_calls"); single {
		request["parallel_tool_calls"] = false
		request["tool_choice"] = either(request["tool_choice"], "auto")
	}
	tools, _ := request["tools"].([]any)
	for _, tool := range tools {
		f := tool.(jsonObject)["function"].(jsonObject)
		f["parameters"] = withType(f["parameters"])
		if f["strict"] == false {
			strip(f, "strict")
		}
	}
	request["messages"] = mergeChat(request["messages"].([]any))
}

func either(values ...any) any {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

// asParts makes parts of strings.
func asParts(list any) any {
	strings, ok := list.([]any)
	if !ok {
		return list
	}
	var parts []any
	for _, s := range strings {
		parts = append(parts, jsonObject{"text": s})
	}
	return parts
}

func anys(l []string) (list []any) {
	for _, s := range l {
		list = append(list, s)
	}
	return list
}

func withType(parameters any) any {
	p, ok := parameters.(jsonObject)
	if !ok {
		return jsonObject{"type": "object", "properties": jsonObject{}}
	}
	p["type"] = either(p["type"], "object")
	return p
}

// mergeChat returns messages as they come back: the system prompt first, one message for each run of a role, results before the rest.
func mergeChat(messages []any) []any {
	type turn struct {
		role                                            string
		results, parts, texts, calls, blocks, reasoning []any
	}
	var system []string
	var turns []*turn
	at := func(role string) *turn {
		if n := len(turns); n == 0 || turns[n-1].role != role {
			turns = append(turns, &turn{role: role})
		}
		return turns[len(turns)-1]
	}
	for _, message := range messages {
		m := message.(jsonObject)
		switch m["role"] {
		case "system", "developer":
			system = append(system, texts(m["content"])...)
		case "tool":
			t := at("user")
			t.results = append(t.results, jsonObject{"role": "tool", "tool_call_id": m["tool_call_id"], "content": strings.Join(texts(m["content"]), "\n")})
		case "user":
			if parts, ok := m["content"].([]any); ok {
				for _, p := range parts {
					p := p.(jsonObject)
					if image, ok := p["image_url"].(jsonObject); ok {
						strip(image, "detail")
					}
					if p["text"] != "" {
						t := at("user")
						t.parts = append(t.parts, p)
					}
				}
			} else if m["content"] != "" {
				t := at("user")
				t.parts = append(t.parts, part(m["content"].(string)))
			}
		case "assistant":
			var t *turn
			for _, b := range asList(m["thinking_blocks"]) {
				if b := b.(jsonObject); b["signature"] != nil || b["data"] != nil {
					t = at("assistant")
					t.blocks = append(t.blocks, b)
					if b["thinking"] != nil {
						t.reasoning = append(t.reasoning, b["thinking"])
					}
				}
			}
			refusal, _ := m["refusal"].(string)
			for _, text := range append(texts(m["content"]), texts(refusal)...) {
				t = at("assistant")
				t.texts = append(t.texts, text)
			}
			for _, call := range asList(m["tool_calls"]) {
				f := call.(jsonObject)["function"].(jsonObject)
				if f["arguments"] = strings.TrimSpace(f["arguments"].(string)); f["arguments"] == "" {
					f["arguments"] = "{}"
				}
				t = at("assistant")
				t.calls = append(t.calls, call)
			}
		}
	}
	var out []any
	if len(system) > 0 {
		out = append(out, jsonObject{"role": "system", "content": strings.Join(system, "\n\n")})
	}
	for _, t := range turns {
		if t.role == "user" {
			out = append(out, t.results...)
			if len(t.parts) > 0 {
				out = append(out, jsonObject{"role": "user", "content": t.parts})
			}
			continue
		}
		m := jsonObject{"role": "assistant", "content": joined(t.texts, "\n\n")}
		if len(t.texts) == 0 && len(t.calls) > 0 {
			m["content"] = nil
		}
		for name, list := range map[string][]any{"tool_calls": t.calls, "thinking_blocks": t.blocks} {
			if len(list) > 0 {
				m[name] = list
			}
		}
		if len(t.reasoning) > 0 {
			m["reasoning_content"] = joined(t.reasoning, "")
		}
		out = append(out, m)
	}
	return out
}

func asList(value any) []any {
	l, _ := value.([]any)
	return l
}

func joined(list []any, separator string) string {
	var l []string
	for _, s := range list {
		l = append(l, s.(string))
	}
	return strings.Join(l, separator)
}

// Conversations of OpenAI's clients, translated to Anthropic's format and back, lose nothing but what docs/dialects.md lists.
func TestChatToMessagesAndBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		c := conversation{generator: newGenerator(seed)}
		in, err := json.Marshal(c.chat())
		if err != nil {
			t.Fatal(err)
		}
		messages, problem := MessagesFromChat(scan(t, string(in)), 0)
		if problem != nil {
			t.Fatalf("seed %d: %v: %s", seed, problem, in)
		}
		back, names, problem := ChatFromMessages(scan(t, string(messages)), AllOptions)
		if problem != nil {
			t.Fatalf("seed %d: %v: %s", seed, problem, messages)
		}
		want, got := decoded(t, in), decoded(t, back)
		lose(want)
		rename(got, names)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s\nrequest %s\nmessages %s\nback %s", seed, diff, in, messages, back)
		}
	}
}

// rename gives all tools in a value their own names.
func rename(value any, names *ToolNames) {
	switch v := value.(type) {
	case jsonObject:
		if name, ok := v["name"].(string); ok {
			v["name"] = names.Original(name)
		}
		for member := range maps.Values(v) {
			rename(member, names)
		}
	case []any:
		for _, element := range v {
			rename(element, names)
		}
	}
}

// messages returns a request for Anthropic's Messages API.
func (c *conversation) messages() jsonObject {
	c.nameTools(128)
	request := jsonObject{"model": "m", "max_tokens": 1 + c.IntN(99)}
	c.some(request, jsonObject{
		"stream": true, "temperature": pick(c, 0.0, 0.7, 1.0), "top_p": 0.25, "top_k": 4, "stop_sequences": []any{"a", "b", "c", "d", "e"},
		"metadata": jsonObject{"user_id": "u"}, "thinking": pick(c, jsonObject{"type": "adaptive"}, jsonObject{"type": "disabled"}, jsonObject{"type": "enabled", "budget_tokens": 2048}),
		"service_tier": "auto", "context_management": jsonObject{"edits": []any{}}, "cache_control": jsonObject{"type": "ephemeral"},
		"output_config": pick(c, jsonObject{"effort": pick(c, "low", "medium", "high", "xhigh", "max")}, jsonObject{"effort": "low", "format": jsonObject{"type": "json_schema", "schema": schema}}),
		"system":        pick[any](c, c.odd(), []any{c.block(), part("x-anthropic-billing-header: a"), c.block()}),
	})
	var tools []any
	for _, name := range c.tools {
		f := jsonObject{"name": name, "input_schema": pick(c, schema, jsonObject{})}
		c.some(f, jsonObject{"description": c.odd(), "strict": true, "type": "custom", "cache_control": jsonObject{"type": "ephemeral"}})
		tools = append(tools, f)
	}
	if tools != nil {
		request["tools"] = tools
		choice := jsonObject{"type": pick(c, "auto", "any", "none", "tool")}
		if choice["type"] == "tool" {
			choice["name"] = c.tool()
		}
		c.some(choice, jsonObject{"disable_parallel_tool_use": c.IntN(2) == 0})
		c.some(request, jsonObject{"tool_choice": choice})
	}
	var messages []any
	for range 1 + c.IntN(6) {
		messages = append(messages, c.userMessage(), c.assistantMessage())
		if c.IntN(3) == 0 {
			messages = append(messages, c.assistantMessage())
		}
	}
	request["messages"] = append(messages, c.userMessage(), jsonObject{"role": "user", "content": "end"})
	return request
}

func (c *conversation) block() jsonObject {
	b := part(c.odd())
	c.some(b, jsonObject{"cache_control": jsonObject{"type": "ephemeral"}})
	return b
}

// media returns a block that a user or a tool sends.
func (c *conversation) media() jsonObject {
	return pick(c, c.block(), c.block(),
		jsonObject{"type": "image", "source": jsonObject{"type": "base64", "media_type": "image/png", "data": png}}, jsonObject{"type": "image", "source": jsonObject{"type": "url", "url": "https://x/y.png"}},
		jsonObject{"type": "document", "title": "a.pdf", "source": jsonObject{"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}})
}

func (c *conversation) userMessage() jsonObject {
	if len(c.ids) == 0 && c.IntN(3) == 0 {
		return jsonObject{"role": "user", "content": c.odd()}
	}
	var blocks []any
	for _, id := range c.ids {
		r := jsonObject{"type": "tool_result", "tool_use_id": id, "content": pick[any](c, c.odd(), []any{c.media(), c.media()}, []any{})}
		c.some(r, jsonObject{"is_error": c.IntN(2) == 0})
		blocks = append(blocks, r)
	}
	c.ids = nil
	for range c.IntN(3) {
		blocks = append(blocks, c.media(), jsonObject{"type": "from_the_future"})
	}
	return jsonObject{"role": "user", "content": append(blocks, part("?"))}
}

func (c *conversation) assistantMessage() jsonObject {
	if c.IntN(3) == 0 {
		return jsonObject{"role": "assistant", "content": c.odd()}
	}
	var blocks []any
	if c.often() {
		blocks = append(blocks, jsonObject{"type": "thinking", "thinking": c.odd(), "signature": pick(c, "sig", Unsigned)})
	}
	if c.IntN(3) == 0 {
		blocks = append(blocks, jsonObject{"type": "redacted_thinking", "data": "r"})
	}
	for range c.IntN(3) {
		blocks = append(blocks, c.block())
	}
	if len(c.tools) > 0 {
		for range c.IntN(3) {
			blocks = append(blocks, jsonObject{"type": "tool_use", "id": c.newID(false), "name": c.tool(), "input": c.arguments()})
		}
	}
	return jsonObject{"role": "assistant", "content": append([]any{}, blocks...)}
}

// loseMessages applies to a request in Anthropic's format what docs/dialects.md says that two translations change.
func loseMessages(request jsonObject) {
	strip(request, "service_tier", "context_management", "cache_control")
	if request["temperature"] != nil {
		strip(request, "top_p")
	}
	system := slices.DeleteFunc(texts(request["system"]), func(s string) bool { return strings.HasPrefix(s, "x-anthropic-billing-header") })
	if strip(request, "system"); len(system) > 0 {
		request["system"] = []any{part(strings.Join(system, "\n\n"))}
	}
	for _, tool := range asList(request["tools"]) {
		f := tool.(jsonObject)
		f["input_schema"] = withType(f["input_schema"])
		strip(f, "type", "cache_control")
	}
	if choice, ok := request["tool_choice"].(jsonObject); ok && (choice["type"] == "none" || choice["disable_parallel_tool_use"] == false) {
		strip(choice, "disable_parallel_tool_use")
	}
	var out []any
	for _, message := range request["messages"].([]any) {
		m := message.(jsonObject)
		blocks, ok := m["content"].([]any)
		if !ok {
			blocks = []any{part(m["content"].(string))}
		}
		blocks = loseBlocks(m["role"], blocks)
		if len(blocks) == 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].(jsonObject)["role"] == m["role"] {
			last := out[n-1].(jsonObject)
			last["content"] = append(asList(last["content"]), blocks...)
		} else {
			out = append(out, jsonObject{"role": m["role"], "content": blocks})
		}
	}
	request["messages"] = out
}

func loseBlocks(role any, blocks []any) (kept []any) {
	var results, text, calls []any
	for _, block := range blocks {
		b := block.(jsonObject)
		strip(b, "cache_control")
		switch b["type"] {
		case "tool_result":
			s := strings.Join(texts(b["content"]), "\n")
			if b["is_error"] == true {
				s = "Error: " + s
			}
			for _, inner := range asList(b["content"]) {
				if inner := inner.(jsonObject); inner["type"] != "text" {
					kept = append(kept, inner)
				}
			}
			results = append(results, jsonObject{"type": "tool_result", "tool_use_id": b["tool_use_id"], "content": s})
		case "text":
			switch {
			case b["text"] == "":
			case role == "assistant":
				text = append(text, b["text"])
			default:
				kept = append(kept, b)
			}
		case "thinking":
			if b["signature"] != Unsigned {
				kept = append(kept, b)
			}
		case "tool_use":
			calls = append(calls, b)
		case "from_the_future":
		default:
			kept = append(kept, b)
		}
	}
	if len(text) > 0 {
		kept = append(kept, part(joined(text, "\n\n")))
	}
	return slices.Concat(results, kept, calls)
}

// Conversations of Anthropic's clients, translated to OpenAI's format and back, lose nothing but what docs/dialects.md lists.
func TestMessagesToChatAndBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		c := conversation{generator: newGenerator(seed)}
		in, err := json.Marshal(c.messages())
		if err != nil {
			t.Fatal(err)
		}
		chat, names, problem := ChatFromMessages(scan(t, string(in)), AllOptions)
		if problem != nil {
			t.Fatalf("seed %d: %v: %s", seed, problem, in)
		}
		back, problem := MessagesFromChat(scan(t, string(chat)), 0)
		if problem != nil {
			t.Fatalf("seed %d: %v: %s", seed, problem, chat)
		}
		want, got := decoded(t, in), decoded(t, back)
		loseMessages(want)
		rename(got, names)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s\nrequest %s\nchat %s\nback %s", seed, diff, in, chat, back)
		}
	}
}
