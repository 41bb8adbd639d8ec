package openai

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

var finishes = Event{Content: true, Finish: true, Finishes: 1}

// chunkEvents are events of chat and completions, and what First returns for them.
var chunkEvents = []struct {
	name, kind, data string
	want             Event
}{
	{"role", "", `{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}`, Event{}},
	{"role, content null", "", `{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}`, Event{}},
	{"vllm without content", "", `{"choices":[{"delta":{"content":"","tool_calls":[],"reasoning_content":null}}]}`, Event{}},
	{"content", "", `{"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]}`, Event{Content: true}},
	{"content of the second choice", "", `{"choices":[{"delta":{}},{"delta":{"content":"Hi"}}]}`, Event{Content: true}},
	{"content in parts", "", `{"choices":[{"delta":{"content":[{"type":"thinking"}]}}]}`, Event{Content: true}},
	{"reasoning_content", "", `{"choices":[{"delta":{"content":null,"reasoning_content":"The"}}]}`, Event{Content: true}},
	{"reasoning", "", `{"choices":[{"delta":{"role":"assistant","content":"","reasoning":"The"}}]}`, Event{Content: true}},
	{"refusal", "", `{"choices":[{"delta":{"refusal":"No"}}]}`, Event{Content: true}},
	{"tool call", "", `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}`, Event{Content: true}},
	{"function call", "", `{"choices":[{"delta":{"function_call":{"name":"f"}}}]}`, Event{Content: true}},
	{"audio", "", `{"choices":[{"delta":{"audio":{"data":"AA=="}}}]}`, Event{Content: true}},
	{"completion", "", `{"choices":[{"text":"Hi","index":0,"finish_reason":null}]}`, Event{Content: true}},
	{"empty completion", "", `{"choices":[{"text":"","index":0,"finish_reason":null}]}`, Event{}},
	{"whole message", "", `{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`, Event{Content: true, Finish: true, Finishes: 1, Whole: true}},
	{"a part in a message", "", `{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":null}]}`, Event{Content: true}},
	{"a delta beside the message so far", "", `{"choices":[{"delta":{"content":"Hi"},"message":{"content":"Hi"},"finish_reason":"stop"}]}`, finishes},
	{"finish", "", `{"choices":[{"delta":{},"finish_reason":"stop"}]}`, finishes},
	{"two finishes", "", `{"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"length"},{"index":2,"finish_reason":null}]}`,
		Event{Content: true, Finish: true, Finishes: 2}},
	{"finish with white space", "", `{ "choices" : [ { "finish_reason" : "stop" } ] }`, finishes},
	{"finish null with white space", "", `{"choices": [{"finish_reason": null, "delta": {"content": "Hi"}}], "usage": null, "error": null}`, Event{Content: true}},
	{"a finish reason that is empty", "", `{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":""}]}`, Event{}},
	{"an empty finish reason beside content", "", `{"choices":[{"delta":{"content":"Hi"},"finish_reason":""}]}`, Event{Content: true}},
	{"a finish reason of spaces", "", `{"choices":[{"delta":{},"finish_reason":"  "}]}`, Event{}},
	{"a finish reason \"null\"", "", `{"choices":[{"delta":{},"finish_reason":"null"}]}`, Event{}},
	{"a finish reason \"None\"", "", `{"choices":[{"delta":{},"finish_reason":"None"}]}`, Event{}},
	{"a finish reason of Gemini's that names none", "", `{"choices":[{"delta":{},"finish_reason":"FINISH_REASON_UNSPECIFIED"}]}`, Event{}},
	{"a finish reason false", "", `{"choices":[{"delta":{},"finish_reason":false}]}`, Event{}},
	{"a finish reason 0", "", `{"choices":[{"delta":{},"finish_reason":0}]}`, Event{}},
	{"a finish reason that is an object", "", `{"choices":[{"delta":{},"finish_reason":{}}]}`, Event{}},
	{"one choice with a finish reason, one without", "", `{"choices":[{"index":0,"finish_reason":""},{"index":1,"finish_reason":"stop"}]}`, finishes},
	{"a finish reason that only this service has", "", `{"choices":[{"delta":{},"finish_reason":"eos"}]}`, finishes},
	{"a finish reason with a word for nothing in it", "", `{"choices":[{"delta":{},"finish_reason":"none_left"}]}`, finishes},
	{"a finish reason in escapes", "", `{"choices":[{"delta":{},"finish_reason":"\u0073top"}]}`, finishes},
	{"error empty", "", `{"choices":[{"delta":{"content":"Hi"}}],"error":""}`, Event{Content: true}},
	{"error false", "", `{"choices":[{"delta":{"content":"Hi"}}],"error":false}`, Event{Content: true}},
	{"error without a reason", "", `{"error":{}}`, Event{Err: []byte(`{}`)}},
	{"finish and usage", "", `{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`,
		Event{Content: true, Finish: true, Finishes: 1, Usage: []byte(`{"prompt_tokens":3,"completion_tokens":2}`)}},
	{"usage with every chunk", "", `{"choices":[{"delta":{"content":"Hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`,
		Event{Content: true, Usage: []byte(`{"prompt_tokens":3,"completion_tokens":2}`)}},
	{"usage only", "", `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`,
		Event{UsageOnly: true, Usage: []byte(`{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`)}},
	{"usage only, choices null", "", `{"choices":null,"usage":{"prompt_tokens":3}}`, Event{UsageOnly: true, Usage: []byte(`{"prompt_tokens":3}`)}},
	{"usage null, no choices", "", `{"choices":[],"usage":null}`, Event{}},
	{"azure's first", "", `{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]}`, Event{}},
	{"error", "", `{"error":{"message":"m","type":"server_error","param":null,"code":null}}`,
		Event{Err: []byte(`{"message":"m","type":"server_error","param":null,"code":null}`)}},
	{"error after other members", "", `{"id":"x","choices":[],"error":{"code":502}}`, Event{Err: []byte(`{"code":502}`)}},
	{"error as a string", "", `{"error":"model runner has unexpectedly stopped"}`, Event{Err: []byte(`"model runner has unexpectedly stopped"`)}},
	{"error null", "", `{"choices":[{"delta":{"content":"Hi"}}],"error":null}`, Event{Content: true}},
	{"named error", "error", `{"error":{"message":"m"}}`, Event{Err: []byte(`{"message":"m"}`)}},
	{"named error, flat", "error", `{"message":"m"}`, Event{Err: []byte(`{"message":"m"}`)}},
	{"openrouter's error with a finish", "", `{"error":{"code":"server_error"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`,
		Event{Content: true, Finish: true, Finishes: 1, Err: []byte(`{"code":"server_error"}`)}},
	{"keys inside a string", "", `{"choices":[{"delta":{"content":"{\"usage\":{\"error\":1},\"finish_reason\":\"stop\"}"}}]}`, Event{Content: true}},
	{"keys as values", "", `{"choices":[{"delta":{"content":"usage"}}],"a":"error","b":["finish_reason"]}`, Event{Content: true}},
	{"keys at the end of other keys", "", `{"choices":[{"delta":{"content":"Hi"}}],"my_usage":1,"terror":2,"region":3}`, Event{Content: true}},
	{"done", "", `[DONE]`, Event{Done: true}},
	{"done with white space", "", ` [DONE] `, Event{Done: true}},
	{"empty", "", ``, Event{Malformed: true}},
	{"no JSON", "", `ok`, Event{Malformed: true}},
	{"HTML page", "", `<html><body>502 Bad Gateway</body></html>`, Event{Malformed: true}},
	{"array", "", `[{"choices":[{"delta":{"content":"Hi"}}]}]`, Event{Malformed: true}},
	{"done, misspelt", "", `[done]`, Event{Malformed: true}},
	{"truncated", "", `{"choices":[{"delta":{"content":"Hi`, Event{Malformed: true}},
	{"truncated after a brace", "", `{"choices":[{"delta":{"content":"Hi"}`, Event{Malformed: true}},
	{"truncated after a finish", "", `{"choices":[{"finish_reason":"stop"}]`, Event{Malformed: true}},
	{"two objects", "", `{"choices":[{"delta":{"content":"Hi"}}]}{"choices":[{"delta":{"content":"Hi"}}]}`, Event{Malformed: true}},
	{"error, truncated", "error", `{"error":{"message":"m"`, Event{Malformed: true}},
	{"half a surrogate pair, as Python writes it", "", `{"choices":[{"delta":{"content":"\ud83d"}}]}`, Event{}},
	{"half a character", "", "{\"choices\":[{\"delta\":{\"content\":\"\xf0\x9f\"}}]}", Event{}},
	{"NaN, as Python writes it", "", `{"choices":[{"delta":{"content":"Hi"},"logprobs":{"content":[{"logprob":NaN}]}}]}`, Event{}},
}

