package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// responseEcho is what the translation of a request with nothing but a model and an input puts into Echo.
const responseEcho = `"previous_response_id":null,"instructions":null,"tools":[],"tool_choice":"auto","truncation":"disabled","parallel_tool_calls":true,` +
	`"text":{"format":{"type":"text"}},"top_p":1,"presence_penalty":0,"frequency_penalty":0,"top_logprobs":0,"temperature":1,"reasoning":null,` +
	`"max_output_tokens":null,"max_tool_calls":null,"store":false,"background":false,"metadata":{},"safety_identifier":null,"prompt_cache_key":null`

// responseRequest is that of a client with tools of all kinds.
func responseRequest() *ResponseRequest {
	r := &ResponseRequest{Echo: []byte(responseEcho)}
	for _, tool := range []responseTool{
		{kind: customTool, name: "apply_patch"}, {namespace: "mcp__github__", name: "search"}, {kind: localShellTool, name: "local_shell"},
		{kind: shellTool, name: "shell"}, {kind: applyPatchTool, name: "patch"}, {kind: toolSearchTool, name: "tool_search"},
	} {
		r.addTool(tool)
	}
	return r
}

func newResponseStream() *ResponseStream {
	return &ResponseStream{Request: responseRequest(), Model: "m"}
}

// newCallID is the ID of a call that the gateway made.
var newCallID = regexp.MustCompile(`call_[A-Z2-7]{26}_[0-9]+`)

// withoutIDs removes the IDs of items and of calls that the gateway made.
func withoutIDs(output []map[string]any) (list []map[string]any) {
	for _, item := range output {
		strip(item, "id")
		if id, _ := item["call_id"].(string); newID.MatchString(id) {
			item["call_id"] = "new"
		}
		if encrypted, _ := item["encrypted_content"].(string); encrypted != "" {
			members, _ := decodeReasoning(encrypted)
			item["encrypted_content"] = string(newCallID.ReplaceAll(members, []byte("call_NEW")))
		}
		list = append(list, item)
	}
	return list
}

