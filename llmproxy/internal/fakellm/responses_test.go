package fakellm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
)

// OpenAI's responses have all events, in order, and all members that SDKs require, whatever is in them.
func TestResponses(t *testing.T) {
	t.Parallel()
	const tools = `"tools":[{"type":"custom","name":"apply_patch"},{"type":"namespace","name":"mcp__x__","tools":[{"type":"function","name":"g"}]},{"type":"function","name":"f"},{"type":"web_search"}]`
	for _, test := range []struct {
		name   string
		answer Answer
		status string
		types  string // of the items
		texts  []string
	}{
		{"text", Answer{}, "completed", "message", []string{"Hello from the tiny test model."}},
		{"reasoning", Text("a", "b").Thinking("h", "m"), "completed", "reasoning message", []string{"hm", "ab"}},
		{"calls", Text().Thinking("hm").Call("f", `{"a":1}`).Call("apply_patch", "*** Begin\n").Call("g", "{}"), "completed", "reasoning function_call custom_tool_call function_call", []string{"hm", `{"a":1}`, "*** Begin\n", "{}"}},
		{"a text and a call", Text("a").Call("f", "{}"), "completed", "message function_call", []string{"a", "{}"}},
		{"the limit", Text("a").Finish("length"), "incomplete", "message", []string{"a"}},
		{"the filter", Text("a").Finish("content_filter"), "incomplete", "message", []string{"a"}},
		{"a failure", Text("a", "b").Thinking("hm").FailAfter(2, "rate_limit_exceeded", "slow down"), "failed", "reasoning", []string{"hm"}},
		{"a failure at once", Text("a").RoleFirst().FailAfter(0, "server_error", "down"), "failed", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, "openai")
			s.Always(test.answer)
			check := func(got dialecttest.Response) {
				t.Helper()
				var types, texts []string
				for _, item := range got.Output {
					types = append(types, item["type"].(string))
				}
				for _, kind := range []string{"reasoning", "message", "function_call", "custom_tool_call"} {
					texts = append(texts, got.Texts(kind)...)
				}
				if test.name == "calls" {
					texts[2], texts[3] = texts[3], texts[2] // they are ordered by type
					if got.Output[3]["namespace"] != "mcp__x__" {
						t.Errorf("%v is not in its namespace", got.Output[3])
					}
				}
				if diff := cmp.Diff([]any{test.status, test.types, test.texts}, []any{got.Status, strings.Join(types, " "), texts}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			stream := all(t, steeredPost(t, s, "/v1/responses", `{"model":"tiny","input":"a","stream":true,`+tools+`}`))
			check(dialecttest.ReadResponse(t, []byte(stream)))
			if test.status != "failed" {
				check(dialecttest.ReadWholeResponse(t, []byte(all(t, steeredPost(t, s, "/v1/responses", `{"model":"tiny","input":"a",`+tools+`}`)))))
			}
		})
	}
}

// A steered server does a task of two steps with the tools of Codex, in its API and in chat, to which that is translated.
func TestSteeredCodex(t *testing.T) {
	t.Parallel()
	const (
		command   = `{"type":"function","name":"exec_command"}`
		patch     = `{"type":"custom","name":"apply_patch"}`
		chatTools = `{"type":"function","function":{"name":"exec_command"}},{"type":"function","function":{"name":"apply_patch"}}`
		first     = `{"role":"user","content":"FETCH"}`
	)
	for _, test := range []struct{ name, path, body, want string }{
		{"the first step", "/v1/responses", `"tools":[` + command + `],"input":[` + first + `]`, `"name":"exec_command","arguments":"{\"cmd\":\"cat notes.txt\"}"`},
		{"an older version", "/v1/responses", `"tools":[{"type":"function","name":"shell"}],"input":[` + first + `]`, `"name":"shell","arguments":"{\"command\":[\"cat\",\"notes.txt\"]}"`},
		{"the second step", "/v1/responses", `"tools":[` + command + `],"input":[` + first + `,{"type":"function_call_output","output":"STORE"}]`, `"arguments":"{\"cmd\":\"echo kept > KEPT.txt\"}"`},
		{"the second step, with a patch", "/v1/responses", `"tools":[` + command + `,` + patch + `],"input":[` + first + `,{"type":"function_call_output","output":"STORE"}]`, `"type":"custom_tool_call","status":"completed","call_id":"call_1_0","name":"apply_patch","input":"*** Begin Patch\n*** Add File: KEPT.txt\n+kept\n*** End Patch\n"`},
		{"the last step", "/v1/responses", `"tools":[` + command + `],"input":[` + first + `,{"type":"function_call_output","output":"STORE KEPT"}]`, "The notes are kept safely."},
		{"a result", "/v1/responses", `"tools":[` + command + `],"input":[{"type":"custom_tool_call_output","output":"21"}]`, "It is 21 degrees!"},
		{"in chat", chatPath, `"tools":[` + chatTools + `],"messages":[` + first + `]`, `"name":"exec_command","arguments":"{\"cmd\":\"cat notes.txt\"}"`},
		{"in chat, with a patch", chatPath, `"tools":[` + chatTools + `],"messages":[` + first + `,{"role":"tool","content":"STORE"}]`, `"name":"apply_patch","arguments":"{\"input\":\"*** Begin Patch\\n*** Add File: KEPT.txt`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, "openai", Steered())
			if got := all(t, steeredPost(t, s, test.path, `{"model":"tiny",`+test.body+`}`)); !strings.Contains(got, test.want) {
				t.Errorf("got %s\nwant %s", got, test.want)
			}
		})
	}
}