func TestChunks(t *testing.T) {
	t.Parallel()
	for _, tt := range chunkEvents {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkEvent(t, Chunks, tt.kind, tt.data, tt.want)
		})
	}
}

// checkEvent checks that First returns the event, and Next the same except for Content and Opens, which it does not set, and Text.
func checkEvent(t *testing.T, f Framing, kind, data string, want Event) {
	t.Helper()
	first := f.First([]byte(kind), []byte(data))
	if f == Chunks && (first.Reason != nil) != (want.Finishes > 0) || !strings.Contains(data, string(first.Reason)) {
		t.Errorf("the reason is %s", first.Reason)
	}
	first.Reason = nil
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("First (-want +got):\n%s", diff)
	}
	got := f.Next([]byte(kind), []byte(data))
	got.Reason = nil
	got.Content, want.Content, want.Opens, want.Whole, got.Text = false, false, false, false, jsonspan.TextCount{} // see TestCountText
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Next (-want +got):\n%s", diff)
	}
}

func TestTyped(t *testing.T) {
	t.Parallel()
	const (
		used    = `{"input_tokens":12,"output_tokens":7,"input_tokens_details":{"cached_tokens":11},"output_tokens_details":{"reasoning_tokens":2}}`
		counted = `"usage":` + used
	)
	usage := Event{Content: true, Finish: true, Finishes: 1, Usage: []byte(used)}
	response, ended := usage, finishes
	response.Terminal, ended.Terminal = true, true
	broken := response
	broken.Err = []byte(`{"code":"server_error"}`)
	for _, tt := range []struct {
		name, kind, data string
		want             Event
	}{
		{"created", "response.created", `{"type":"response.created","response":{"usage":null}}`, Event{}},
		{"created, no name", "", `{"response":{"error":null,"usage":null},"sequence_number":0,"type":"response.created"}`, Event{}},
		{"queued", "", `{"type":"response.queued"}`, Event{}},
		{"in progress", "response.in_progress", `{"type":"response.in_progress"}`, Event{}},
		{"keepalive", "", `{"type":"keepalive","sequence_number":3}`, Event{}},
		{"item", "response.output_item.added", `{"type":"response.output_item.added","item":{}}`, Event{Opens: true}},
		{"reasoning item", "response.output_item.added", `{"type":"response.output_item.added","item":{"id":"rs_1","type":"reasoning","encrypted_content":"gAAA","summary":[]}}`, Event{Opens: true}},
		{"message item", "", `{"type":"response.output_item.added","item":{"id":"m","type":"message","status":"in_progress","content":[],"role":"assistant"}}`, Event{Opens: true}},
		{"function call item", "", `{"type":"response.output_item.added","item":{"id":"f","type":"function_call","name":"write","call_id":"c","arguments":""}}`, Event{Opens: true}},
		{"item that is complete", "", `{"type":"response.output_item.added","item":{"type":"message","content":[{"type":"output_text","text":"Hi"}]}}`, Event{Content: true}},
		{"function call item with arguments", "", `{"type":"response.output_item.added","item":{"type":"function_call","name":"f","arguments":"{}"}}`, Event{Content: true}},
		{"part", "response.content_part.added", `{"type":"response.content_part.added","part":{"type":"output_text","text":"","annotations":[]}}`, Event{Opens: true}},
		{"part with text", "", `{"type":"response.content_part.added","part":{"type":"output_text","text":"Hi"}}`, Event{Content: true}},
		{"reasoning part", "", `{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}`, Event{Opens: true}},
		{"item done", "response.output_item.done", `{"type":"response.output_item.done","item":{"type":"reasoning","summary":[]}}`, Event{Content: true}},
		{"web search", "", `{"type":"response.web_search_call.searching","output_index":0}`, Event{Opens: true}},
		{"web search begins", "response.web_search_call.in_progress", `{"type":"response.web_search_call.in_progress"}`, Event{Opens: true}},
		{"web search done", "", `{"type":"response.web_search_call.completed"}`, Event{Content: true}},
		{"code interpreter", "", `{"type":"response.code_interpreter_call.interpreting"}`, Event{Opens: true}},
		{"code", "", `{"type":"response.code_interpreter_call_code.delta","delta":"print"}`, Event{Content: true}},
		{"image begins", "", `{"type":"response.image_generation_call.generating"}`, Event{Opens: true}},
		{"partial image of a response", "", `{"type":"response.image_generation_call.partial_image","partial_image_b64":"AA=="}`, Event{Content: true}},
		{"rate limits", "", `{"type":"codex.rate_limits","rate_limits":{"allowed":true}}`, Event{}},
		{"empty delta", "response.output_text.delta", `{"type":"response.output_text.delta","delta":""}`, Event{}},
		{"reasoning", "", `{"type":"response.reasoning_text.delta","delta":"The"}`, Event{Content: true}},
		{"unknown", "", `{"type":"response.new_thing","value":1}`, Event{Content: true}},
		{"text", "response.output_text.delta", `{"type":"response.output_text.delta","delta":"Hi"}`, Event{Content: true}},
		{"text, no name", "", `{"type":"response.output_text.delta","delta":"Hi"}`, Event{Content: true}},
		{"text, other name", "message", `{"delta":"Hi","type":"response.output_text.delta"}`, Event{Content: true}},
		{"arguments done", "response.function_call_arguments.done", `{"arguments":"{}"}`, Event{Content: true}},
		{"completed", "response.completed", `{"response":{"error":null,` + counted + `},"type":"response.completed"}`, response},
		{"completed, no name", "", `{"type":"response.completed","response":{` + counted + `}}`, response},
		{"incomplete", "response.incomplete", `{"type":"response.incomplete","response":{` + counted + `}}`, response},
		{"cancelled", "response.cancelled", `{"type":"response.cancelled","response":{` + counted + `}}`, response},
		{"completed without usage", "response.completed", `{"type":"response.completed","response":{}}`, ended},
		{"completed with an error", "response.completed", `{"type":"response.completed","response":{"error":{"code":"server_error"},` + counted + `}}`, broken},
		{"incomplete with an error", "", `{"type":"response.incomplete","response":{"error":{"code":"server_error"},` + counted + `}}`, broken},
		{"failed", "response.failed", `{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"},` + counted + `}}`,
			Event{Terminal: true, Err: []byte(`{"code":"server_error","message":"m"}`), Usage: []byte(used)}},
		{"failed, no name", "", `{"type":"response.failed","response":{"error":{"code":"x"}}}`, Event{Terminal: true, Err: []byte(`{"code":"x"}`)}},
		{"failed without a reason", "response.failed", `{"response":{"error":null}}`, Event{Terminal: true, Err: []byte(`{"response":{"error":null}}`)}},
		{"error", "error", `{"type":"error","code":"x","message":"m","param":null}`, Event{Err: []byte(`{"type":"error","code":"x","message":"m","param":null}`)}},
		{"error, no name", "", `{"type":"error","code":"x","message":"m"}`, Event{Err: []byte(`{"type":"error","code":"x","message":"m"}`)}},
		{"error, nested and flat", "error", `{"type":"error","error":{"code":"x"},"code":"x","message":"m"}`, Event{Err: []byte(`{"code":"x"}`)}},
		{"error without a type", "", `{"error":{"code":500}}`, Event{Err: []byte(`{"code":500}`)}},
		{"error as a string", "", `{"error":"down"}`, Event{Err: []byte(`"down"`)}},
		{"transcript", "", `{"type":"transcript.text.delta","delta":"Hi"}`, Event{Content: true}},
		{"transcript done", "", `{"type":"transcript.text.done","text":"Hi",` + counted + `}`, usage},
		{"transcript done, in seconds", "", `{"type":"transcript.text.done","text":"Hi","usage":{"type":"duration","seconds":1}}`,
			Event{Content: true, Finish: true, Finishes: 1, Usage: []byte(`{"type":"duration","seconds":1}`)}},
		{"speech", "", `{"type":"speech.audio.delta","audio":"AA=="}`, Event{Content: true}},
		{"speech done", "", `{"type":"speech.audio.done",` + counted + `}`, usage},
		{"partial image", "image_generation.partial_image", `{"b64_json":"AA==","type":"image_generation.partial_image"}`, Event{Content: true}},
		{"image", "image_generation.completed", `{"b64_json":"AA==",` + counted + `,"type":"image_generation.completed"}`, usage},
		{"edited image", "", `{"type":"image_edit.completed","b64_json":"AA==",` + counted + `}`, usage},
		{"vllm transcription chunk", "", `{"object":"transcription.chunk","choices":[{"delta":{"content":" Mary"},"finish_reason":null}]}`, Event{Content: true}},
		{"vllm transcription chunk with a finish reason", "", `{"object":"transcription.chunk","choices":[{"delta":{"content":""},"finish_reason":"stop"}]}`, Event{Content: true}},
		{"unknown", "", `{"x":1}`, Event{Content: true}},
		{"done", "", `[DONE]`, Event{Done: true}},
		{"no JSON", "", `ok`, Event{Malformed: true}},
		{"truncated", "response.output_text.delta", `{"type":"response.output_text.delta","delta":"Hi`, Event{Malformed: true}},
		{"completed, truncated", "response.completed", `{"response":{` + counted + `}`, Event{Malformed: true}},
		{"empty", "", ``, Event{Malformed: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkEvent(t, Typed, tt.kind, tt.data, tt.want)
		})
	}
}

