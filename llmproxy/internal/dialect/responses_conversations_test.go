package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A responseConversation makes requests for the Responses API, and says what a chat must consist of.
type responseConversation struct {
	*generator
	items []any
	want  []string // what is said, in order
	tools []responseTool
	texts int
}

// unique returns a text that is nowhere else in the conversation.
func (c *responseConversation) unique() string {
	c.texts++
	return fmt.Sprint(c.text(), " #", c.texts)
}

func (c *responseConversation) add(item jsonObject) { c.items = append(c.items, item) }

func (c *responseConversation) image() (part jsonObject, said string) {
	c.texts++
	url := fmt.Sprintf("https://x/%d.png", c.texts)
	return jsonObject{"type": "input_image", "image_url": url, "detail": "auto"}, "image " + url
}

// userMessage returns a message of a user, and what it says.
func (c *responseConversation) userMessage() (item jsonObject, said []string) {
	item = jsonObject{"role": "user"}
	c.some(item, jsonObject{"type": "message", "id": "msg_1"})
	if c.IntN(3) == 0 {
		text := c.unique()
		item["content"] = text
		return item, []string{"user " + text}
	}
	var parts []any
	for range 1 + c.IntN(3) {
		if c.IntN(3) == 0 {
			image, url := c.image()
			parts, said = append(parts, image), append(said, url)
			continue
		}
		text := c.unique()
		parts, said = append(parts, jsonObject{"type": "input_text", "text": text}), append(said, "user "+text)
	}
	item["content"] = parts
	return item, said
}

// reasoning adds reasoning of some server: what the gateway has made of it, its text, or both.
func (c *responseConversation) reasoning(member string) string {
	said := c.unique()
	item := jsonObject{"type": "reasoning", "id": "rs_1", "summary": []any{}}
	members, _ := json.Marshal(jsonObject{member: said})
	own := member != "reasoning_content" || c.often()
	if own {
		item["encrypted_content"] = encodeReasoning(members[1 : len(members)-1])
	}
	if !own || c.often() {
		item["content"] = []any{jsonObject{"type": "reasoning_text", "text": said}}
	}
	c.add(item)
	return said
}

// call adds a call, and returns what it says.
func (c *responseConversation) call(id string) string {
	t := c.tools[c.IntN(len(c.tools))]
	item := jsonObject{"type": callItems[t.kind].call, "call_id": id, "id": "item_" + id}
	arguments := jsonObject{"commands": []any{c.unique()}}
	var argument any = arguments
	switch t.kind {
	case functionTool:
		text, _ := json.Marshal(arguments)
		argument = string(text)
		item["name"] = t.name
	case customTool:
		argument = c.unique()
		arguments = jsonObject{"input": argument}
		item["name"] = t.name
	case localShellTool:
		arguments = jsonObject{"command": []any{c.unique()}, "env": jsonObject{}}
		argument = jsonObject{"type": "exec", "command": arguments["command"], "env": jsonObject{}, "timeout_ms": nil}
	case toolSearchTool:
		item["execution"] = "client"
	}
	item[callItems[t.kind].argument] = argument
	if t.namespace != "" {
		item["namespace"] = t.namespace
	}
	c.add(item)
	text, _ := json.Marshal(arguments)
	return fmt.Sprintf("call %s %+v %s", id, t, text)
}

// output returns the item with the output of a call, and what it says: its text, and its images, which come later.
func (c *responseConversation) output(call jsonObject) (item jsonObject, text string, images []string) {
	item = jsonObject{"type": strings.Replace(call["type"].(string), "_call", "_call_output", 1), "call_id": call["call_id"]}
	switch call["type"] {
	case "tool_search_call":
		c.texts++
		name := fmt.Sprintf("found%d", c.texts)
		item["type"], item["execution"], item["tools"] = "tool_search_output", "client", []any{jsonObject{"type": "function", "name": name}}
		return item, "These tools can be called now: " + name, nil
	case "apply_patch_call":
		text = c.unique()
		item["status"], item["output"] = "completed", text
		return item, text, nil
	case "shell_call":
		output := []any{jsonObject{"stdout": c.unique(), "stderr": ""}}
		raw, _ := json.Marshal(output)
		item["output"] = output
		return item, string(raw), nil
	}
	if text = c.unique(); c.often() {
		item["output"] = text
		return item, text, nil
	}
	image, url := c.image()
	item["output"] = []any{jsonObject{"type": "input_text", "text": text}, image}
	return item, text, []string{url}
}

// turn adds what the model says, and the outputs of its calls.
func (c *responseConversation) turn() {
	member := []string{"reasoning_content", "reasoning"}[c.IntN(2)]
	var texts, calls []string
	reasoning := ""
	from := len(c.items)
	for range 1 + c.IntN(5) {
		switch c.IntN(4) {
		case 0:
			reasoning += c.reasoning(member)
		case 1:
			said := c.unique()
			c.add(jsonObject{"type": "message", "role": "assistant", "content": []any{jsonObject{"type": "output_text", "text": said, "annotations": []any{}}}})
			texts = append(texts, said)
		case 2:
			c.add(jsonObject{"type": "web_search_call", "id": "ws_1", "status": "completed"})
		default:
			c.calls++
			calls = append(calls, c.call(fmt.Sprint("call_", c.calls)))
		}
	}
	if len(texts)+len(calls) == 0 {
		return
	}
	if reasoning != "" {
		c.want = append(c.want, "reasoning "+reasoning)
	}
	if len(texts) > 0 {
		c.want = append(c.want, "assistant "+strings.Join(texts, "\n\n"))
	}
	c.want = append(c.want, calls...)
	var open []jsonObject
	for _, item := range c.items[from:] {
		if item := item.(jsonObject); item["call_id"] != nil {
			open = append(open, item)
		}
	}
	c.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	var images, held []string
	for i, call := range open {
		if c.IntN(4) == 0 {
			message, said := c.userMessage() // meanwhile
			c.add(message)
			held = append(held, said...)
		}
		item, text, pictures := c.output(call)
		c.add(item)
		c.want = append(c.want, fmt.Sprintf("output %s %s", call["call_id"], text))
		if images = append(images, pictures...); i == len(open)-1 {
			c.want = append(append(c.want, images...), held...)
		}
	}
}