func plainText(text string) map[string]any {
	return map[string]any{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

func messageOf(parts ...any) map[string]any {
	return map[string]any{"type": "message", "role": "assistant", "status": "completed", "content": parts}
}

func reasoningOf(text, members string) map[string]any {
	summary := []any{}
	if text != "" {
		summary = []any{map[string]any{"type": "summary_text", "text": text}}
	}
	return map[string]any{"type": "reasoning", "status": "completed", "summary": summary, "encrypted_content": members}
}

func functionCall(id, name, arguments string) map[string]any {
	return map[string]any{"type": "function_call", "status": "completed", "call_id": id, "name": name, "arguments": arguments}
}

func customCall(id, name, input string) map[string]any {
	return map[string]any{"type": "custom_tool_call", "status": "completed", "call_id": id, "name": name, "input": input}
}

func withMember(item map[string]any, name string, value any) map[string]any {
	item[name] = value
	return item
}

// callChunk is a chunk with a part of a call.
func callChunk(part string) string { return chunk(`{"tool_calls":[` + part + `]}`) }

func TestResponseStream(t *testing.T) {
	t.Parallel()
	text := func(s string) map[string]any { return messageOf(plainText(s)) }
	const custom = `{"index":0,"id":"x","function":{"name":"apply_patch","arguments":`
	for _, test := range []struct {
		name   string
		chunks []string
		want   []map[string]any
	}{
		{"nothing", nil, []map[string]any{text("")}},
		{"only the role", []string{chunk(`{"role":"assistant","content":""}`), finish("stop")}, []map[string]any{text("")}},
		{"text", []string{chunk(`{"content":"Hi \"you\""}`), chunk(`{"content":" \u00e9\ud83d\ude00"}`), finish("stop")}, []map[string]any{text(`Hi "you" é😀`)}},
		{"text in parts", []string{chunk(`{"content":[{"type":"text","text":"a"}]}`), finish("stop")}, []map[string]any{text("a")}},
		{"a refusal", []string{chunk(`{"refusal":"I "}`), chunk(`{"refusal":"won't"}`), finish("stop")}, []map[string]any{messageOf(map[string]any{"type": "refusal", "refusal": "I won't"})}},
		{"a text and a refusal", []string{chunk(`{"content":"a"}`), chunk(`{"refusal":"b"}`), chunk(`{"content":"c"}`)},
			[]map[string]any{messageOf(plainText("a"), map[string]any{"type": "refusal", "refusal": "b"}, plainText("c"))}},
		{"a second choice", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":1,"delta":{"content":"b"}}]}`, finish("stop")}, []map[string]any{text("a")}},
		{"a whole message", []string{`{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}`}, []map[string]any{text("a")}},
		{"a whole message after its deltas", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}`}, []map[string]any{text("a")}},

		{"reasoning", []string{chunk(`{"reasoning_content":"h"}`), chunk(`{"reasoning":"m","content":""}`), chunk(`{"content":"a"}`)},
			[]map[string]any{reasoningOf("hm", `"reasoning_content":"hm"`), text("a")}},
		{"reasoning that goes on after a text", []string{chunk(`{"reasoning_content":"a"}`), chunk(`{"content":"b"}`), chunk(`{"reasoning_content":"c"}`)},
			[]map[string]any{reasoningOf("a", `"reasoning_content":"a"`), text("b"), reasoningOf("c", `"reasoning_content":"c"`)}},
		{"reasoning in parts", []string{chunk(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"h"}]}]}`), chunk(`{"content":"a"}`)},
			[]map[string]any{reasoningOf("h", `"reasoning_content":"h"`), text("a")}},
		{"signed thinking", []string{chunk(`{"reasoning_content":"h"}`), chunk(`{"thinking_blocks":[{"type":"thinking","thinking":"h","signature":"s"}]}`), chunk(`{"thinking_blocks":[{"type":"redacted_thinking","data":"r"}]}`), chunk(`{"content":"a"}`)},
			[]map[string]any{reasoningOf("h", `"reasoning_content":"h","thinking_blocks":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"redacted_thinking","data":"r"}]`), text("a")}},
		{"hidden thinking", []string{chunk(`{"thinking_blocks":[{"type":"redacted_thinking","data":"r"}]}`), chunk(`{"content":"a"}`)},
			[]map[string]any{reasoningOf("", `"thinking_blocks":[{"type":"redacted_thinking","data":"r"}]`), text("a")}},
		{"details of reasoning", []string{chunk(`{"reasoning":"h","reasoning_details":[{"type":"reasoning.text","text":"h"}]}`), chunk(`{"reasoning":"m","reasoning_details":[{"type":"reasoning.encrypted","data":"d"}]}`), chunk(`{"content":"a","reasoning_details":[]}`)},
			[]map[string]any{reasoningOf("hm", `"reasoning_content":"hm","reasoning_details":[{"type":"reasoning.text","text":"h"},{"type":"reasoning.encrypted","data":"d"}]`), text("a")}},

		{"a call", []string{callChunk(`{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}`), callChunk(`{"index":0,"function":{"arguments":"{\"a\""}}`), callChunk(`{"index":0,"function":{"arguments":":1}"}}`), finish("tool_calls")},
			[]map[string]any{functionCall("x", "f", `{"a":1}`)}},
		{"a call without arguments", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f"}}`), finish("tool_calls")}, []map[string]any{functionCall("x", "f", "{}")}},
		{"a call without an ID", []string{callChunk(`{"index":0,"function":{"name":"f","arguments":"{}"}}`), finish("tool_calls")}, []map[string]any{functionCall("new", "f", "{}")}},
		{"a call of nothing", []string{callChunk(`{"index":0,"id":"x","function":{"arguments":"{}"}}`), finish("tool_calls")}, []map[string]any{text("")}},
		{"a call with an object", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":{"a":"\n"}}}`), finish("tool_calls")}, []map[string]any{functionCall("x", "f", `{"a":"\n"}`)}},
		{"arguments that are not JSON", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a"}}`), finish("tool_calls")}, []map[string]any{functionCall("x", "f", `{"a`)}},
		{"calls that are signed", []string{
			chunk(`{"reasoning_content":"h"}`), callChunk(`{"id":"","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}`),
			callChunk(`{"id":"y","function":{"name":"g","arguments":"{}"}}`), callChunk(`{"id":"z","function":{"name":"g","arguments":"{}"},"extra_content":{"google":{"thought_signature":"t"}}}`),
		}, []map[string]any{
			reasoningOf("h", `"reasoning_content":"h","tool_calls":[{"id":"call_NEW","extra_content":{"google":{"thought_signature":"s"}}}]`), functionCall("new", "f", "{}"),
			functionCall("y", "g", "{}"), reasoningOf("", `"tool_calls":[{"id":"z","extra_content":{"google":{"thought_signature":"t"}}}]`), functionCall("z", "g", "{}"),
		}},
		{"what preceded tool calls", []string{chunk(`{"function_call":{"name":"f","arguments":"{"}}`), chunk(`{"function_call":{"arguments":"}"}}`), finish("function_call")}, []map[string]any{functionCall("new", "f", "{}")}},
		{"calls in one delta", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}},{"index":1,"id":"y","function":{"name":"g","arguments":"{}"}}`), finish("tool_calls")},
			[]map[string]any{functionCall("x", "f", "{}"), functionCall("y", "g", "{}")}},
		{"calls without an index", []string{callChunk(`{"id":"x","function":{"name":"f","arguments":"{}"}}`), callChunk(`{"id":"y","function":{"name":"f","arguments":"{}"}}`), finish("stop")},
			[]map[string]any{functionCall("x", "f", "{}"), functionCall("y", "f", "{}")}},
		{"calls with one index", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}`), callChunk(`{"index":0,"id":"y","function":{"name":"f","arguments":"{}"}}`), finish("stop")},
			[]map[string]any{functionCall("x", "f", "{}"), functionCall("y", "f", "{}")}},
		{"mixed calls", []string{
			callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":"}}`), callChunk(`{"index":1,"id":"y","function":{"name":"g","arguments":"{\"b\""}}`), chunk(`{"content":"t"}`),
			callChunk(`{"index":1,"function":{"arguments":":2}"}}`), callChunk(`{"index":0,"function":{"arguments":"1}"}}`), finish("tool_calls"),
		}, []map[string]any{functionCall("x", "f", `{"a":1}`), text("t"), functionCall("y", "g", `{"b":2}`)}},
		{"text between calls", []string{chunk(`{"content":"a"}`), callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}`), chunk(`{"content":"b"}`), callChunk(`{"index":1,"id":"y","function":{"name":"f","arguments":"{}"}}`)},
			[]map[string]any{text("a"), functionCall("x", "f", "{}"), text("b"), functionCall("y", "f", "{}")}},

		{"a tool in a namespace", []string{callChunk(`{"index":0,"id":"x","function":{"name":"mcp__github__search","arguments":"{}"}}`)}, []map[string]any{withMember(functionCall("x", "search", "{}"), "namespace", "mcp__github__")}},
		{"a custom tool", []string{callChunk(custom + `"{\"inp"}}`), callChunk(`{"index":0,"function":{"arguments":"ut\": \"*** Begin\\"}}`), callChunk(`{"index":0,"function":{"arguments":"n\\t\\u00e9\\ud83d"}}`), callChunk(`{"index":0,"function":{"arguments":"\\ude00 é\"}\n"}}`), finish("tool_calls")},
			[]map[string]any{customCall("x", "apply_patch", "*** Begin\n\té😀 é")}},
		{"a custom tool with plain text", []string{callChunk(custom + `"*** Begin\n"}}`), callChunk(`{"index":0,"function":{"arguments":"\"End\""}}`), finish("tool_calls")}, []map[string]any{customCall("x", "apply_patch", "*** Begin\n\"End\"")}},
		{"a custom tool with other arguments", []string{callChunk(custom + `"{\"a\":1,\"input\":\"b\"}"}}`), finish("tool_calls")}, []map[string]any{customCall("x", "apply_patch", "b")}},
		{"a custom tool with nothing", []string{callChunk(custom + `""}}`), finish("tool_calls")}, []map[string]any{customCall("x", "apply_patch", "")}},
		{"a custom tool that breaks off", []string{callChunk(custom + `"{\"input\":\"a\\"}}`), finish("tool_calls")}, []map[string]any{customCall("x", "apply_patch", `a\`)}},
		{"a shell on the client's machine", []string{callChunk(`{"index":0,"id":"x","function":{"name":"local_shell","arguments":"{\"command\":"}}`), callChunk(`{"index":0,"function":{"arguments":"[\"ls\"]}"}}`)},
			[]map[string]any{{"type": "local_shell_call", "status": "completed", "call_id": "x", "action": map[string]any{"type": "exec", "command": []any{"ls"}, "env": map[string]any{}}}}},
		{"other tools of the client", []string{
			callChunk(`{"index":0,"id":"x","function":{"name":"shell","arguments":"{\"commands\":[\"ls\"]}"}}`), callChunk(`{"index":1,"id":"y","function":{"name":"patch","arguments":"{\"type\":\"delete_file\",\"path\":\"p\"}"}}`), callChunk(`{"index":2,"id":"z","function":{"name":"tool_search","arguments":"{\n\"query\":\"q\"}"}}`),
		}, []map[string]any{
			{"type": "shell_call", "status": "completed", "call_id": "x", "action": map[string]any{"commands": []any{"ls"}}},
			{"type": "apply_patch_call", "status": "completed", "call_id": "y", "operation": map[string]any{"type": "delete_file", "path": "p"}},
			{"type": "tool_search_call", "status": "completed", "call_id": "z", "execution": "client", "arguments": map[string]any{"query": "q"}},
		}},
		{"a shell with arguments that are not JSON", []string{callChunk(`{"index":0,"id":"x","function":{"name":"shell","arguments":"ls"}}`)},
			[]map[string]any{{"type": "shell_call", "status": "completed", "call_id": "x", "action": map[string]any{"arguments": "ls"}}}},

		{"citations", []string{chunk(`{"content":"a"}`), chunk(`{"annotations":[{"type":"url_citation","url_citation":{"url":"https://x","title":"t","start_index":0,"end_index":1}},{"type":"other"}]}`), chunk(`{"content":"b","annotations":[{"type":"url_citation","url_citation":{"url":"https://y"}}]}`)},
			[]map[string]any{messageOf(withMember(plainText("ab"), "annotations", []any{
				map[string]any{"type": "url_citation", "url": "https://x", "title": "t", "start_index": 0.0, "end_index": 1.0},
				map[string]any{"type": "url_citation", "url": "https://y", "title": "", "start_index": 0.0, "end_index": 0.0},
			}))}},
		{"log probabilities", []string{
			`{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-1,"bytes":[97],"top_logprobs":[]}]}}]}`,
			`{"choices":[{"index":0,"delta":{"content":"bc"},"logprobs":{"content":[{"token":"b","logprob":-2,"bytes":null,"top_logprobs":[]},` + "\n" + `{"token":"c","logprob":-3,"bytes":null,"top_logprobs":[]}]}}]}`,
		}, []map[string]any{messageOf(withMember(plainText("abc"), "logprobs", []any{
			map[string]any{"token": "a", "logprob": -1.0, "bytes": []any{97.0}, "top_logprobs": []any{}}, map[string]any{"token": "b", "logprob": -2.0, "bytes": nil, "top_logprobs": []any{}},
			map[string]any{"token": "c", "logprob": -3.0, "bytes": nil, "top_logprobs": []any{}},
		}))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newResponseStream()
			var stream []byte
			for _, data := range test.chunks {
				stream = s.Append(stream, []byte(data))
			}
			got := dialecttest.ReadResponse(t, s.End(stream))
			if diff := cmp.Diff(test.want, withoutIDs(got.Output)); diff != "" || got.Status != "completed" {
				t.Errorf("%s, -want +got:\n%s\n%s", got.Status, diff, stream)
			}
		})
	}
}

func TestResponseEnds(t *testing.T) {
	t.Parallel()
	counted := map[string]any{
		"input_tokens": 30.0, "input_tokens_details": map[string]any{"cached_tokens": 10.0, "cache_write_tokens": 0.0},
		"output_tokens": 5.0, "output_tokens_details": map[string]any{"reasoning_tokens": 0.0}, "total_tokens": 35.0,
	}
	for _, test := range []struct {
		name               string
		chunks             []string
		status, incomplete string
		items              string // their statuses
		usage              map[string]any
	}{
		{"[DONE]", []string{chunk(`{"content":"a"}`), finish("stop"), "[DONE]"}, "completed", "", "completed", nil},
		{"the usage, without [DONE]", []string{chunk(`{"content":"a"}`), finish("stop"), usageChunk}, "completed", "", "completed", counted},
		{"the usage in the last chunk", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10}}}`}, "completed", "", "completed", counted},
		{"the usage in the choice", []string{chunk(`{"content":"a"}`), `{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":30,"completion_tokens":5,"cached_tokens":10}}]}`}, "completed", "", "completed", counted},
		{"the usage all the time", []string{usageChunk, chunk(`{"content":"a"}`), finish("stop")}, "completed", "", "completed", counted},
		{"a usage of zeros", []string{`{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, chunk(`{"content":"a"}`), finish("stop"), usageChunk}, "completed", "", "completed", counted},
		{"nothing after the reason", []string{chunk(`{"content":"a"}`), finish("stop")}, "completed", "", "completed", nil},
		{"a reason from the future", []string{chunk(`{"content":"a"}`), finish("eos"), "[DONE]"}, "completed", "", "completed", nil},
		{"a placeholder of a reason", []string{`{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"null"}]}`, usageChunk, chunk(`{"content":"b"}`), finish("stop")}, "completed", "", "completed", counted},
		{"the limit", []string{chunk(`{"content":"a"}`), finish("length"), "[DONE]"}, "incomplete", "max_output_tokens", "incomplete", nil},
		{"the limit in reasoning", []string{chunk(`{"reasoning_content":"a"}`), finish("length"), "[DONE]"}, "incomplete", "max_output_tokens", "incomplete", nil},
		{"the limit in a call", []string{chunk(`{"content":"a"}`), callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a"}}`), finish("length"), "[DONE]"}, "incomplete", "max_output_tokens", "completed incomplete", nil},
		{"the limit after a call", []string{callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}`), finish("length"), "[DONE]"}, "incomplete", "max_output_tokens", "completed", nil},
		{"the filter", []string{chunk(`{"content":"a"}`), finish("content_filter"), "[DONE]"}, "incomplete", "content_filter", "incomplete", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newResponseStream()
			var stream []byte
			for _, data := range test.chunks {
				stream = s.Append(stream, []byte(data))
			}
			stream = s.Close(stream)
			got := dialecttest.ReadResponse(t, stream)
			var items []string
			for _, item := range got.Output {
				items = append(items, item["status"].(string))
			}
			if diff := cmp.Diff([]any{test.status, test.incomplete, test.items, test.usage}, []any{got.Status, got.Incomplete, strings.Join(items, " "), got.Usage}); diff != "" {
				t.Errorf("-want +got:\n%s\n%s", diff, stream)
			}
			if more := s.Close(s.Append(s.End(nil), []byte(usageChunk))); len(more) > 0 {
				t.Errorf("after the end: %s", more)
			}
		})
	}
}

// A stream that breaks off gets no end, and an error comes as the upstream sent it, so that the relay reports both.
func TestResponseStreamsThatFail(t *testing.T) {
	t.Parallel()
	start := []string{chunk(`{"role":"assistant"}`), chunk(`{"content":"a"}`)}
	for _, test := range []struct {
		name, last string
		failed     string // the message of the error
	}{
		{"cut", chunk(`{"content":"b"}`), ""},
		{"an error", `{"error":{"message":"no room","type":"server_error","code":500}}`, "no room"},
		{"an error in a chunk", `{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":429,"message":"slow"}}`, "slow"},
		{"a finish reason", finish("error"), errFinishError.Message},
		{"not JSON", `{"choices":[{"index":0,"delta":{"content":"a}}]}`, errNoJSON.Message},
		{"half a pair of surrogates", chunk(`{"content":"\ud83d"}`), errNoJSON.Message},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newResponseStream()
			var stream []byte
			for _, data := range append(slices.Clone(start), test.last) {
				stream = s.Append(stream, []byte(data))
			}
			got, err := dialecttest.CheckResponses(stream)
			if message, _ := got.Err["message"].(string); (err == nil) != (test.failed != "") || message != test.failed {
				t.Errorf("%v, %v\n%s", got.Err, err, stream)
			}
			if more := s.Close(nil); len(more) > 0 {
				t.Errorf("after the stream was closed: %s", more)
			}
			if more := s.Append(nil, []byte(chunk(`{"content":"c"}`))); test.failed != "" && len(s.End(more)) > 0 {
				t.Errorf("after the error: %s", more)
			}
			events, state := 0, openai.ResponseState{}
			eachEvent(stream, func(_ []byte, e *sse.Event) []byte {
				if state.ID == "" {
					state.ReadHead(e.Data)
				}
				if x := openai.Typed.First(e.Name, e.Data); x.Malformed || x.Finish || x.Content != (events >= 4 && x.Err == nil) || (x.Err != nil) != (len(e.Name) == 0) {
					t.Errorf("event %d is read as %+v: %s", events, x, e.Data)
				}
				events++
				return nil
			})
			state.Sent(stream)
			if test.failed != "" {
				events--
			}
			if !strings.HasPrefix(state.ID, "resp_") || state.Model != "m" || state.Created == 0 || state.Next != int64(events) {
				t.Errorf("the relay knows %+v after %d events", state, events)
			}
			end := sse.AppendEvent(nil, "response.failed", (&openai.Error{Code: "upstream_error", Message: "cut"}).AppendFailedResponse(nil, state))
			if test.failed == "" && !bytes.Contains(end, fmt.Appendf(nil, `"sequence_number":%d`, events)) {
				t.Errorf("the relay ends with %s", end)
			}
		})
	}
}

