package dialect

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
)

// agentTools are tools of all kinds that run at the client, and the arguments with which a model calls them.
var agentTools = []struct {
	tool  any
	calls string // the name of the function that the model sees
	ends  string // the type of the item with the output
}{
	{jsonObject{"type": "function", "name": "f", "parameters": schema}, "f", "function_call_output"},
	{jsonObject{"type": "custom", "name": "apply_patch"}, "apply_patch", "custom_tool_call_output"},
	{jsonObject{"type": "namespace", "name": "mcp__x__", "description": "X", "tools": []any{jsonObject{"type": "function", "name": "g"}, jsonObject{"type": "custom", "name": "h"}}}, "mcp__x__g", "function_call_output"},
	{jsonObject{"type": "local_shell"}, "local_shell", "local_shell_call_output"},
	{jsonObject{"type": "shell"}, "shell", "shell_call_output"},
}

// agentCall returns a call of a tool as a model makes it.
func (c *conversation) agentCall(name string) jsonObject {
	arguments := any(c.arguments())
	switch name {
	case "apply_patch":
		arguments = jsonObject{customInput: c.odd()}
	case "local_shell":
		arguments = jsonObject{"command": []any{c.text()}, "env": jsonObject{}}
	case "shell":
		arguments = jsonObject{"commands": []any{c.text()}}
	}
	text, _ := json.Marshal(arguments) // cannot fail
	call := jsonObject{"id": c.newID(c.IntN(2) == 0), "type": "function", "function": jsonObject{"name": name, "arguments": string(text)}}
	if c.IntN(4) == 0 {
		call["extra_content"] = jsonObject{"google": jsonObject{"thought_signature": "s"}}
	}
	return call
}

// agentAnswer returns a message of a model that acts for a client.
func (c *conversation) agentAnswer() jsonObject {
	message := jsonObject{"role": "assistant", "content": c.odd()}
	if c.often() {
		message["reasoning_content"] = c.text()
		c.some(message, jsonObject{"thinking_blocks": []any{jsonObject{"type": "thinking", "thinking": "a", "signature": "s"}, jsonObject{"type": "redacted_thinking", "data": "r"}}})
		c.some(message, jsonObject{"reasoning_details": []any{jsonObject{"type": "reasoning.encrypted", "data": "d"}}})
	}
	var calls []any
	for range c.IntN(4) {
		calls = append(calls, c.agentCall(agentTools[c.IntN(len(agentTools))].calls))
	}
	if calls != nil {
		message["tool_calls"] = calls
	}
	switch {
	case message["content"] != "":
	case calls != nil:
		message["content"] = nil
	case message["reasoning_content"] != nil: // reasoning that led to nothing is left out
		message["content"] = c.text()
	}
	return message
}

// chunksOf returns a message in the chunks of a stream.
func (c *conversation) chunksOf(message jsonObject) (chunks []string) {
	add := func(delta jsonObject) {
		text, _ := json.Marshal(delta) // cannot fail
		chunks = append(chunks, chunk(string(text)))
	}
	for _, name := range []string{"reasoning_content", "content"} {
		text, _ := message[name].(string)
		for part := range slices.Chunk([]rune(text), 1+c.IntN(5)) {
			add(jsonObject{name: string(part)})
		}
		for _, list := range []string{"thinking_blocks", "reasoning_details"} {
			for _, element := range asList(message[list]) {
				if name == "reasoning_content" {
					add(jsonObject{list: []any{element}})
				}
			}
		}
	}
	for i, call := range asList(message["tool_calls"]) {
		call := call.(jsonObject)
		f := call["function"].(jsonObject)
		first := jsonObject{"index": i, "id": call["id"], "type": "function", "function": jsonObject{"name": f["name"], "arguments": ""}}
		if call["extra_content"] != nil {
			first["extra_content"] = call["extra_content"]
		}
		add(jsonObject{"tool_calls": []any{first}})
		for part := range slices.Chunk([]rune(f["arguments"].(string)), 1+c.IntN(9)) {
			add(jsonObject{"tool_calls": []any{jsonObject{"index": i, "function": jsonObject{"arguments": string(part)}}}})
		}
	}
	return append(chunks, finish("stop"), usageChunk)
}

// A client that sends back what it got gives the model its own messages again, in a loop of several turns, whether it streams or not. The
// model does not see that the client uses another API.
func TestResponsesComeBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		c := conversation{generator: newGenerator(seed)}
		var tools []any
		for _, tool := range agentTools {
			tools = append(tools, tool.tool)
		}
		input := []any{jsonObject{"role": "user", "content": "Hi"}}
		want := []any{jsonObject{"role": "user", "content": "Hi"}}
		for turn := range 3 {
			request, _ := json.Marshal(jsonObject{"model": "m", "tools": tools, "input": input})
			body, about, problem := ChatFromResponse(scan(t, string(request)), AllOptions)
			if problem != nil {
				t.Fatalf("seed %d: %v: %s", seed, problem, request)
			}
			if diff := cmp.Diff(normal(want), normal(decoded(t, body)["messages"])); diff != "" {
				t.Fatalf("seed %d, turn %d: -want +got:\n%s\nrequest %s", seed, turn, diff, request)
			}
			message := c.agentAnswer()
			var got dialecttest.Response
			s := &ResponseStream{Request: about}
			if c.IntN(2) == 0 {
				var stream []byte
				s.Model = "m"
				for _, data := range c.chunksOf(message) {
					stream = s.Append(stream, []byte(data))
				}
				got = dialecttest.ReadResponse(t, stream)
			} else {
				answer, _ := json.Marshal(jsonObject{"model": "m", "choices": []any{jsonObject{"index": 0, "message": message, "finish_reason": "stop"}}})
				whole, _, ok := s.Whole(nil, answer)
				if !ok {
					t.Fatalf("seed %d: %s is not translated", seed, answer)
				}
				got = dialecttest.ReadWholeResponse(t, whole)
			}
			want = append(want, message)
			for _, item := range got.Output {
				input = append(input, item)
			}
			for i, call := range asList(message["tool_calls"]) {
				call := call.(jsonObject)
				name := call["function"].(jsonObject)["name"]
				output := jsonObject{"call_id": call["id"], "output": fmt.Sprint(i)}
				for _, tool := range agentTools {
					if tool.calls == name {
						output["type"] = tool.ends
					}
				}
				content := fmt.Sprint(i)
				if name == "shell" { // for each command, what it wrote and how it ended
					list := []any{jsonObject{"stdout": content, "stderr": "", "outcome": jsonObject{"type": "exit", "exit_code": 0}}}
					text, _ := json.Marshal(list) // cannot fail
					output["output"], content = list, string(text)
				}
				input = append(input, output)
				want = append(want, jsonObject{"role": "tool", "tool_call_id": call["id"], "content": content})
			}
			c.ids = nil
			input = append(input, jsonObject{"role": "user", "content": "Go on"})
			want = append(want, jsonObject{"role": "user", "content": "Go on"})
		}
	}
}

// normal returns a value as it is after a pass through JSON, with the arguments of calls decoded.
func normal(value any) any {
	text, _ := json.Marshal(value) // cannot fail
	var v any
	_ = json.Unmarshal(text, &v) // cannot fail
	decodeArguments(v)
	return v
}

func decodeArguments(value any) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			decodeArguments(element)
		}
	case jsonObject:
		if text, ok := v["arguments"].(string); ok {
			var arguments any
			if json.Unmarshal([]byte(text), &arguments) == nil {
				v["arguments"] = arguments
			}
		}
		for _, member := range v {
			decodeArguments(member)
		}
	}
}
