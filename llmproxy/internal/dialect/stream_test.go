package dialect

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A message is what a client of Anthropic's API has at the end of a stream.
type message struct {
	Content    []map[string]any
	StopReason string
	Stop       any
	Usage      map[string]any
}

// read reads a stream as Anthropic's SDK does, and checks its grammar.
func read(t testing.TB, stream []byte) message {
	t.Helper()
	var m message
	started, stopped, deltas, open, partial := false, false, false, -1, ""
	for rest := stream; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		if len(e.Data) == 0 {
			continue
		}
		var event struct {
			Type         string
			Index        int
			ContentBlock map[string]any `json:"content_block"`
			Message      struct {
				Content []any
				Usage   map[string]any
			}
			Delta struct {
				Type, Text, Thinking, Signature string
				PartialJSON                     string `json:"partial_json"`
				StopReason                      string `json:"stop_reason"`
				StopSequence                    any    `json:"stop_sequence"`
			}
			Usage map[string]any
		}
		if err := json.Unmarshal(e.Data, &event); err != nil {
			t.Fatalf("%v: %s", err, e.Data)
		}
		if string(e.Name) != event.Type {
			t.Fatalf("event %q has the type %q", e.Name, event.Type)
		}
		if stopped || event.Type != "message_start" && !started {
			t.Fatalf("%s outside of a message", event.Type)
		}
		switch event.Type {
		case "message_start":
			if started || event.Message.Content == nil || event.Message.Usage["input_tokens"] == nil {
				t.Fatalf("wrong start: %s", e.Data)
			}
			started = true
		case "content_block_start":
			if open >= 0 || deltas || event.Index != len(m.Content) {
				t.Fatalf("block %d starts while %d is open", event.Index, open)
			}
			open, partial = event.Index, ""
			m.Content = append(m.Content, event.ContentBlock)
		case "content_block_delta":
			if event.Index != open {
				t.Fatalf("delta of block %d, but %d is open", event.Index, open)
			}
			block, d := m.Content[open], event.Delta
			want := map[string]string{"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking", "input_json_delta": "tool_use"}[d.Type]
			if block["type"] != want {
				t.Fatalf("%s in a block of type %s", d.Type, block["type"])
			}
			switch d.Type {
			case "text_delta":
				block["text"] = block["text"].(string) + d.Text
			case "thinking_delta":
				block["thinking"] = block["thinking"].(string) + d.Thinking
			case "signature_delta":
				block["signature"] = d.Signature
			case "input_json_delta":
				partial += d.PartialJSON
			}
		case "content_block_stop":
			if event.Index != open {
				t.Fatalf("block %d stops, but %d is open", event.Index, open)
			}
			if m.Content[open]["type"] == "tool_use" {
				var input any = map[string]any{}
				if partial != "" && json.Unmarshal([]byte(partial), &input) != nil {
					input = partial
				}
				m.Content[open]["input"] = input
			}
			open = -1
		case "message_delta":
			if open >= 0 || event.Usage["input_tokens"] == nil {
				t.Fatalf("wrong message_delta: %s", e.Data)
			}
			deltas, m.StopReason, m.Stop, m.Usage = true, event.Delta.StopReason, event.Delta.StopSequence, event.Usage
		case "message_stop":
			stopped = true
		default:
			t.Fatalf("unknown event %s", e.Data)
		}
	}
	if !stopped || len(m.Content) == 0 {
		t.Fatalf("the message does not end: %s", stream)
	}
	return m
}

func chunk(delta string) string {
	return `{"id":"c","choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}`
}

func finish(reason string) string {
	return `{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"` + reason + `"}]}`
}

const usageChunk = `{"id":"c","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10}}}`

func usage(input, read, output float64) map[string]any {
	return map[string]any{"input_tokens": input, "cache_creation_input_tokens": 0.0, "cache_read_input_tokens": read, "output_tokens": output}
}