// Significant keys must be found at every offset within the eight bytes that are compared together.
func TestPrescanAtEveryOffset(t *testing.T) {
	t.Parallel()
	for pad := range 24 {
		for _, key := range []string{"finish_reason", "usage", "error"} {
			for _, colon := range []string{":", ": ", " : "} {
				data := `{"p":"` + strings.Repeat("x", pad) + `","` + key + `"` + colon
				for value, want := range map[string]bool{`"v"`: true, `null`: false} {
					if significant, complete := prescan([]byte(data+value+"}"), nil); significant != want || !complete {
						t.Errorf("prescan(%s%s}) = %v, %v, want %v, true", data, value, significant, complete, want)
					}
				}
			}
		}
	}
}

// TestCapturedStreams reads streams that were captured from real servers.
func TestCapturedStreams(t *testing.T) {
	t.Parallel()
	type summary struct {
		First     int // the first event with content
		Finishes  int
		UsageOnly bool
		Done      bool
		Usage     tokens.Usage
	}
	want := map[string]summary{
		"llamacpp-chat-usage.sse":    {First: 1, Finishes: 1, UsageOnly: true, Done: true, Usage: tokens.Usage{Input: 30, Output: 7, Cached: 29}},
		"llamacpp-completions.sse":   {First: 0, Finishes: 1, Done: true, Usage: tokens.Usage{Input: 2, Output: 7, Cached: 1}},
		"llamacpp-responses.sse":     {First: 4, Finishes: 1, Usage: tokens.Usage{Input: 12, Output: 7, Cached: 11}},
		"ollama-responses.sse":       {First: 4, Finishes: 1, Usage: tokens.Usage{Input: 12, Output: 7}},
		"ollama-chat-reasoning.sse":  {First: 0, Finishes: 1, Done: true},
		"ollama-0.11-chat-tools.sse": {First: 0, Finishes: 1, Done: true},
	}
	got := map[string]summary{}
	for name, stream := range captured(t, ".sse") {
		framing := Chunks
		if strings.Contains(name, "responses") {
			framing = Typed
		}
		s := summary{First: -1}
		for i, e := range splitStream(stream) {
			if first := framing.First(e[0], e[1]); first.Content && s.First < 0 {
				s.First = i
			}
			next := framing.Next(e[0], e[1])
			if next.Err != nil || next.Malformed {
				t.Errorf("%s: Next found an error %q in %s", name, next.Err, e[1])
			}
			s.Finishes += next.Finishes
			s.UsageOnly = s.UsageOnly || next.UsageOnly
			s.Done = s.Done || next.Done
			if usage, ok := ParseUsage(next.Usage); ok {
				s.Usage = usage
			}
		}
		got[name] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the streams (-want +got):\n%s", diff)
	}
}

