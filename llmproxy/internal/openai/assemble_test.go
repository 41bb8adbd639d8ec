package openai

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAssembler(t *testing.T) {
	t.Parallel()
	whole := func(message, finish string) string {
		return `{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":` + message + `,"logprobs":null,"finish_reason":` + finish + `}]}`
	}
	call := func(calls string) string {
		return whole(`{"role":"assistant","content":null,"tool_calls":[`+calls+`]}`, "null")
	}
	const head = `"id":"c1","object":"chat.completion.chunk","created":7,"model":"m"`
	for _, test := range []struct{ name, chunks, want string }{
		{"text", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
{` + head + `,"choices":[{"index":0,"delta":{"content":"Hel\n"},"finish_reason":null}],"obfuscation":"x"}
{` + head + `,"choices":[{"index":0,"delta":{"content":"lo \"you\""},"finish_reason":null}],"obfuscation":"xyz"}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
{` + head + `,"choices":[],"usage":{"prompt_tokens":1}}
[DONE]`, `{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hel\nlo \"you\""},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`},
		{"tool calls", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}]}`},
		{"two choices, reasoning, logprobs", `{` + head + `,"choices":[{"index":1,"delta":{"role":"assistant","reasoning_content":"h"},"logprobs":{"content":[{"token":"h"}],"refusal":null}}]}
{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"b"}}]}
{` + head + `,"choices":[{"index":1,"delta":{"reasoning_content":"m"},"logprobs":{"content":[{"token":"m"}],"refusal":null},"finish_reason":"stop"},{"index":0,"delta":{},"finish_reason":"length","stop_reason":5}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"b"},"stop_reason":5,"logprobs":null,"finish_reason":"length"},{"index":1,"message":{"role":"assistant","reasoning_content":"hm","content":null},"logprobs":{"content":[{"token":"h"},{"token":"m"}],"refusal":null},"finish_reason":"stop"}]}`},
		{"completion", `{"id":"t","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}
{"id":"t","object":"text_completion","created":2,"model":"m","choices":[{"index":0,"text":"b","logprobs":null,"finish_reason":"stop"}]}`,
			`{"id":"t","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"ab","logprobs":null,"finish_reason":"stop"}]}`},
		{"unknown member that changes", `{` + head + `,"choices":[{"index":0,"delta":{"images":[1]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"images":[2]}}]}`, ""},
		{"tool call without members", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{}}]}}]}`, call(`{"type":"function","function":{"name":"","arguments":""}}`)},
		{"tool call that is only announced", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"index":1}]}}]}`,
			call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"type":"function","function":{"name":"","arguments":""}}`)},
		{"tool call with an empty ID and name in later parts", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"","type":"","function":{"name":"","arguments":"{}"}}]}}]}`, call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"tool call without arguments or type", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":null}}]}}]}`,
			call(`{"id":"a","type":"function","function":{"name":"f","arguments":""}}`)},
		{"custom tool", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"custom"}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"name":"f","input":"x "}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"input":"y"}}]}}]}`, call(`{"id":"a","type":"custom","custom":{"name":"f","input":"x y"}}`)},
		{"custom tool that is only announced", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"custom"}]}}]}`, call(`{"id":"a","type":"custom","custom":{"name":"","input":""}}`)},
		{"another kind of tool", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"mcp","mcp":{"server":"s"}}]}}]}`, call(`{"id":"a","type":"mcp","mcp":{"server":"s"}}`)},
		{"both kinds in one call", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"},"custom":{"name":"f"}}]}}]}`, ""},
		{"calls without an index, told apart by ID", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\""}},{"id":"b","function":{"name":"f","arguments":"{}"}},{"id":"a","function":{"arguments":":1}"}}]}}]}`,
			call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"a call without an index or ID in parts", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"}"}}]}}]}`, call(`{"type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"complete calls without an index or ID", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"f","arguments":"{}"}}]}}]}`,
			call(`{"type":"function","function":{"name":"f","arguments":"{}"}},{"type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"complete calls of one index", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}]}}]}`,
			call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"a new ID with every part", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"b","function":{"arguments":"}"}}]}}]}`, call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}`)},
		{"a new ID and the name with every part", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}},{"index":0,"id":"b","function":{"name":"f","arguments":"}"}}]}}]}`, ""},
		{"calls in the reverse order", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}},{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}`,
			call(`{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}`)},
		{"an index that is not a number", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":"0","id":"a"}]}}]}`, ""},
		{"function call", `{` + head + `,"choices":[{"index":0,"delta":{"content":"","function_call":{"name":"f","arguments":""}}}]}
{` + head + `,"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}}}]}`, whole(`{"content":null,"role":"assistant","function_call":{"name":"f","arguments":"{}"}}`, "null")},
		{"an empty delta alone", `{"choices":[{"index":0,"delta":{}}]}`, `{"choices":[{"index":0,"message":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}]}`},
		{"null as the delta", `{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}`, `{"choices":[{"index":0,"message":{"role":"assistant","content":null},"logprobs":null,"finish_reason":"stop"}]}`},
		{"no delta", `{` + head + `,"choices":[{"index":0,"finish_reason":"stop"}]}`, whole(`{"role":"assistant","content":null}`, `"stop"`)},
		{"no text", `{"object":"text_completion","choices":[{"index":0,"finish_reason":"stop"}]}`, `{"object":"text_completion","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}`},
		{"an empty text and a finish reason", `{` + head + `,"choices":[{"index":0,"delta":{"content":""}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, whole(`{"content":"","role":"assistant"}`, `"stop"`)},
		{"no index", `{` + head + `,"choices":[{"delta":{"role":"assistant","content":"a"}}]}
{` + head + `,"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}`, whole(`{"role":"assistant","content":"ab"}`, `"stop"`)},
		{"finish reasons that name nothing", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":""}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"null"}]}`, whole(`{"role":"assistant","content":"a"}`, `"stop"`)},
		{"the message in one piece", `{` + head + `,"choices":[{"index":0,"message":{"role":"assistant","content":"a","images":[1]},"finish_reason":"stop"}]}`, whole(`{"role":"assistant","content":"a","images":[1]}`, `"stop"`)},
		{"the message after its deltas", `{` + head + `,"choices":[{"index":0,"delta":{"content":"a"}}]}
{` + head + `,"choices":[{"index":0,"delta":{"content":"b"}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"message":{"role":"assistant","content":"ab"},"finish_reason":"stop"}]}`, whole(`{"role":"assistant","content":"ab"}`, `"stop"`)},
		{"a message without content", `{` + head + `,"choices":[{"index":0,"delta":{"content":"a"},"message":{"role":"assistant"}}]}`, whole(`{"content":"a","role":"assistant"}`, "null")},
		{"content after the message", `{` + head + `,"choices":[{"index":0,"message":{"content":"a"}}]}
{` + head + `,"choices":[{"index":0,"delta":{"content":"b"}}]}`, ""},
		{"content in parts", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":[{"type":"text","text":"a"}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"content":[ {"type":"text","text":"b"} ]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"content":[ ]}}]}`, whole(`{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "null")},
		{"content in parts and as text", `{` + head + `,"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"a"}]}},{"index":0,"delta":{"content":"b"}}]}`, ""},
		{"log probabilities that are empty but for a space", `{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":{"content":[ ]}}]}
{"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"a"}]}}]}
{"choices":[{"index":0,"delta":{},"logprobs":{"content":[	]}}]}`, `{"choices":[{"index":0,"message":{"role":"assistant","content":"a"},"logprobs":{"content":[{"token":"a"}]},"finish_reason":null}]}`},
		{"filter results that are filled in later", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"content_filter_results":{}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"content_filter_results":{"hate":1}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"content_filter_results":{}}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"content_filter_results":{"hate":1},"logprobs":null,"finish_reason":null}]}`},
		{"a usage that is filled in later", `{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}],"usage":{}}
{"choices":[],"usage":{"prompt_tokens":1}}
{"choices":[],"usage":null}`, `{"choices":[{"index":0,"message":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":1}}`},
		{"events after [DONE]", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}
[DONE]
{` + head + `,"choices":[{"index":0,"delta":{"content":"b"}}]}`, whole(`{"role":"assistant","content":"a"}`, "null")},
		{"a blank event", "  \n" + `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}`, whole(`{"role":"assistant","content":"a"}`, "null")},
		{"an error", `{` + head + `,"choices":[{"index":0,"delta":{"content":"a"}}]}
{"error":{"message":"x"}}`, ""},
		{"the error of a choice's chunk is null", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}],"error":null}`, whole(`{"role":"assistant","content":"a"}`, "null")},
		{"not JSON", `{` + head + `,"choices":[{"index":0,"delta":{"content":"a"}}`, ""},
		{"half a surrogate pair", `{` + head + `,"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}`, ""},
		{"nothing", `[DONE]`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var a Assembler
			for chunk := range strings.SplitSeq(test.chunks, "\n") {
				data := []byte(chunk)
				a.Add(nil, data)
				clear(data) // the assembler keeps no reference to it
			}
			got, ok := a.Answer()
			if ok != (test.want != "") || string(got) != test.want {
				t.Errorf("%s\n%s", got, cmp.Diff(test.want, string(got)))
			}
		})
	}
}