func (c *responseConversation) request() jsonObject {
	long := strings.Repeat("long", 20)
	all := []responseTool{
		{name: "f"}, {name: long}, {namespace: "n", name: "f"}, {namespace: "mcp__" + long, name: "f"}, {kind: customTool, name: "apply_patch"}, {kind: customTool, namespace: "n", name: "c"},
		{kind: localShellTool, name: "local_shell"}, {kind: shellTool, name: "shell"}, {kind: applyPatchTool, name: "apply_patch"}, {kind: toolSearchTool, name: "tool_search"},
	}
	for len(c.tools) == 0 {
		for _, t := range all {
			if c.IntN(2) == 0 {
				c.tools = append(c.tools, t)
			}
		}
	}
	tools := []any{jsonObject{"type": "web_search"}}
	for _, t := range c.tools {
		tool := jsonObject{"type": toolTypes[t.kind], "name": t.name, "execution": "client"}
		if t.kind > customTool {
			delete(tool, "name")
		}
		if t.namespace != "" {
			tool = jsonObject{"type": "namespace", "name": t.namespace, "description": "N", "tools": []any{tool}}
		}
		tools = append(tools, tool)
	}
	instructions := c.unique()
	c.want = append(c.want, "system "+instructions)
	for range 1 + c.IntN(5) {
		if c.IntN(3) == 0 {
			text := c.unique()
			c.add(jsonObject{"role": "developer", "content": text})
			c.want[0] += "\n\n" + text
		}
		if c.often() {
			message, said := c.userMessage()
			c.add(message)
			c.want = append(c.want, said...)
		}
		c.turn()
		message, said := c.userMessage()
		c.add(message)
		c.want = append(c.want, said...)
	}
	return jsonObject{"model": "m", "instructions": instructions, "input": c.items, "tools": tools}
}

// said returns what the messages of a chat say, in order. It checks that outputs follow their calls.
func said(t *testing.T, about *ResponseRequest, chat jsonObject) (said []string) {
	t.Helper()
	var open []any
	for _, message := range chat["messages"].([]any) {
		m := message.(jsonObject)
		role := m["role"].(string)
		if role != "tool" && len(open) > 0 {
			t.Errorf("%v comes before the outputs of %v", m, open)
		}
		for _, name := range []string{"reasoning_content", "reasoning"} {
			if reasoning, ok := m[name].(string); ok {
				said = append(said, "reasoning "+reasoning)
			}
		}
		switch content := m["content"].(type) {
		case string:
			switch {
			case role == "tool":
				id := m["tool_call_id"]
				if len(open) == 0 || !contains(open, id) {
					t.Errorf("an output of %v, which no call has asked for", id)
				}
				open = without(open, id)
				said = append(said, fmt.Sprintf("output %s %s", id, content))
			default:
				said = append(said, role+" "+content)
			}
		case []any:
			for _, part := range content {
				if image, ok := part.(jsonObject)["image_url"].(jsonObject); ok {
					said = append(said, "image "+image["url"].(string))
				} else {
					said = append(said, role+" "+part.(jsonObject)["text"].(string))
				}
			}
		}
		for _, call := range asList(m["tool_calls"]) {
			f := call.(jsonObject)["function"].(jsonObject)
			id := call.(jsonObject)["id"]
			open = append(open, id)
			arguments, _ := json.Marshal(decoded(t, []byte(f["arguments"].(string))))
			said = append(said, fmt.Sprintf("call %s %+v %s", id, about.tool(f["name"].(string)), arguments))
		}
	}
	return said
}

func contains(list []any, value any) bool { return len(without(list, value)) < len(list) }

func without(list []any, value any) (rest []any) {
	for _, v := range list {
		if v != value {
			rest = append(rest, v)
		}
	}
	return rest
}

// Everything that is said in a conversation of the Responses API is said in the chat, once and in order, and each call is one of its tool.
func TestResponseConversations(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		c := responseConversation{generator: newGenerator(seed)}
		in, err := json.Marshal(c.request())
		if err != nil {
			t.Fatal(err)
		}
		chat, about, problem := ChatFromResponse(scan(t, string(in)), ChatOptions{Reasoning: true})
		if problem != nil {
			t.Fatalf("seed %d: %v: %s", seed, problem, in)
		}
		got := said(t, about, decoded(t, chat))
		if diff := cmp.Diff(c.want, got); diff != "" || t.Failed() {
			t.Fatalf("seed %d: -want +got:\n%s\nrequest %s\nchat %s", seed, diff, in, chat)
		}
	}
}
