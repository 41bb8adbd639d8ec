package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
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
	m := dialecttest.ReadMessage(t, stream)
	return message{m.Content, m.StopReason, m.StopSequence, m.Usage}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
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
			message{[]map[string]any{tool("llm_proxy_ZnVuY3Rpb25zLmY6MA", "f", map[string]any{"a": "\n"})}, "tool_use", nil, usage(0, 0, 0)}},
		{"a stop sequence, as vLLM says it", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"END"}]}`},
			message{[]map[string]any{text("a")}, "stop_sequence", "END", usage(0, 0, 0)}},
		{"a refusal", []string{chunk(`{"refusal":"No."}`), finish("content_filter")}, message{[]map[string]any{text("No.")}, "refusal", nil, usage(0, 0, 0)}},
		{"text while a call is incomplete waits", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":\"}{"}`), chunk(`{"content":"b"}`), chunk(`{"reasoning":"h"}`), call(`"index":0,"function":{"arguments":"\\\"\"}"}`), chunk(`{"content":"c"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": "}{\""}), text("b"), thinking("h"), text("c")}, "tool_use", nil, usage(0, 0, 0)}},
		{"text after a call that never becomes complete", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":"}`), chunk(`{"content":"b"}`), finish("length")},
			message{[]map[string]any{tool("x", "f", `{"a":`), text("b")}, "max_tokens", nil, usage(0, 0, 0)}},
		{"three calls, mixed", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":""}`), call(`"index":1,"id":"y","function":{"name":"g","arguments":"[1"}`), call(`"index":2,"id":"z","function":{"name":"h","arguments":"{\"c\":"}`), call(`"index":0,"function":{"arguments":"{}"}`), call(`"index":2,"function":{"arguments":"3}"}`), call(`"index":1,"function":{"arguments":"]"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{}), tool("y", "g", []any{1.0}), tool("z", "h", map[string]any{"c": 3.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"quotes as Unicode escapes", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{\u0022a\u0022:\u0022{\u0022}"}`), call(`"index":1,"id":"y","function":{"name":"g","arguments":"{}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": "{"}), tool("y", "g", map[string]any{})}, "tool_use", nil, usage(0, 0, 0)}},
		{"all calls have index 0, as old versions of Ollama sent them", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":1}"}`), call(`"index":0,"id":"y","function":{"name":"f","arguments":"{\"a\":2}"}`), finish("stop")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": 1.0}), tool("y", "f", map[string]any{"a": 2.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"a new ID with every part of one call, as vLLM once sent them", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":"}`), call(`"index":0,"id":"y","function":{"arguments":"1}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": 1.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"parts of a call without an index", []string{call(`"id":"x","function":{"name":"f","arguments":"{\"a\":"}`), call(`"id":"x","function":{"arguments":"1"}`), call(`"function":{"arguments":"}"}`), finish("tool_calls")},
			message{[]map[string]any{tool("x", "f", map[string]any{"a": 1.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"a call without a name is left out", []string{call(`"index":0,"id":"x","function":{"arguments":"{}"}`), finish("tool_calls")}, message{[]map[string]any{text("")}, "end_turn", nil, usage(0, 0, 0)}},
		{"a legacy function call", []string{chunk(`{"function_call":{"name":"f","arguments":"{\"a\""}}`), chunk(`{"function_call":{"arguments":":1}"}}`), finish("function_call")},
			message{[]map[string]any{tool("ID", "f", map[string]any{"a": 1.0})}, "tool_use", nil, usage(0, 0, 0)}},
		{"text and a refusal in one chunk", []string{chunk(`{"content":"a","refusal":"b"}`), finish("stop")}, message{[]map[string]any{text("ab")}, "end_turn", nil, usage(0, 0, 0)}},
		{"both names of reasoning in one chunk", []string{chunk(`{"reasoning":"h","reasoning_content":"h"}`), finish("stop")}, message{[]map[string]any{thinking("h")}, "end_turn", nil, usage(0, 0, 0)}},
		{"content in parts, as Mistral sends it", []string{chunk(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"h"}]}]}`), chunk(`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`), finish("stop")},
			message{[]map[string]any{thinking("h"), text("ab")}, "end_turn", nil, usage(0, 0, 0)}},
		{"nulls", []string{chunk(`null`), chunk(`{"role":"assistant","content":null,"refusal":null,"tool_calls":null,"function_call":null,"reasoning":null,"thinking_blocks":null}`), `{"choices":null,"usage":null}`, finish("stop")},
			message{[]map[string]any{text("")}, "end_turn", nil, usage(0, 0, 0)}},
		{"the first chunk of Azure", []string{`{"id":"","choices":[],"prompt_filter_results":[]}`, chunk(`{"content":"a"}`), finish("content_filter")}, message{[]map[string]any{text("a")}, "refusal", nil, usage(0, 0, 0)}},
		{"usage in every chunk", []string{`{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, `{"choices":[{"index":0,"delta":{"content":"b"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`, finish("stop")},
			message{[]map[string]any{text("ab")}, "end_turn", nil, usage(3, 0, 2)}},
		{"usage of Groq", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":2}}}`}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(3, 0, 2)}},
		{"usage of Moonshot", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":3,"completion_tokens":2,"cached_tokens":1}}]}`}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(2, 1, 2)}},
		{"more cached tokens than there are", []string{chunk(`{"content":"a"}`), finish("stop"), `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":5}}}`}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(0, 3, 2)}},
		{"the number of a stop token", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":128009}]}`}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(0, 0, 0)}},
		{"a whole answer in one chunk, with thinking that is signed", []string{chunk(`{"role":"assistant","content":"a","reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"h","signature":"1"},{"type":"redacted_thinking","data":"r"},{"type":"thinking","thinking":"m","signature":"2"}]}`), finish("stop")},
			message{[]map[string]any{{"type": "thinking", "thinking": "h", "signature": "1"}, {"type": "redacted_thinking", "data": "r"}, {"type": "thinking", "thinking": "m", "signature": "2"}, text("a")}, "end_turn", nil, usage(0, 0, 0)}},
		{"thinking that is signed and hidden", []string{chunk(`{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"1"}]}`), chunk(`{"content":"a"}`), finish("stop")},
			message{[]map[string]any{{"type": "thinking", "thinking": "", "signature": "1"}, text("a")}, "end_turn", nil, usage(0, 0, 0)}},
		{"a second choice", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":1,"delta":{"content":"b"}}]}`, finish("stop")}, message{[]map[string]any{text("a")}, "end_turn", nil, usage(0, 0, 0)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := MessageStream{Model: "m"}
			var stream []byte
			for _, data := range append(test.chunks, "[DONE]") {
				stream = m.Append(stream, []byte(data))
			}
			got := read(t, stream)
			for _, block := range got.Content {
				if id, _ := block["id"].(string); strings.HasPrefix(id, "toolu_") { // a new one
					block["id"] = "ID"
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMessageFromChat(t *testing.T) {
	t.Parallel()
	got, ok := MessageFromChat(nil, []byte(`{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":"hm","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"y","function":{"name":"g","arguments":"{\"a\":"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10}}}`), &About{Model: "m"})
	if !ok {
		t.Fatal("not translated")
	}
	const want = `{"id":"msg_c","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"` + Unsigned + `"},{"type":"text","text":"Hi"},{"type":"tool_use","id":"x","name":"f","input":{"a":1}},{"type":"tool_use","id":"y","name":"g","input":{"arguments":"{\"a\":"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":0,"cache_read_input_tokens":10,"output_tokens":5}}`
	if diff := cmp.Diff(indented(t, []byte(want)), indented(t, got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, answer := range []string{`{}`, `{"choices":[]}`, `[]`, `{"choices":[{"message":null}]}`} {
		if got, ok := MessageFromChat(nil, []byte(answer), &About{Model: "m"}); ok {
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

// Random streams of OpenAI's format keep Anthropic's grammar and lose no text and no argument, however text and calls are mixed.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := MessageStream{Model: "m"}
		var stream []byte
		add := func(format string, args ...any) {
			stream = m.Append(stream, []byte(chunk(fmt.Sprintf(format, args...))))
		}
		text, thinking, arguments := "", "", map[string]any{}
		var rest []string // of the arguments of each call
		for range r.IntN(40) {
			piece := fmt.Sprint(r.IntN(1000), " ")
			switch r.IntN(4) {
			case 0:
				text += piece
				add(`{"content":%q}`, piece)
			case 1:
				thinking += piece
				add(`{"reasoning_content":%q}`, piece)
			case 2:
				name := fmt.Sprint("f", len(rest))
				input := map[string]any{"a": piece + `"{[\`, "b": []any{float64(r.IntN(9)), map[string]any{}}}
				arguments[name] = input
				all, _ := json.Marshal(input)
				add(`{"tool_calls":[{"index":%d,"id":"id%s","function":{"name":%q,"arguments":""}}]}`, len(rest), name, name)
				rest = append(rest, string(all))
			case 3:
				if len(rest) > 0 {
					i := r.IntN(len(rest))
					n := r.IntN(len(rest[i]) + 1)
					add(`{"tool_calls":[{"index":%d,"function":{"arguments":%q}}]}`, i, rest[i][:n])
					rest[i] = rest[i][n:]
				}
			}
		}
		for i := range rest {
			add(`{"tool_calls":[{"index":%d,"function":{"arguments":%q}}]}`, i, rest[i])
		}
		stream = m.End(stream)
		got := read(t, stream)
		gotText, gotThinking, gotArguments := "", "", map[string]any{}
		for _, block := range got.Content {
			switch block["type"] {
			case "text":
				gotText += block["text"].(string)
			case "thinking":
				gotThinking += block["thinking"].(string)
			case "tool_use":
				gotArguments[block["name"].(string)] = block["input"]
			}
		}
		if diff := cmp.Diff([]any{text, thinking, arguments}, []any{gotText, gotThinking, gotArguments}); diff != "" {
			t.Fatalf("seed %d: %s\n%s", seed, diff, stream)
		}
	}
}

// Random streams of Anthropic's format become streams that OpenAI's clients can read, and lose no text and no argument.
func TestRandomEvents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var c ChunkStream
		var stream []byte
		add := func(format string, args ...any) { stream = c.Append(stream, nil, fmt.Appendf(nil, format, args...)) }
		want := dialecttest.Chat{ID: "m", Model: "c", Finish: "stop"}
		add(`{"type":"message_start","message":{"id":"m","model":"c","content":[],"usage":{"input_tokens":3}}}`)
		for i := range r.IntN(8) {
			kind := r.IntN(5)
			add(`{"type":"content_block_start","index":%d,"content_block":%s}`, i, []string{
				`{"type":"text","text":""}`, `{"type":"thinking","thinking":"","signature":""}`, fmt.Sprintf(`{"type":"tool_use","id":"t%d","name":"f","input":{}}`, i),
				fmt.Sprintf(`{"type":"server_tool_use","id":"t%d","name":"web_search","input":{}}`, i), `{"type":"from_the_future","text":"x"}`,
			}[kind])
			thinking, arguments := "", ""
			for range r.IntN(4) {
				piece := fmt.Sprint(r.IntN(1000), "\" ")
				switch kind {
				case 0:
					want.Content += piece
					add(`{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%q}}`, i, piece)
				case 1:
					thinking += piece
					add(`{"type":"content_block_delta","index":%d,"delta":{"type":"thinking_delta","thinking":%q}}`, i, piece)
				case 2, 3:
					arguments += piece
					add(`{"type":"content_block_delta","index":%d,"delta":{"type":"input_json_delta","partial_json":%q}}`, i, piece)
				}
				if r.IntN(4) == 0 {
					add(`{"type":"ping"}`)
				}
			}
			switch kind {
			case 1:
				want.Reasoning += thinking
				want.Blocks = append(want.Blocks, map[string]any{"type": "thinking", "thinking": thinking, "signature": "s"})
				add(`{"type":"content_block_delta","index":%d,"delta":{"type":"signature_delta","signature":"s"}}`, i)
			case 2:
				want.Finish = "tool_calls"
				want.Calls = append(want.Calls, dialecttest.Call{ID: fmt.Sprint("t", i), Name: "f", Arguments: or(arguments, "{}")})
			}
			add(`{"type":"content_block_stop","index":%d}`, i)
		}
		add(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}`)
		add(`{"type":"message_stop"}`)
		got := dialecttest.ReadChat(t, stream)
		got.Usage = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %s\n%s", seed, diff, stream)
		}
	}
}

func TestChunkStreamsOfOddEvents(t *testing.T) {
	t.Parallel()
	const start = `{"type":"message_start","message":{"id":"m","model":"c","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}`
	end := func(reason string) []string {
		return []string{`{"type":"message_delta","delta":{"stop_reason":"` + reason + `","stop_sequence":null},"usage":{"output_tokens":5}}`, `{"type":"message_stop"}`}
	}
	block := func(block string, deltas ...string) []string {
		list := []string{`{"type":"content_block_start","index":0,"content_block":` + block + `}`}
		for _, delta := range deltas {
			list = append(list, `{"type":"content_block_delta","index":0,"delta":`+delta+`}`)
		}
		return append(list, `{"type":"content_block_stop","index":0}`)
	}
	list := slices.Concat[[]string]
	chat := func(c dialecttest.Chat) dialecttest.Chat {
		c.ID, c.Model, c.Finish = or(c.ID, "m"), or(c.Model, "c"), or(c.Finish, "stop")
		return c
	}
	counted := func(prompt, output, read, written, thinking float64) map[string]any {
		return map[string]any{
			"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
			"prompt_tokens_details":     map[string]any{"cached_tokens": read, "cache_write_tokens": written},
			"completion_tokens_details": map[string]any{"reasoning_tokens": thinking},
		}
	}
	for _, test := range []struct {
		name   string
		events []string
		want   dialecttest.Chat
	}{
		{"nothing", list([]string{start}, end("end_turn")), chat(dialecttest.Chat{})},
		{"a stop sequence", list([]string{start}, end("stop_sequence")), chat(dialecttest.Chat{})},
		{"a pause", list([]string{start}, end("pause_turn")), chat(dialecttest.Chat{})},
		{"the limit", list([]string{start}, end("max_tokens")), chat(dialecttest.Chat{Finish: "length"})},
		{"a full context", list([]string{start}, end("model_context_window_exceeded")), chat(dialecttest.Chat{Finish: "length"})},
		{"a refusal", list([]string{start}, end("refusal")), chat(dialecttest.Chat{Finish: "content_filter"})},
		{"a reason from the future", list([]string{start}, end("tired")), chat(dialecttest.Chat{})},
		{"a second start", list([]string{start, start}, end("end_turn")), chat(dialecttest.Chat{})},
		{"text in the start of its block", list([]string{start}, block(`{"type":"text","text":"a"}`, `{"type":"text_delta","text":"b"}`), end("end_turn")), chat(dialecttest.Chat{Content: "ab"})},
		{"thinking in the start of its block", list([]string{start}, block(`{"type":"thinking","thinking":"a"}`, `{"type":"thinking_delta","thinking":"b"}`, `{"type":"signature_delta","signature":"s"}`), end("end_turn")),
			chat(dialecttest.Chat{Reasoning: "ab", Blocks: []map[string]any{{"type": "thinking", "thinking": "ab", "signature": "s"}}})},
		{"thinking that is hidden", list([]string{start}, block(`{"type":"thinking","thinking":""}`, `{"type":"signature_delta","signature":"s"}`), end("end_turn")),
			chat(dialecttest.Chat{Blocks: []map[string]any{{"type": "thinking", "thinking": "", "signature": "s"}}})},
		{"thinking that is encrypted", list([]string{start}, block(`{"type":"redacted_thinking","data":"r"}`), end("end_turn")), chat(dialecttest.Chat{Blocks: []map[string]any{{"type": "redacted_thinking", "data": "r"}}})},
		{"citations", list([]string{start}, block(`{"type":"text","text":""}`, `{"type":"text_delta","text":"a"}`, `{"type":"citations_delta","citation":{}}`), end("end_turn")), chat(dialecttest.Chat{Content: "a"})},
		{"arguments in the start of the block", list([]string{start}, block(`{"type":"tool_use","id":"t","name":"f","input":{"a":1}}`), end("end_turn")),
			chat(dialecttest.Chat{Calls: []dialecttest.Call{{ID: "t", Name: "f", Arguments: `{"a":1}`}}, Finish: "tool_calls"})},
		{"arguments in the start and again in parts", list([]string{start}, block(`{"type":"tool_use","id":"t","name":"f","input":{"a":1}}`, `{"type":"input_json_delta","partial_json":"{\"a\":1}"}`), end("tool_use")),
			chat(dialecttest.Chat{Calls: []dialecttest.Call{{ID: "t", Name: "f", Arguments: `{"a":1}`}}, Finish: "tool_calls"})},
		{"a call without input", list([]string{start}, block(`{"type":"tool_use","id":"t","name":"f"}`, `{"type":"input_json_delta","partial_json":""}`), end("tool_use")),
			chat(dialecttest.Chat{Calls: []dialecttest.Call{{ID: "t", Name: "f", Arguments: `{}`}}, Finish: "tool_calls"})},
		{"Anthropic's own tools", list([]string{start}, block(`{"type":"server_tool_use","id":"t","name":"web_search","input":{}}`, `{"type":"input_json_delta","partial_json":"{}"}`), end("end_turn")), chat(dialecttest.Chat{})},
		{"no start", list(block(`{"type":"text","text":""}`, `{"type":"text_delta","text":"a"}`), end("end_turn")), dialecttest.Chat{Content: "a", Finish: "stop"}},
		{"an error", list([]string{start}, []string{`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`}, end("end_turn")), dialecttest.Chat{ID: "m", Model: "c", Err: map[string]any{"type": "overloaded_error", "message": "Overloaded"}}},
		{"an error that says nothing", []string{`{"type":"error"}`}, dialecttest.Chat{Err: map[string]any{"type": "api_error", "message": "The upstream reported an error without saying which."}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var c ChunkStream
			var stream []byte
			for _, data := range test.events {
				stream = c.Append(stream, nil, []byte(data))
			}
			got := dialecttest.ReadChat(t, stream)
			if got.Err == nil && got.ID != "" {
				test.want.Usage = counted(3, 5, 0, 0, 0)
			} else {
				got.Usage = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s\n%s", diff, stream)
			}
		})
	}
	for _, test := range []struct {
		name, start, end string
		want             map[string]any
	}{
		{"at the start", `{"input_tokens":12,"cache_read_input_tokens":100,"cache_creation_input_tokens":7,"output_tokens":1}`, `{"output_tokens":42,"output_tokens_details":{"thinking_tokens":30}}`, counted(119, 42, 100, 7, 30)},
		{"corrected at the end", `{"input_tokens":1,"output_tokens":0}`, `{"input_tokens":12,"output_tokens":7,"cache_read_input_tokens":null}`, counted(12, 7, 0, 0, 0)},
		{"zeros at the end", `{"input_tokens":12,"cache_read_input_tokens":5}`, `{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":7}`, counted(17, 7, 5, 0, 0)},
	} {
		t.Run("usage "+test.name, func(t *testing.T) {
			t.Parallel()
			var c ChunkStream
			stream := c.Append(nil, nil, []byte(`{"type":"message_start","message":{"id":"m","usage":`+test.start+`}}`))
			stream = c.Append(stream, nil, []byte(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":`+test.end+`}`))
			stream = c.Append(stream, nil, []byte(`{"type":"message_stop"}`))
			if diff := cmp.Diff(test.want, dialecttest.ReadChat(t, stream).Usage); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The bytes that a stream holds back are bounded: too many end it with an error.
func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	first := `{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{"}}]}}]}`
	fragment := strings.Repeat("a", 1<<20)
	for name, more := range map[string]string{
		"arguments of another call": `{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"y","function":{"name":"g","arguments":"` + fragment + `"}},{"index":1,"function":{"arguments":"a"}}]}}]}`,
		"text":                      `{"choices":[{"index":0,"delta":{"content":"` + fragment + `"}}]}`,
	} {
		for _, s := range []interface {
			Append(b, data []byte) []byte
		}{&MessageStream{Model: "m"}, &OllamaStream{Model: "m"}} {
			if _, ok := s.(*OllamaStream); ok && name == "text" {
				continue // it never waits
			}
			s.Append(nil, []byte(first))
			var out []byte
			for i := 0; len(out) == 0 || !bytes.Contains(out, []byte(errWaiting.Message)); i++ {
				if i > maxWaiting/len(fragment) {
					t.Fatalf("%s: %T has held %d MiB", name, s, i)
				}
				out = s.Append(nil, []byte(more))
			}
			if rest := s.Append(nil, []byte("[DONE]")); len(rest) > 0 {
				t.Errorf("%s: %T: %s after the error", name, s, rest)
			}
		}
	}
}