// The relay reads the end of a translated stream as it reads that of any upstream's.
func TestRelayReadsResponses(t *testing.T) {
	t.Parallel()
	s := newResponseStream()
	var stream []byte
	for _, data := range []string{
		`{"model":"n","created":1760000000,"service_tier":"priority","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant"}}]}`, chunk(`{"reasoning_content":"hm"}`),
		chunk(`{"content":"a"}`), callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{\"sequence_number\":99}"}}`),
		`{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"timings":{"prompt_ms":1.5}}`,
		`{"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}`,
	} {
		stream = s.Append(stream, []byte(data))
	}
	a := openai.Assembler{Framing: openai.Typed}
	var last openai.Event
	text, terminal := 0, 0
	eachEvent(stream, func(_ []byte, e *sse.Event) []byte {
		a.Add(e.Name, e.Data)
		last = openai.Typed.Next(e.Name, e.Data)
		text += last.Text.Bytes
		if last.Terminal {
			terminal++
		}
		return nil
	})
	if used, _ := openai.ParseUsage(last.Usage); terminal != 1 || !last.Terminal || used.Input != 30 || used.Cached != 10 || used.CacheWrite != 2 || used.Output != 5 || used.Reasoning != 3 || openai.ParseServiceTier(last.Tier) != "priority" {
		t.Errorf("the last of %d ends is read as %+v", terminal, last)
	}
	if want := len(`hma{"sequence_number":99}`); text != want {
		t.Errorf("%d bytes of text, want %d", text, want)
	}
	whole, ok := a.Answer()
	got := dialecttest.ReadWholeResponse(t, whole)
	if !ok || got.Model != "n" || got.Object["created_at"] != 1760000000.0 || got.Object["system_fingerprint"] != "fp" || got.Object["timings"] == nil || got.Object["store"] != false {
		t.Errorf("%s", whole)
	}
	var again []byte
	openai.SplitAnswer(responsesEndpoint(t), whole, func(name string, data []byte, _ bool) { again = sse.AppendEvent(again, name, data) })
	if diff := cmp.Diff(got.Output, dialecttest.ReadResponse(t, again).Output); diff != "" {
		t.Errorf("split again, -want +got:\n%s", diff)
	}
	var state openai.ResponseState
	if state.Sent(stream); state.Next != int64(bytes.Count(stream, []byte("event: "))) {
		t.Errorf("the next sequence number is %d", state.Next)
	}
}

