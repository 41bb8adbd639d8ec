package fakellm

import (
	"net/http"
	"strings"
	"testing"
)

// A steered server follows the words in the conversation, in both APIs.
func TestSteered(t *testing.T) {
	t.Parallel()
	const (
		tools  = `"tools":[{}],`
		result = `{"role":"tool","tool_call_id":"a","content":"21"}`
	)
	for _, test := range []struct{ name, rest, openai, anthropic string }{
		{"nothing", `"messages":[{"role":"user","content":"Hi"}]`, `"content":"Hello from the tiny test model."`, `[{"type":"text","text":"Hello from the tiny test model."}],"stop_reason":"end_turn"`},
		{"thinking", `"messages":[{"role":"user","content":"THINK"}]`, `model.","reasoning_content":"The user wants a greeting."`, `"content":[{"type":"thinking","thinking":"The user wants a greeting.","signature":"Eq`},
		{"tools", tools + `"messages":[{"role":"user","content":"THINK"}]`, `"content":null,"tool_calls":[{"id":"call_1_0","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]`,
			`"content":[{"type":"tool_use","id":"toolu_1_0","name":"get_weather","input":{"city":"Paris"}}],"stop_reason":"tool_use"`},
		{"a result", tools + `"messages":[{"role":"user","content":"Hi"},` + result + `]`, `"It is 21 degrees!"`, `"It is 21 degrees!"`},
		{"first step", tools + `"messages":[{"role":"user","content":"FETCH"}]`, `notes.txt`, `"name":"Read","input":{"file_path":"notes.txt"}`},
		{"second step", tools + `"messages":[{"role":"user","content":"FETCH"},{"role":"tool","content":"STORE"}]`, `KEPT.txt`, `"name":"Write","input":{"file_path":"KEPT.txt","content":"kept"}`},
		{"last step", tools + `"messages":[{"role":"user","content":"FETCH"},{"role":"tool","content":"STORE, KEPT"}]`, `"The notes are kept safely."`, `"The notes are kept safely."`},
		{"without tools", `"messages":[{"role":"user","content":"FETCH"}]`, `"Hello from`, `"Hello from`},
		{"a limit", `"messages":[{"role":"user","content":"LONG"}]`, `" one two three"`, `" one two three"}],"stop_reason":"max_tokens"`},
		{"an image in OpenAI's format", `"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]}]`, `"An image/png of 4 characters."`, `"An image/png of 4 characters."`},
		{"an image in Anthropic's format", `"messages":[{"role":"user","content":[{"type":"image","source":{"data":"aGk=","media_type":"image/png","type":"base64"}}]}]`, `"An image/png of 4 characters."`, `"An image/png of 4 characters."`},
		{"an error in a stream", `"stream":true,"messages":[{"role":"user","content":"BREAK"}]`, `data: {"error":{"message":"The server had an error`, "event: error\ndata: "},
		{"a status", `"messages":[{"role":"user","content":"STATUS 529"}]`, `"scripted status 529"`, `{"type":"error","error":{"type":"overloaded_error"`},
	} {
		for kind, want := range map[string]string{"openai": test.openai, "anthropic": test.anthropic} {
			t.Run(test.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := Start(t, kind, Steered())
				path := map[string]string{"openai": chatPath, "anthropic": messagesPath}[kind]
				if got := all(t, steeredPost(t, s, path, `{"model":"tiny","max_tokens":3,`+test.rest+`}`)); !strings.Contains(got, want) {
					t.Errorf("got %s\nwant %s", got, want)
				}
			})
		}
	}
}

func steeredPost(t *testing.T, s *Server, path, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// Reasoning and calls are streamed in the parts that clients assemble. Each part counts as a token.
func TestStreamedBlocks(t *testing.T) {
	t.Parallel()
	answer := Text("a").Thinking("b").Call("f", `{"x":1}`)
	for kind, want := range map[string][]string{
		"openai": {
			`"delta":{"reasoning_content":"b"}`, `"delta":{"content":"a"}`, `"function":{"name":"f","arguments":""}}]}`, `"tool_calls":[{"index":0,"function":{"arguments":"{\"x"}}]`,
			`"arguments":"\":1}"`, `"finish_reason":"tool_calls"`,
		},
		"anthropic": {
			`"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}`, `"index":0,"delta":{"type":"thinking_delta","thinking":"b"}`, `"type":"signature_delta"`,
			`{"type":"content_block_stop","index":0}`, `"index":1,"content_block":{"type":"text","text":""}`, `"text_delta","text":"a"`, `{"type":"content_block_stop","index":1}`,
			`"index":2,"content_block":{"type":"tool_use","id":"toolu_1_0","name":"f","input":{}}`, `"index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x"}`,
			`{"type":"content_block_stop","index":2}`, `"stop_reason":"tool_use"`, `message_stop`,
		},
	} {
		s := Start(t, kind)
		s.Next(answer, answer.CutAfter(2))
		path := map[string]string{"openai": chatPath, "anthropic": messagesPath}[kind]
		got := all(t, steeredPost(t, s, path, `{"model":"tiny","max_tokens":3,"stream":true,"messages":[{}]}`))
		rest := got
		for _, part := range want {
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Errorf("%s: %s does not follow in\n%s", kind, part, got)
			}
			rest = after
		}
		if cut := all(t, steeredPost(t, s, path, `{"model":"tiny","max_tokens":3,"stream":true,"messages":[{}]}`)); strings.Contains(cut, `"f"`) {
			t.Errorf("%s: the fault came too late: %s", kind, cut)
		}
	}
}