func TestMessageStream(t *testing.T) {
	t.Parallel()
	text := func(s string) map[string]any { return map[string]any{"type": "text", "text": s} }
	tool := func(id, name string, input any) map[string]any {
		return map[string]any{"type": "tool_use", "id": id, "name": name, "input": input}
	}
	call := func(rest string) string { return chunk(`{"tool_calls":[{` + rest + `}]}`) }
	thinking := func(s string) map[string]any {
		return map[string]any{"type": "thinking", "thinking": s, "signature": Unsigned}
	}
	for _, test := range []struct {
		name   string
		chunks []string
		want   message
	}{
		{"text", []string{chunk(`{"role":"assistant","content":""}`), chunk(`{"content":"He"}`), chunk(`{"content":"y \"\u00e9\n"}`), finish("stop"), usageChunk},
			message{[]map[string]any{text("Hey \"é\n")}, "end_turn", nil, usage(20, 10, 5)}},
		{"nothing", []string{chunk(`{"role":"assistant"}`), finish("stop")}, message{[]map[string]any{text("")}, "end_turn", nil, usage(0, 0, 0)}},
		{"usage with the finish", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`},
			message{[]map[string]any{text("a")}, "max_tokens", nil, usage(3, 0, 2)}},
		{"thinking, then text", []string{chunk(`{"reasoning_content":"h"}`), chunk(`{"reasoning":"m"}`), chunk(`{"content":"a","tool_calls":[]}`), finish("stop")},
			message{[]map[string]any{thinking("hm"), text("a")}, "end_turn", nil, usage(0, 0, 0)}},
		{"thinking and text in one chunk", []string{chunk(`{"reasoning_content":"hm","content":"a"}`), finish("stop")},
			message{[]map[string]any{thinking("hm"), text("a")}, "end_turn", nil, usage(0, 0, 0)}},
		{"a call after text, and text after it", []string{chunk(`{"content":"a"}`), call(`"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}`), call(`"index":0,"function":{"arguments":"{\"a\":"}`), call(`"index":0,"function":{"arguments":"1}"}`), chunk(`{"content":"b"}`), finish("tool_calls")},
			message{[]map[string]any{text("a"), tool("x", "f", map[string]any{"a": 1.0}), text("b")}, "tool_use", nil, usage(0, 0, 0)}},
		{"two calls, mixed", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{"}`), call(`"index":1,"id":"y","function":{"name":"g","arguments":"{"}`), call(`"index":0,"function":{"arguments":"}"}`), call(`"index":1,"function":{"arguments":"}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{}), tool("y", "g", map[string]any{})}, "tool_use", nil, usage(0, 0, 0)}},
		{"calls without indexes", []string{call(`"id":"x","function":{"name":"f","arguments":"{}"}`), call(`"id":"y","function":{"name":"f","arguments":"{}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{}), tool("y", "f", map[string]any{})}, "tool_use", nil, usage(0, 0, 0)}},
		{"a name that comes late", []string{call(`"index":0,"id":"x","function":{"arguments":"{\"a\""}`), call(`"index":0,"function":{"name":"f","arguments":":1}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": 1.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"arguments as an object, and an ID that Anthropic does not allow", []string{call(`"index":0,"id":"functions.f:0","function":{"name":"f","arguments":{"a":"\n"}}`), finish("stop")},
			message{[]map[string]any{tool("functions_f_0", "f", map[string]any{"a": "\n"})}, "tool_use", nil, usage(0, 0, 0)}},
		{"a stop sequence, as vLLM says it", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"END"}]}`},
			message{[]map[string]any{text("a")}, "stop_sequence", "END", usage(0, 0, 0)}},
		{"a refusal", []string{chunk(`{"refusal":"No."}`), finish("content_filter")}, message{[]map[string]any{text("No.")}, "refusal", nil, usage(0, 0, 0)}},
		{"a second choice", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":1,"delta":{"content":"b"}}]}`, finish("stop")}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(0, 0, 0)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := MessageStream{Model: "m"}
			var stream []byte
			for _, data := range append(test.chunks, "[DONE]") {
				stream = m.Append(stream, []byte(data))
			}
			if diff := cmp.Diff(test.want, read(t, stream)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMessageFromChat(t *testing.T) {
	t.Parallel()
	got, ok := MessageFromChat([]byte(`{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":"hm","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"y","function":{"name":"g","arguments":"{\"a\":"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10}}}`), "m", nil)
	if !ok {
		t.Fatal("not translated")
	}
	const want = `{"id":"msg_c","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"` + Unsigned + `"},{"type":"text","text":"Hi"},{"type":"tool_use","id":"x","name":"f","input":{"a":1}},{"type":"tool_use","id":"y","name":"g","input":{"arguments":"{\"a\":"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":0,"cache_read_input_tokens":10,"output_tokens":5}}`
	if diff := cmp.Diff(indented(t, []byte(want)), indented(t, got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, answer := range []string{`{}`, `{"choices":[]}`, `[]`, `{"choices":[{"message":null}]}`} {
		if got, ok := MessageFromChat([]byte(answer), "m", nil); ok {
			t.Errorf("%s becomes %s", answer, got)
		}
	}
}

// events are a stream of Anthropic's API with thinking, text and two calls, one of them without arguments.
var events = []string{
	`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[],"usage":{"input_tokens":12,"cache_read_input_tokens":100,"cache_creation_input_tokens":7,"output_tokens":1}}}`,
	`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}`,
	`{"type":"ping"}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m\n"}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig=="}}`,
	`{"type":"content_block_stop","index":0}`,
	`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me \"see\""}}`,
	`{"type":"content_block_stop","index":1}`,
	`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"1}"}}`,
	`{"type":"content_block_stop","index":2}`,
	`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"g","input":{}}}`,
	`{"type":"content_block_stop","index":3}`,
	`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":42}}`,
	`{"type":"message_stop"}`,
}

func TestChunkStream(t *testing.T) {
	t.Parallel()
	var c ChunkStream
	a := openai.Assembler{Framing: openai.Chunks}
	var stream []byte
	for _, data := range events {
		stream = c.Append(stream, nil, []byte(data))
	}
	for rest := stream; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		a.Add(e.Name, e.Data)
	}
	whole, ok := a.Answer()
	if !ok {
		t.Fatalf("no answer in %s", stream)
	}
	var answer struct {
		ID      string
		Choices []map[string]any
		Usage   any
	}
	if err := json.Unmarshal(whole, &answer); err != nil {
		t.Fatal(err)
	}
	call := func(id, name, arguments string) any {
		return map[string]any{"index": nil, "id": id, "type": "function", "function": map[string]any{"name": name, "arguments": arguments}}
	}
	message := answer.Choices[0]["message"].(map[string]any)
	for _, call := range message["tool_calls"].([]any) {
		call.(map[string]any)["index"] = nil
	}
	want := map[string]any{
		"role": "assistant", "content": `Let me "see"`, "reasoning_content": "hm\n",
		"thinking_blocks": []any{map[string]any{"type": "thinking", "thinking": "hm\n", "signature": "sig=="}},
		"tool_calls":      []any{call("toolu_1", "f", `{"a":1}`), call("toolu_2", "g", "{}")},
	}
	if diff := cmp.Diff(want, message); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if answer.ID != "msg_1" || answer.Choices[0]["finish_reason"] != "tool_calls" {
		t.Errorf("%s", whole)
	}
	counted, _ := json.Marshal(answer.Usage)
	if diff := cmp.Diff(`{"completion_tokens":42,"completion_tokens_details":{"reasoning_tokens":0},"prompt_tokens":119,"prompt_tokens_details":{"cache_write_tokens":7,"cached_tokens":100},"total_tokens":161}`, string(counted)); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(string(stream), "data: [DONE]\n\n") || !strings.Contains(string(stream), ": ping\n\n") {
		t.Errorf("%s", stream)
	}
}

// Random streams of OpenAI's format keep Anthropic's grammar and lose no text and no argument.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := MessageStream{Model: "m"}
		var stream []byte
		text, thinking, arguments := "", "", map[string]string{}
		var names []string
		done := 0 // calls before this one are over once something else follows
		for range r.IntN(40) {
			piece := fmt.Sprint(r.IntN(1000), " ")
			kind := r.IntN(4)
			if kind < 2 {
				done = len(names)
			}
			switch kind {
			case 0:
				text += piece
				stream = m.Append(stream, []byte(chunk(fmt.Sprintf(`{"content":%q}`, piece))))
			case 1:
				thinking += piece
				stream = m.Append(stream, []byte(chunk(fmt.Sprintf(`{"reasoning_content":%q}`, piece))))
			case 2:
				name := fmt.Sprint("f", len(names))
				names = append(names, name)
				stream = m.Append(stream, []byte(chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"id%s","function":{"name":%q,"arguments":""}}]}`, len(names)-1, name, name))))
			case 3:
				if len(names) > done {
					i := done + r.IntN(len(names)-done)
					arguments[names[i]] += piece
					stream = m.Append(stream, []byte(chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%q}}]}`, i, piece))))
				}
			}
		}
		stream = m.End(stream)
		got := read(t, stream)
		gotText, gotThinking, gotArguments := "", "", map[string]string{}
		for _, block := range got.Content {
			switch block["type"] {
			case "text":
				gotText += block["text"].(string)
			case "thinking":
				gotThinking += block["thinking"].(string)
			case "tool_use":
				if s, ok := block["input"].(string); ok {
					gotArguments[block["name"].(string)] += s
				} else if n, ok := block["input"].(float64); ok {
					gotArguments[block["name"].(string)] += fmt.Sprint(n, " ")
				}
			}
		}
		if diff := cmp.Diff([]any{text, thinking, arguments}, []any{gotText, gotThinking, gotArguments}); diff != "" {
			t.Fatalf("seed %d: %s\n%s", seed, diff, stream)
		}
	}
}