func responsesEndpoint(t testing.TB) *openai.Endpoint {
	t.Helper()
	e, ok := openai.LookupEndpoint("/v1/responses")
	if !ok {
		t.Fatal("no endpoint")
	}
	return e
}

// wholeResponse translates a whole chat completion.
func wholeResponse(t testing.TB, answer []byte) dialecttest.Response {
	t.Helper()
	body, _, ok := newResponseStream().Whole(nil, answer)
	if !ok {
		t.Fatalf("%s is not translated", answer)
	}
	return dialecttest.ReadWholeResponse(t, body)
}

// A stream and the whole answer that it consists of become the same response.
func TestResponsesOfStreamsAndAnswersAgree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/chat-stream/*.in.sse")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, file := range files {
		in, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, a := newResponseStream(), openai.Assembler{}
		stream := eachEvent(in, func(out []byte, e *sse.Event) []byte {
			a.Add(e.Name, e.Data)
			return s.Append(out, e.Data)
		})
		whole, ok := a.Answer()
		if !ok || strings.Contains(file, "mixed") { // its items have another order
			continue
		}
		checked++
		streamed, joined := dialecttest.ReadResponse(t, stream), wholeResponse(t, whole)
		if diff := cmp.Diff(withoutIDs(joined.Output), withoutIDs(streamed.Output)); diff != "" {
			t.Errorf("%s: -whole +stream:\n%s", file, diff)
		}
		if diff := cmp.Diff([]any{joined.Status, joined.Incomplete, joined.Usage}, []any{streamed.Status, streamed.Incomplete, streamed.Usage}); diff != "" {
			t.Errorf("%s: -whole +stream:\n%s", file, diff)
		}
	}
	if checked < 4 {
		t.Errorf("only %d streams were compared", checked)
	}
}

func TestWholeResponses(t *testing.T) {
	t.Parallel()
	answer := func(message, rest string) string {
		return `{"id":"c","model":"n","created":1760000000,"choices":[{"index":0,"message":` + message + rest + `}],"usage":{"prompt_tokens":30,"completion_tokens":5},"system_fingerprint":"fp"}`
	}
	for _, test := range []struct {
		name, answer, status string
		want                 []map[string]any
	}{
		{"text", answer(`{"role":"assistant","content":"a"}`, `,"finish_reason":"stop"`), "completed", []map[string]any{messageOf(plainText("a"))}},
		{"everything", answer(`{"content":"a","refusal":null,"reasoning_content":"h","thinking_blocks":[{"type":"redacted_thinking","data":"r"}],"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{}"}},{"id":"y","function":{"name":"apply_patch","arguments":"{\"input\":\"p\"}"}},{"function":{"name":"mcp__github__search","arguments":{}}}]}`, `,"finish_reason":"tool_calls"`), "completed",
			[]map[string]any{
				reasoningOf("h", `"reasoning_content":"h","thinking_blocks":[{"type":"redacted_thinking","data":"r"}]`), messageOf(plainText("a")),
				functionCall("x", "f", "{}"), customCall("y", "apply_patch", "p"), withMember(functionCall("new", "search", "{}"), "namespace", "mcp__github__"),
			}},
		{"nothing", answer(`{"content":null}`, `,"finish_reason":"stop"`), "completed", []map[string]any{messageOf(plainText(""))}},
		{"the limit", answer(`{"content":"a"}`, `,"finish_reason":"length"`), "incomplete", []map[string]any{withMember(messageOf(plainText("a")), "status", "incomplete")}},
		{"arguments that are not JSON", answer(`{"content":null,"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{"}},{"id":"y","function":{"name":"g","arguments":"{}"}}]}`, `,"finish_reason":"tool_calls"`), "completed",
			[]map[string]any{functionCall("x", "f", "{"), functionCall("y", "g", "{}")}},
		{"log probabilities", answer(`{"content":"a"}`, `,"logprobs":{"content":[{"token":"a","logprob":-1,"top_logprobs":[]}]},"finish_reason":"stop"`), "completed",
			[]map[string]any{messageOf(withMember(plainText("a"), "logprobs", []any{map[string]any{"token": "a", "logprob": -1.0, "top_logprobs": []any{}}}))}},
		{"an error", `{"error":{"message":"m"}}`, "", nil},
		{"a finish reason", answer(`{"content":"a"}`, `,"finish_reason":"error"`), "", nil},
		{"no choice", `{"choices":[]}`, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body, _, ok := newResponseStream().Whole(nil, []byte(test.answer))
			if ok != (test.status != "") {
				t.Fatalf("became %s", body)
			}
			if !ok {
				return
			}
			got := dialecttest.ReadWholeResponse(t, body)
			if diff := cmp.Diff(test.want, withoutIDs(got.Output)); diff != "" || got.Status != test.status || got.Model != "n" || got.Usage["total_tokens"] != 35.0 || got.Object["system_fingerprint"] != "fp" {
				t.Errorf("-want +got:\n%s\n%s", diff, body)
			}
		})
	}
}

// Random streams keep the grammar and lose no text, no argument and no input, however they are mixed.
func TestRandomResponses(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := newResponseStream()
		var stream []byte
		add := func(format string, args ...any) {
			stream = s.Append(stream, []byte(chunk(fmt.Sprintf(format, args...))))
		}
		text, reasoning := "", ""
		type call struct{ name, want, rest string }
		var calls []*call
		for range r.IntN(40) {
			piece := fmt.Sprint(r.IntN(1000), "\n😀\" ")
			switch r.IntN(5) {
			case 0:
				text += piece
				add(`{"content":%s}`, quoted(piece))
			case 1:
				reasoning += piece
				add(`{"reasoning_content":%s}`, quoted(piece))
			case 2, 3:
				c := &call{name: fmt.Sprint("f", len(calls))}
				if r.IntN(2) == 0 {
					c.name, c.want = "apply_patch", strings.Repeat(piece, r.IntN(4))
					c.rest = string(customArguments(c.want))
				} else {
					all, _ := json.Marshal(map[string]any{"a": piece + `{[\`, "b": []any{r.IntN(9), map[string]any{}}})
					c.want, c.rest = string(all), string(all)
				}
				add(`{"tool_calls":[{"index":%d,"id":"id%[1]d","function":{"name":%q,"arguments":""}}]}`, len(calls), c.name)
				calls = append(calls, c)
			case 4:
				if len(calls) > 0 {
					i := r.IntN(len(calls))
					runes := []rune(calls[i].rest)
					n := r.IntN(len(runes) + 1)
					add(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, i, quoted(string(runes[:n])))
					calls[i].rest = string(runes[n:])
				}
			}
		}
		var functions, inputs []string
		for i, c := range calls {
			add(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`, i, quoted(c.rest))
			if c.name == "apply_patch" {
				inputs = append(inputs, c.want)
			} else {
				functions = append(functions, c.want)
			}
		}
		got := dialecttest.ReadResponse(t, s.End(stream))
		gotFunctions, gotInputs := got.Texts("function_call"), got.Texts("custom_tool_call")
		slices.Sort(functions)
		slices.Sort(gotFunctions)
		slices.Sort(inputs)
		slices.Sort(gotInputs)
		want := []any{text, reasoning, functions, inputs}
		if diff := cmp.Diff(want, []any{strings.Join(got.Texts("message"), ""), strings.Join(got.Texts("reasoning"), ""), gotFunctions, gotInputs}); diff != "" {
			t.Fatalf("seed %d: %s\n%s", seed, diff, stream)
		}
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // cannot fail
	return string(b)
}

// Where the network cuts a stream makes no difference.
func TestResponsesOfStreamsCutAnywhere(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/chat-stream/*.in.sse")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	translate := func(r io.Reader) string {
		s, events := newResponseStream(), sse.NewReader(r, sse.MaxEvent)
		defer events.Close()
		var out []byte
		for {
			batch, err := events.Next()
			out = append(out, eachEvent(batch, func(out []byte, e *sse.Event) []byte { return s.Append(out, e.Data) })...)
			if err != nil {
				return withoutID(out, s)
			}
		}
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // the time is fixed
				in, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				want := translate(bytes.NewReader(in))
				dialecttest.ReadResponse(t, []byte(want))
				if got := translate(iotest.OneByteReader(bytes.NewReader(in))); got != want {
					t.Errorf("byte by byte: %s", cmp.Diff(want, got))
				}
				for i := range len(in) {
					if got := translate(io.MultiReader(bytes.NewReader(in[:i]), bytes.NewReader(in[i:]))); got != want {
						t.Fatalf("cut at byte %d: %s", i, cmp.Diff(want, got))
					}
				}
			})
		})
	}
}

// encryptedContent is that of a reasoning item.
var encryptedContent = regexp.MustCompile(`"encrypted_content":"[^"]*"`)

// withoutID makes the IDs of a response the same in every run. Those of calls are also in encrypted_content.
func withoutID(response []byte, s *ResponseStream) string {
	response = encryptedContent.ReplaceAllFunc(response, func(member []byte) []byte {
		members, _ := decodeReasoning(str(member[len(`"encrypted_content":`):]))
		return fmt.Appendf(nil, `"encrypted_content":%q`, encodeReasoning(bytes.ReplaceAll(members, []byte(s.id), []byte("NEW"))))
	})
	return strings.ReplaceAll(string(response), s.id, "NEW")
}

// The bytes that a stream keeps until its end are bounded: too many end it with an error.
func TestLongResponses(t *testing.T) {
	t.Parallel()
	fragment := strings.Repeat("a", 1<<20)
	call := func(tool string) string {
		return callChunk(`{"index":0,"id":"x","function":{"name":"` + tool + `","arguments":"` + fragment + `"}}`)
	}
	for _, test := range []struct{ name, first, more string }{
		{"text", "", chunk(`{"content":"` + fragment + `"}`)},
		{"reasoning", "", chunk(`{"reasoning_content":"` + fragment + `"}`)},
		{"signatures", "", chunk(`{"thinking_blocks":[{"type":"redacted_thinking","data":"` + fragment + `"}]}`)},
		{"details of reasoning", "", chunk(`{"reasoning_details":[{"type":"reasoning.encrypted","data":"` + fragment + `"}]}`)},
		{"arguments", "", call("f")},
		{"an input", callChunk(`{"index":0,"id":"x","function":{"name":"apply_patch","arguments":"{\"input\":\""}}`), call("apply_patch")},
		{"a plain input", "", call("apply_patch")},
		{"an object", "", call("shell")},
		{"a call that waits", callChunk(`{"index":1,"id":"y","function":{"name":"g","arguments":"{"}}`), call("f")},
		{"text that waits", callChunk(`{"index":1,"id":"y","function":{"name":"g","arguments":"{"}}`), chunk(`{"content":"` + fragment + `"}`)},
		{"a call of nothing", "", call("")},
		{"log probabilities", "", `{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"` + fragment + `","logprob":-1,"top_logprobs":[]}]}}]}`},
		{"citations", "", chunk(`{"annotations":[{"type":"url_citation","url_citation":{"url":"` + fragment + `"}}]}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newResponseStream()
			if test.first != "" {
				s.Append(nil, []byte(test.first))
			}
			longest := 0
			for i := 0; ; i++ {
				out := s.Append(nil, []byte(test.more))
				eachEvent(out, func(_ []byte, e *sse.Event) []byte { longest = max(longest, len(e.Raw)); return nil })
				if bytes.Contains(out, []byte(errLongResponse.Message)) {
					break
				}
				if i > maxWaiting/len(fragment) {
					t.Fatalf("%d MiB are kept", i)
				}
			}
			if rest := s.End(s.Append(nil, []byte("[DONE]"))); len(rest) > 0 || longest > sse.MaxEvent {
				t.Errorf("%d bytes after the error, and an event of %d bytes", len(rest), longest)
			}
		})
	}
	for _, kind := range []string{"content", "reasoning_content"} { // almost too much
		s := newResponseStream()
		longest := 0
		measure := func(out []byte) {
			eachEvent(out, func(_ []byte, e *sse.Event) []byte { longest = max(longest, len(e.Raw)); return nil })
		}
		for range maxWaiting/len(fragment) - 1 {
			measure(s.Append(nil, []byte(chunk(`{"`+kind+`":"`+fragment+`"}`))))
		}
		if measure(s.End(nil)); longest > sse.MaxEvent {
			t.Errorf("%s: an event of %d bytes", kind, longest)
		}
	}
}

// Deltas do not allocate.
func TestResponseDeltasDoNotAllocate(t *testing.T) {
	for name, chunks := range map[string][2]string{
		"text":      {chunk(`{"content":"a"}`), chunk(`{"content":" token"}`)},
		"reasoning": {chunk(`{"reasoning":"a"}`), chunk(`{"reasoning":" token"}`)},
		"arguments": {callChunk(`{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":\""}}`), callChunk(`{"index":0,"function":{"arguments":" token"}}`)},
		"an input":  {callChunk(`{"index":0,"id":"x","function":{"name":"apply_patch","arguments":"{\"input\":\""}}`), callChunk(`{"index":0,"function":{"arguments":" token\\n"}}`)},
	} {
		s := newResponseStream()
		dst := s.Append(make([]byte, 0, 1<<16), []byte(chunks[0]))
		s.output = slices.Grow(s.output, 1<<16)
		data := []byte(chunks[1])
		if n := testing.AllocsPerRun(1000, func() { dst = s.Append(dst[:0], data) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// The checker holds real servers' streams to the same grammar. Where it says what they lack, ours do not.
func TestResponsesOfRealServers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ollama/v1-responses-stream": "created_at has changed", // it is that of the event
		"vllm/responses-stream":      "response.created with a wrong response",
		"llamacpp/responses-stream":  "the sequence number is not 0",
		"ollama/v1-responses":        "",
		"vllm/responses":             "response without completed_at",
		"llamacpp/responses":         "response without background",
	} {
		body := fakellm.LoadCapture(t, name+".txt").Body
		var err error
		if strings.HasSuffix(name, "-stream") {
			_, err = dialecttest.CheckResponses(body)
		} else {
			_, err = dialecttest.CheckWholeResponse(body)
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCustomReader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ arguments, want string }{
		{`{"input":"a"}`, "a"},
		{" {\n\"input\" :\t\"a\\nb\\u00e9\\ud83d\\ude00\\\"\\\\\" } ", "a\nbé😀\"\\"},
		{`{"input":""}`, ""},
		{"{\"input\":\"a\nb\tc\x01\"}", "a\nb\tc\x01"},
		{`{"input":"\q \ud83d x \ud83d\n \ud83d\u0041 \ude00"}`, "q \ufffd x \ufffd\n \ufffdA \ufffd"},
		{`{"input":"a`, "a"},
		{`{"input":"a\u00`, "a\ufffd"},
		{`{"input":"a\`, `a\`},
		{`{"input":`, `{"input":`},
		{`{"input":1}`, `{"input":1}`},
		{`{"a":"b","input":"c"}`, "c"},
		{`{"a":"b"}`, `{"a":"b"}`},
		{"*** Begin \"é\"", "*** Begin \"é\""},
		{`"a"`, `"a"`},
		{"", ""},
		{"  ", "  "},
	} {
		for size := 1; size <= len(test.arguments)+1; size++ {
			var r customReader
			var raw []byte
			for part := range slices.Chunk([]byte(test.arguments), size) {
				at := len(raw)
				raw = r.add(raw, part)
				if !json.Valid(fmt.Appendf(nil, `"%s"`, raw[at:])) && json.Valid(fmt.Appendf(nil, `"%s"`, strings.ToValidUTF8(string(raw[at:]), ""))) == false {
					t.Errorf("%q in parts of %d bytes has the part %q", test.arguments, size, raw[at:])
				}
			}
			raw = r.end(raw)
			if got := str(fmt.Appendf(nil, `"%s"`, raw)); got != test.want {
				t.Errorf("%q in parts of %d bytes is %q, want %q", test.arguments, size, got, test.want)
			}
		}
	}
}
