package dialect

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func scan(t testing.TB, body string) *jsonspan.Object {
	t.Helper()
	var o jsonspan.Object
	if err := o.Scan([]byte(body)); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return &o
}

func indented(t testing.TB, body []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return b.String()
}

const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func TestChatFromMessages(t *testing.T) {
	t.Parallel()
	all := ChatOptions{TopK: true, Reasoning: true}
	for _, test := range []struct {
		name    string
		options ChatOptions
		in, out string
	}{
		{
			"text", all,
			`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi \u00e9"}]}`,
			`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi \u00e9"}]}`,
		},
		{
			"a stream is asked for its usage", all,
			`{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"model":"m","max_tokens":9,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"system as blocks, without the accounting of Claude Code", all,
			`{"max_tokens":9,"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":"A","cache_control":{"type":"ephemeral"}},{"type":"text","text":"B"}],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"messages":[{"role":"system","content":"A\n\nB"},{"role":"user","content":"Hi"}]}`,
		},
		{
			"parameters", all,
			`{"max_tokens":9,"stop_sequences":["a","b"],"temperature":0.50,"top_p":0.9,"top_k":4,"metadata":{"user_id":"u"},"service_tier":"auto","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"stop":["a","b"],"temperature":0.50,"top_p":0.9,"top_k":4,"user":"u","messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"the parameters of OpenAI", ChatOptions{CompletionTokens: true},
			`{"max_tokens":9,"top_k":4,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Yes"}]}]}`,
			`{"max_completion_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes"}]}`,
		},
		{
			"tools, parallel calls, results and text after them", all,
			`{"max_tokens":9,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"messages":[
				{"role":"user","content":"Hi"},
				{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Let me see"},{"type":"tool_use","id":"a","name":"f","input":{"x": 1}},{"type":"tool_use","id":"b","name":"f","input":{}}]},
				{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"tool_result","tool_use_id":"b","is_error":true,"content":[{"type":"text","text":"no"}]},{"type":"text","text":"Go on"}]}]}`,
			`{"max_tokens":9,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"required","parallel_tool_calls":false,"messages":[
				{"role":"user","content":"Hi"},
				{"role":"assistant","content":"Let me see","reasoning_content":"hm","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},
				{"role":"tool","tool_call_id":"a","content":"1"},
				{"role":"tool","tool_call_id":"b","content":"Error: no"},
				{"role":"user","content":[{"type":"text","text":"Go on"}]}]}`,
		},
		{
			"a call without text has no content", all,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":""}]}`,
		},
		{
			"an image in a result becomes the user's", all,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"see"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png + `"}}]}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"see"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]}]}`,
		},
		{
			"images, documents, search results and unknown blocks", all,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERg=="},"title":"t.pdf"},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain"}},{"type":"search_result","title":"T","source":"S","content":[{"type":"text","text":"found"}]},{"type":"from_the_future","x":1},{"type":"text","text":""}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"file","file":{"filename":"t.pdf","file_data":"data:application/pdf;base64,JVBERg=="}},{"type":"text","text":"plain"},{"type":"text","text":"T\nS\nfound"}]}]}`,
		},
		{
			"thinking by effort", all,
			`{"max_tokens":9,"thinking":{"type":"enabled","budget_tokens":8192},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"reasoning_effort":"medium","messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"thinking by template", ChatOptions{Thinking: Template},
			`{"max_tokens":9,"thinking":{"type":"disabled"},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"chat_template_kwargs":{"enable_thinking":false},"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"adaptive thinking with an effort and a schema", all,
			`{"max_tokens":9,"thinking":{"type":"adaptive"},"output_config":{"effort":"max","format":{"type":"json_schema","schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"reasoning_effort":"high","response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := ChatFromMessages(scan(t, test.in), test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indented(t, []byte(test.out)), indented(t, got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestChatFromMessagesRefuses(t *testing.T) {
	t.Parallel()
	deep := `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":`
	for _, test := range []struct{ name, in, want string }{
		{"no max_tokens", `{"messages":[{"role":"user","content":"Hi"}]}`, "max_tokens: is missing"},
		{"max_tokens of zero", `{"max_tokens":0,"messages":[{"role":"user","content":"Hi"}]}`, "max_tokens: must be a whole number"},
		{"no messages", `{"max_tokens":9,"messages":[]}`, "messages: is empty"},
		{"messages that are none", `{"max_tokens":9,"messages":"Hi"}`, "messages: must be a list"},
		{"unknown role", `{"max_tokens":9,"messages":[{"role":"tool","content":"Hi"}]}`, "messages.0.role: "},
		{"content that is a number", `{"max_tokens":9,"messages":[{"role":"user","content":1}]}`, "messages.0.content: must be"},
		{"block without type", `{"max_tokens":9,"messages":[{"role":"user","content":[{"text":"Hi"}]}]}`, "messages.0.content.0: must be an object with a type"},
		{"text that is not a string", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages.0.content.0.text: must be a string"},
		{"result without its call", deep + `"1"}]}]}`, "messages.0.content.0.tool_use_id: no message before"},
		{"data that is not an image", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGVsbG8="}}]}]}`, "messages.0.content.0.source.data: is not a base64 image"},
		{"image of the Files API", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]}`, "messages.0.content.0.source: a source of type"},
		{"tool of Anthropic's", `{"max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":"Hi"}]}`, `tools.0.type: the tool "web_search_20250305"`},
		{"unknown tool_choice", `{"max_tokens":9,"tools":[{"name":"f"}],"tool_choice":{"type":"some"},"messages":[{"role":"user","content":"Hi"}]}`, "tool_choice.type: "},
		{"call without an ID", `{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","name":"f","input":{}}]}]}`, "messages.0.content.0.id: is missing"},
		{"call with a string", `{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":"x"}]}]}`, "messages.0.content.0.input: must be an object"},
		{"MCP servers", `{"max_tokens":9,"mcp_servers":[{"url":"x"}],"messages":[{"role":"user","content":"Hi"}]}`, "mcp_servers: only Anthropic's own API"},
		{"image in the system prompt", `{"max_tokens":9,"system":[{"type":"image"}],"messages":[{"role":"user","content":"Hi"}]}`, "system.0: a block of type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body, _, err := ChatFromMessages(scan(t, test.in), ChatOptions{})
			if err == nil {
				t.Fatalf("translated to %s", body)
			}
			if err.Status != 400 || !strings.HasPrefix(err.Message, test.want) {
				t.Errorf("status %d: %s", err.Status, err.Message)
			}
		})
	}
}

func TestToolNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("mcp__server__", 9)
	in := `{"max_tokens":9,"tools":[{"name":"` + long + `a"},{"name":"` + long + `b"},{"name":"plain"}],"messages":[{"role":"user","content":"Hi"}]}`
	body, names, err := ChatFromMessages(scan(t, in), ChatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var request struct {
		Tools []struct{ Function struct{ Name string } }
	}
	if err := json.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	var short, original []string
	for _, tool := range request.Tools {
		if len(tool.Function.Name) > 64 {
			t.Errorf("%q is too long", tool.Function.Name)
		}
		short = append(short, tool.Function.Name)
		original = append(original, names.Original(tool.Function.Name))
	}
	if short[0] == short[1] {
		t.Error("two tools have the same short name")
	}
	if diff := cmp.Diff([]string{long + "a", long + "b", "plain"}, original); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesFromChat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, out string }{
		{
			"text and system", `{"model":"m","messages":[{"role":"system","content":"A"},{"role":"developer","content":[{"type":"text","text":"B"}]},{"role":"user","content":"Hi"}]}`,
			`{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"system":[{"type":"text","text":"A"},{"type":"text","text":"B"}]}`,
		},
		{
			"parameters", `{"max_completion_tokens":7,"max_tokens":8,"temperature":1.5,"top_p":0.5,"stop":["a"," "],"user":"u","seed":1,"logit_bias":{},"stream":true,"stream_options":{"include_usage":true},"reasoning_effort":"minimal","messages":[{"role":"user","content":"Hi"}]}`,
			`{"stream":true,"max_tokens":7,"temperature":1,"stop_sequences":["a"],"metadata":{"user_id":"u"},"output_config":{"effort":"low"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"tools, calls and results in one turn",
			`{"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{}}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}],"tool_calls":[{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":""}},{"id":"b","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","tool_call_id":"functions.f:0","content":"1"},{"role":"tool","tool_call_id":"b","content":[{"type":"text","text":"2"}]},{"role":"user","content":"Go on"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"functions_f_0","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{"x":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"functions_f_0","content":"1"},{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"2"}]},{"type":"text","text":"Go on"}]}]}`,
		},
		{
			"images and files", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `","detail":"low"}},{"type":"image_url","image_url":"https://x/y.png"},{"type":"file","file":{"filename":"t.pdf","file_data":"data:application/pdf;base64,JVBERg=="}}]}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png + `"}},{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERg=="},"title":"t.pdf"}]}]}`,
		},
		{
			"a schema", `{"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}},"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := MessagesFromChat(scan(t, test.in), 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indented(t, []byte(test.out)), indented(t, got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMessagesFromChatRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"several answers", `{"n":2,"messages":[{"role":"user","content":"Hi"}]}`, "n: "},
		{"no messages", `{"messages":[]}`, "messages: is empty"},
		{"unknown role", `{"messages":[{"role":"owl","content":"Hi"}]}`, "messages.0.role: "},
		{"sound", `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]}`, "messages.0.content.0: a part of type"},
		{"arguments that are cut", `{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\":"}}]}]}`, "messages.0.tool_calls.0.function.arguments: "},
		{"result without an ID", `{"messages":[{"role":"tool","content":"1"}]}`, "messages.0.tool_call_id: is missing"},
		{"hosted tool", `{"tools":[{"type":"web_search"}],"messages":[{"role":"user","content":"Hi"}]}`, "tools.0: a tool of type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body, err := MessagesFromChat(scan(t, test.in), 0)
			if err == nil {
				t.Fatalf("translated to %s", body)
			}
			if !strings.HasPrefix(err.Message, test.want) {
				t.Error(err.Message)
			}
		})
	}
}

// Translations of any JSON are JSON, and never panic.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"max_tokens":9,"system":[{"type":"text","text":"A"}],"tools":[{"name":"f"}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`))
	f.Add([]byte(`{"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		if chat, _, err := ChatFromMessages(&o, ChatOptions{TopK: true, Reasoning: true}); err == nil && !json.Valid(chat) {
			t.Errorf("%s becomes %s", body, chat)
		}
		if messages, err := MessagesFromChat(&o, 0); err == nil && !json.Valid(messages) {
			t.Errorf("%s becomes %s", body, messages)
		}
	})
}
