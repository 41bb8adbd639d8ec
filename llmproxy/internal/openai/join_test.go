package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func endpointOf(t testing.TB, path string) *Endpoint {
	t.Helper()
	e, ok := LookupEndpoint(path)
	if !ok {
		t.Fatal(path)
	}
	return e
}

// wholeResponse has an item of each kind that has events of its own.
const wholeResponse = `{"id":"r","object":"response","status":"completed","output":[
{"id":"rs","type":"reasoning","summary":[{"type":"summary_text","text":"think"}],"content":[{"type":"reasoning_text","text":"hm"}]},
{"id":"m","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[{"type":"url_citation","url":"u"}]},{"type":"refusal","refusal":"No"}]},
{"id":"f","type":"function_call","name":"g","call_id":"c","arguments":"{\"x\":1}"},
{"id":"t","type":"custom_tool_call","name":"h","call_id":"d","input":"raw"},
{"id":"w","type":"web_search_call","status":"completed"}],"usage":{"input_tokens":1,"output_tokens":2}}`

func TestSplitResponse(t *testing.T) {
	t.Parallel()
	want := []string{
		`response.created {"id":"r","object":"response","status":"in_progress","output":[],"usage":null}`,
		`response.in_progress {"id":"r","object":"response","status":"in_progress","output":[],"usage":null}`,
		`response.output_item.added {"id":"rs","type":"reasoning","summary":[],"content":[]}`,
		`response.reasoning_summary_part.added {"type":"summary_text","text":""}`,
		`response.reasoning_summary_text.delta "think"`,
		`response.reasoning_summary_text.done "think"`,
		`response.reasoning_summary_part.done {"type":"summary_text","text":"think"}`,
		`response.content_part.added {"type":"reasoning_text","text":""}`,
		`response.reasoning_text.delta "hm"`,
		`response.reasoning_text.done "hm"`,
		`response.content_part.done {"type":"reasoning_text","text":"hm"}`,
		`response.output_item.done {"id":"rs","type":"reasoning","summary":[{"type":"summary_text","text":"think"}],"content":[{"type":"reasoning_text","text":"hm"}]}`,
		`response.output_item.added {"id":"m","type":"message","role":"assistant","status":"in_progress","content":[]}`,
		`response.content_part.added {"type":"output_text","text":"","annotations":[]}`,
		`response.output_text.delta "Hi"`,
		`response.output_text.annotation.added {"type":"url_citation","url":"u"}`,
		`response.output_text.done "Hi"`,
		`response.content_part.done {"type":"output_text","text":"Hi","annotations":[{"type":"url_citation","url":"u"}]}`,
		`response.content_part.added {"type":"refusal","refusal":""}`,
		`response.refusal.delta "No"`,
		`response.refusal.done "No"`,
		`response.content_part.done {"type":"refusal","refusal":"No"}`,
		`response.output_item.done {"id":"m","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[{"type":"url_citation","url":"u"}]},{"type":"refusal","refusal":"No"}]}`,
		`response.output_item.added {"id":"f","type":"function_call","name":"g","call_id":"c","arguments":""}`,
		`response.function_call_arguments.delta "{\"x\":1}"`,
		`response.function_call_arguments.done "{\"x\":1}"`,
		`response.output_item.done {"id":"f","type":"function_call","name":"g","call_id":"c","arguments":"{\"x\":1}"}`,
		`response.output_item.added {"id":"t","type":"custom_tool_call","name":"h","call_id":"d","input":""}`,
		`response.custom_tool_call_input.delta "raw"`,
		`response.custom_tool_call_input.done "raw"`,
		`response.output_item.done {"id":"t","type":"custom_tool_call","name":"h","call_id":"d","input":"raw"}`,
		`response.output_item.added {"id":"w","type":"web_search_call","status":"in_progress"}`,
		`response.output_item.done {"id":"w","type":"web_search_call","status":"completed"}`,
		`response.completed ` + strings.ReplaceAll(wholeResponse, "\n", " "),
	}
	var got []string
	joiner := NewJoiner(endpointOf(t, "/v1/responses"))
	ok := SplitAnswer(endpointOf(t, "/v1/responses"), []byte(wholeResponse), func(name string, data []byte, usage bool) {
		var e struct {
			Type           string
			SequenceNumber int `json:"sequence_number"`
		}
		if err := json.Unmarshal(data, &e); err != nil || e.Type != name || e.SequenceNumber != len(got) || usage {
			t.Errorf("%s: %v", data, err)
		}
		about := ""
		for _, key := range []string{"response", "item", "part", "delta", "text", "refusal", "arguments", "input", "annotation"} {
			if v := member(data, key); v != nil {
				about = string(v)
			}
		}
		got = append(got, name+" "+about)
		joiner.Add([]byte(name), data)
	})
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("ok %v (-want +got):\n%s", ok, diff)
	}
	if whole, ok := joiner.Answer(); !ok || string(whole) != strings.ReplaceAll(wholeResponse, "\n", " ") {
		t.Errorf("joined again: %s", whole)
	}
}