// splitStream splits a well-formed stream into the names and the data of its events.
func splitStream(stream []byte) (all [][2][]byte) {
	for event := range bytes.SplitSeq(bytes.TrimSpace(stream), []byte("\n\n")) {
		var e [2][]byte
		for line := range bytes.SplitSeq(event, []byte("\n")) {
			if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
				e[0] = name
			}
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				e[1] = data
			}
		}
		all = append(all, e)
	}
	return all
}

func TestEventsDoNotAllocate(t *testing.T) {
	for _, tt := range events {
		t.Run(tt.name, func(t *testing.T) {
			framing, kind, data := Chunks, []byte(tt.kind), []byte(tt.data)
			if tt.kind != "" {
				framing = Typed
			}
			if n := testing.AllocsPerRun(100, func() {
				if framing.First(kind, data).Err != nil || framing.Next(kind, data).Err != nil {
					t.Error("an error was found")
				}
			}); n > 0 {
				t.Errorf("First and Next make %v allocations, want none", n)
			}
		})
	}
}

// FuzzStream checks that Next, which parses few events, finds what First finds.
func FuzzStream(f *testing.F) {
	for _, stream := range captured(f, ".sse") {
		for _, e := range splitStream(stream) {
			f.Add(e[0], e[1])
		}
	}
	for _, e := range chunkEvents {
		f.Add([]byte(e.kind), []byte(e.data))
	}
	f.Add([]byte("response.failed"), []byte(`{"response":{"error":{"code":"x"},"usage":{"input_tokens":1}}}`))
	f.Add([]byte(""), []byte(`{"type":"error","message":"m"}`))
	f.Fuzz(func(t *testing.T, name, data []byte) {
		for _, framing := range []Framing{Chunks, Typed} {
			first, next := framing.First(name, data), framing.Next(name, data)
			var reasons FinishReasons
			reasons.AddEvent(framing, name, data)
			reasons.AddWhole(data)
			if first.Finish != (first.Finishes > 0) || first.UsageOnly && (first.Finish || first.Content) {
				t.Fatalf("First contradicts itself: %+v", first)
			}
			// Invalid JSON is read up to the error, and prescan ignores keys with escapes.
			if !json.Valid(data) || bytes.Contains(data, []byte(`\u`)) {
				continue
			}
			first.Content, first.Opens, first.Whole, next.Content, next.Text = false, false, false, false, jsonspan.TextCount{}
			if diff := cmp.Diff(first, next); diff != "" {
				t.Fatalf("framing %d: Next differs from First (-first +next):\n%s", framing, diff)
			}
		}
		_, _ = ParseError(data)
		var a Answer
		_ = a.Parse(data)
	})
}