// TestJoinAndSplit joins the events of each endpoint, and splits the result.
func TestJoinAndSplit(t *testing.T) {
	t.Parallel()
	const responses, images, edits = "/v1/responses", "/v1/images/generations", "/v1/images/edits"
	for _, tt := range []struct {
		name, path  string
		events      string // a line each: name, a space, data
		whole       string // "" if they cannot be joined
		splitEvents string // "" if the whole cannot be split
	}{
		{"a response whose output was sent before", responses, `response.output_item.done {"type":"response.output_item.done","item":{"id":"a"}}
response.output_item.done {"type":"response.output_item.done","item":{"id":"b"}}
response.completed {"type":"response.completed","response":{"status":"completed","output":[]}}`, `{"status":"completed","output":[{"id":"a"},{"id":"b"}]}`, ""},
		{"a response without output", responses, `response.output_item.done {"type":"response.output_item.done","item":{"id":"a"}}
response.completed {"type":"response.completed","response":{"status":"completed"}}`, `{"status":"completed","output":[{"id":"a"}]}`, ""},
		{"a response with output", responses, `response.output_item.done {"type":"response.output_item.done","item":{"id":"a"}}
response.completed {"type":"response.completed","response":{"output":[{"id":"b"}]}}`, `{"output":[{"id":"b"}]}`, ""},
		{"an incomplete response", responses, ` {"type":"response.incomplete","response":{"status":"incomplete","output":[]}}`, `{"status":"incomplete","output":[]}`,
			`response.created {"type":"response.created","sequence_number":0,"response":{"status":"in_progress","output":[]}}
response.in_progress {"type":"response.in_progress","sequence_number":1,"response":{"status":"in_progress","output":[]}}
response.incomplete {"type":"response.incomplete","sequence_number":2,"response":{"status":"incomplete","output":[]}}`},
		{"a whole response in one event", responses, ` {"object":"response","status":"queued","output":[]}`, `{"object":"response","status":"queued","output":[]}`, "none"},
		{"a response that does not end", responses, ` {"type":"response.created","response":{}}
 {"type":"response.output_text.delta","delta":"Hi"}`, "", ""},
		{"two images", images, ` {"type":"image_generation.partial_image","b64_json":"QQ=="}
 {"type":"image_generation.completed","b64_json":"QUI=","created_at":7,"quality":"low"}
 {"type":"image_generation.completed","b64_json":"QUJD","created_at":8,"quality":"low","usage":{"output_tokens":2}}`,
			`{"created":7,"quality":"low","usage":{"output_tokens":2},"data":[{"b64_json":"QUI="},{"b64_json":"QUJD"}]}`,
			`image_generation.completed {"type":"image_generation.completed","b64_json":"QUI=","created_at":7,"quality":"low"}
image_generation.completed {"type":"image_generation.completed","b64_json":"QUJD","created_at":7,"quality":"low","usage":{"output_tokens":2}}`},
		{"an edited image at an address", edits, `image_edit.completed {"url":"https://x","revised_prompt":"a"}`, `{"data":[{"url":"https://x","revised_prompt":"a"}]}`,
			`image_edit.completed {"type":"image_edit.completed","url":"https://x","revised_prompt":"a"}`},
		{"an image without data", images, ` {"type":"image_generation.completed"}
 {"type":"image_generation.completed"}`, "", ""},
		{"partial images alone", images, ` {"type":"image_generation.partial_image","b64_json":"QQ=="}
 {"type":"image_generation.partial_image","b64_json":"QUI="}`, "", ""},
		{"an answer in an event", "/v1/rerank", ` {"results":[1]}
 [DONE]`, `{"results":[1]}`, "none"},
		{"two events of an endpoint without streams", "/v1/rerank", ` {"results":[1]}
 {"results":[2]}`, "", ""},
		{"nothing", "/v1/chat/completions", ` [DONE]`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := endpointOf(t, tt.path)
			joiner := NewJoiner(e)
			for line := range strings.SplitSeq(tt.events, "\n") {
				name, data, _ := strings.Cut(line, " ")
				joiner.Add([]byte(name), []byte(data))
			}
			whole, ok := joiner.Answer()
			if ok != (tt.whole != "") || ok && string(whole) != tt.whole {
				t.Fatalf("joined to %s, %v; want %s", whole, ok, tt.whole)
			}
			if tt.splitEvents == "" {
				return
			}
			var got []string
			if !SplitAnswer(e, whole, func(name string, data []byte, _ bool) { got = append(got, name+" "+string(data)) }) {
				got = []string{"none"}
			}
			if diff := cmp.Diff(strings.Split(tt.splitEvents, "\n"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzSplitAnswer checks that what any answer is split to is valid JSON, one line each, and that it joins to valid JSON.
func FuzzSplitAnswer(f *testing.F) {
	f.Add([]byte(wholeChat))
	f.Add([]byte(wholeResponse))
	f.Add([]byte(`{"created":1,"data":[{"b64_json":"QQ=="},{"url":"u"}],"usage":{"input_tokens":1}}`))
	f.Add([]byte(`{"output":[{"type":"message","content":[{"type":"output_text"},{"text":1},[]]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/v1/chat/completions", "/v1/responses", "/v1/images/generations", "/v1/rerank"} {
			e := endpointOf(t, path)
			joiner := NewJoiner(e)
			ok := SplitAnswer(e, body, func(name string, data []byte, _ bool) {
				if json.Valid(body) && !json.Valid(data) || strings.ContainsAny(string(data), "\r\n") {
					t.Fatalf("%s: %q became %q", path, body, data)
				}
				joiner.Add([]byte(name), data)
			})
			if whole, joined := joiner.Answer(); ok && joined && json.Valid(body) && !json.Valid(whole) {
				t.Fatalf("%s: %q became %q", path, body, whole)
			}
		}
	})
}
