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
			"the parameters of OpenAI", ChatOptions{},
			`{"max_tokens":9,"top_k":4,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Yes"}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes"}]}`,
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
			"thinking, an effort and a schema, which the upstream turns into what its servers know", all,
			`{"max_tokens":9,"thinking":{"type":"enabled","budget_tokens": 8192},"output_config":{"effort":"xhigh","format":{"type":"json_schema","schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"thinking":{"type":"enabled","budget_tokens": 8192},"reasoning_effort":"xhigh","response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"thinking for the pipeline", AllOptions,
			`{"max_tokens":9,"thinking":{"type":"adaptive"},"output_config":{"effort":"max"},"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"redacted_thinking","data":"r"},{"type":"thinking","thinking":"b","signature":"llm_proxy.unsigned"},{"type":"text","text":"c"}]}]}`,
			`{"max_tokens":9,"thinking":{"type":"adaptive"},"reasoning_effort":"max","messages":[{"role":"assistant","content":"c","reasoning_content":"ab","thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"redacted_thinking","data":"r"}]}]}`,
		},
		{
			"the schema of the answer by its name in a beta", all,
			`{"max_tokens":9,"output_format":{"type":"json_schema","schema":{"type":"object"}},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"more than four stop sequences are for the upstream to judge", all,
			`{"max_tokens":9,"stop_sequences":["a","b","c","d","e"],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"stop":["a","b","c","d","e"],"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"one tool by choice", all,
			`{"max_tokens":9,"tools":[{"type":"custom","name":"f","input_schema":{},"strict":true,"cache_control":{},"defer_loading":true}],"tool_choice":{"type":"tool","name":"f"},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"tools":[{"type":"function","function":{"name":"f","parameters":{},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}},"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"no tool by choice", all,
			`{"max_tokens":9,"tools":[{"name":"f"}],"tool_choice":{"type":"none"},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none","messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"a choice without tools means nothing", all,
			`{"max_tokens":9,"tools":[],"tool_choice":{"type":"any"},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"several texts, empty texts and unknown blocks of the assistant", all,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":""},{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"text","text":"b"}]},{"role":"assistant","content":[]}]}`,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":"a\n\nb"},{"role":"assistant","content":""}]}`,
		},
		{
			"a message without anything known", all,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"from_the_future"},{"type":"text","text":""}]},{"role":"user","content":[]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":""},{"role":"user","content":""}]}`,
		},
		{
			"a system message in the middle", all,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"system","content":"A"},{"role":"system","content":[{"type":"text","text":"B"}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"system","content":"A"},{"role":"system","content":"B"}]}`,
		},
		{
			"an empty system prompt, and one that is only accounting", all,
			`{"max_tokens":9,"system":[{"type":"text","text":""},{"type":"text","text":"x-anthropic-billing-header: a"}],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"results with several texts, with an error and without content", all,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"},{"type":"tool_use","id":"b","name":"f","input":{}},{"type":"tool_use","id":"c","name":"f","input":{}}]},{"role":"user","content":[{"type":"text","text":"first"},{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"1"},{"type":"text","text":"2"},{"type":"tool_reference","tool_name":"g"}]},{"type":"tool_result","tool_use_id":"b","is_error":true},{"type":"tool_result","tool_use_id":"c","is_error":false,"content":[]}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1\n2"},{"role":"tool","tool_call_id":"b","content":"Error: "},{"role":"tool","tool_call_id":"c","content":""},{"role":"user","content":[{"type":"text","text":"first"}]}]}`,
		},
		{
			"the upstream gets its own ID back", all,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"llm_proxy_ZnVuY3Rpb25zLmY6MA","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"llm_proxy_ZnVuY3Rpb25zLmY6MA","content":"1"}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"functions.f:0","content":"1"}]}`,
		},
		{
			"documents of every form", all,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERg=="}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":""}},{"type":"document","source":{"type":"content","content":"c"}},{"type":"document","title":"t","context":"x","citations":{"enabled":true},"source":{"type":"content","content":[{"type":"text","text":"d"}]}}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBERg=="}},{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}`,
		},
		{
			"an image with another media type than it says", all,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/jpg","data":"` + png + `"}}]}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]}]}`,
		},
		{
			"what other services do not know", all,
			`{"max_tokens":9,"cache_control":{"type":"ephemeral"},"context_management":{},"inference_geo":"us","service_tier":"auto","from_the_future":1,"mcp_servers":[],"container":null,"stop_sequences":null,"metadata":{"user_id":null},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"counting needs no limit", ChatOptions{Counting: true},
			`{"messages":[{"role":"user","content":"Hi"}]}`,
			`{"messages":[{"role":"user","content":"Hi"}]}`,
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
		{"image whose base64 is malformed in the middle", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png[:60] + "*" + png[61:] + `"}}]}]}`, "messages.0.content.0.source.data: is not a base64 image"},
		{"image that is cut", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png[:61] + `"}}]}]}`, "messages.0.content.0.source.data: is not a base64 image"},
		{"image without data", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png"}}]}]}`, "messages.0.content.0.source.data: is not a base64 image"},
		{"image of a file", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"file:///etc/passwd"}}]}]}`, "messages.0.content.0.source.url: must begin with https://"},
		{"image without a source", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"image"}]}]}`, "messages.0.content.0.source: a source of type"},
		{"document that is no PDF", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"text/html","data":"PGI+"}}]}]}`, "messages.0.content.0.source.media_type: must be application/pdf"},
		{"document that is not base64", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"%PDF"}}]}]}`, "messages.0.content.0.source.data: is not valid base64"},
		{"document by its URL", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x/y.pdf"}}]}]}`, "messages.0.content.0.source: a source of type"},
		{"document of text that is a number", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"text","data":1}}]}]}`, "messages.0.content.0.source.data: must be a string"},
		{"document without content", `{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"content"}}]}]}`, "messages.0.content.0.source.content: must be a list"},
		{"result that is a number", `{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":1}]}]}`, "messages.1.content.0.content: must be a list"},
		{"call without a name", `{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","input":{}}]}]}`, "messages.0.content.0.name: is missing"},
		{"choice of no tool in particular", `{"max_tokens":9,"tools":[{"name":"f"}],"tool_choice":{"type":"tool"},"messages":[{"role":"user","content":"Hi"}]}`, "tool_choice.name: is missing"},
		{"tool without a name", `{"max_tokens":9,"tools":[{"input_schema":{}}],"messages":[{"role":"user","content":"Hi"}]}`, "tools.0.name: is missing"},
		{"tools that are none", `{"max_tokens":9,"tools":{"name":"f"},"messages":[{"role":"user","content":"Hi"}]}`, "tools: must be a list"},
		{"stop_sequences that are a string", `{"max_tokens":9,"stop_sequences":"a","messages":[{"role":"user","content":"Hi"}]}`, "stop_sequences: must be a list of strings"},
		{"container", `{"max_tokens":9,"container":"c","messages":[{"role":"user","content":"Hi"}]}`, "container: only Anthropic's own API"},
		{"system that is a number", `{"max_tokens":9,"system":1,"messages":[{"role":"user","content":"Hi"}]}`, "system: must be a string"},
		{"image in a system message", `{"max_tokens":9,"messages":[{"role":"system","content":[{"type":"image"}]}]}`, "messages.0.content.0: a block of type"},
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
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"llm_proxy_ZnVuY3Rpb25zLmY6MA","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{"x":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"llm_proxy_ZnVuY3Rpb25zLmY6MA","content":"1"},{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"2"}]},{"type":"text","text":"Go on"}]}]}`,
		},
		{
			"images and files", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `","detail":"low"}},{"type":"image_url","image_url":"https://x/y.png"},{"type":"file","file":{"filename":"t.pdf","file_data":"data:application/pdf;base64,JVBERg=="}}]}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png + `"}},{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERg=="},"title":"t.pdf"}]}]}`,
		},
		{
			"a schema", `{"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}},"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"the choice of tools: auto", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"auto"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"the choice of tools: none, one at a time", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none","parallel_tool_calls":false,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"none"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"the choice of tools: required", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"any"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"the choice of tools: null", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":null,"parallel_tool_calls":true,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"a choice without tools means nothing", `{"tools":[],"tool_choice":"none","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"schemas of tools", `{"tools":[{"type":"function","function":{"name":"a","parameters":{}}},{"type":"function","function":{"name":"b","description":"d","strict":true,"parameters":{ "required":["x"]}}},{"type":"function","function":{"name":"c","strict":false,"parameters":null}}],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"tools":[{"name":"a","input_schema":{"type":"object"}},{"name":"b","description":"d","input_schema":{"type":"object","required":["x"]},"strict":true},{"name":"c","input_schema":{"type":"object","properties":{}}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"stop as a string", `{"stop":"a","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"stop_sequences":["a"],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"stop without anything in it", `{"stop":["\n",""],"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"a temperature up to 1", `{"max_tokens":1,"temperature":0.70,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":1,"temperature":0.70,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"top_p and top_k", `{"top_p":0.9,"top_k":5,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"top_p":0.9,"top_k":5,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"the end user", `{"user":"u","safety_identifier":"s","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"metadata":{"user_id":"s"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"no effort", `{"reasoning_effort":"none","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"thinking":{"type":"disabled"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"an effort that is unknown", `{"reasoning_effort":"heroic","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"Ollama's thinking, off", `{"think":false,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"thinking":{"type":"disabled"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"Ollama's thinking, a level", `{"think":"max","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"output_config":{"effort":"max"},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"thinking as Anthropic has it", `{"thinking":{"type":"enabled","budget_tokens":2048},"reasoning_effort":"none","messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":2048},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"an effort and a schema", `{"reasoning_effort":"xhigh","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"output_config":{"effort":"xhigh","format":{"type":"json_schema","schema":{}}},"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"JSON without a schema", `{"response_format":{"type":"json_object"},"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"what has no counterpart", `{"frequency_penalty":1,"presence_penalty":1,"logprobs":true,"top_logprobs":2,"seed":1,"store":true,"metadata":{},"prediction":{},"verbosity":"low","modalities":["text"],"service_tier":"auto","prompt_cache_key":"k","functions":[],"n":1,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"empty texts, null and refusals", `{"messages":[{"role":"user","content":""},{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"a"}],"name":"n"},{"role":"assistant","content":null,"refusal":"No."},{"role":"assistant","content":[{"type":"refusal","refusal":"Never."}]},{"role":"user","content":null},{"role":"system","content":""},{"role":"user","content":"b"}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":[{"type":"text","text":"No."},{"type":"text","text":"Never."}]},{"role":"user","content":[{"type":"text","text":"b"}]}]}`,
		},
		{
			"thinking without a signature is left out", `{"messages":[{"role":"assistant","content":"a","reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm"},{"type":"thinking","thinking":"x","signature":"llm_proxy.unsigned"},{"type":"redacted_thinking","data":"r"},"odd"]}]}`,
			`{"max_tokens":4096,"messages":[{"role":"assistant","content":[{"type":"redacted_thinking","data":"r"},{"type":"text","text":"a"}]}]}`,
		},
		{
			"arguments as an object, and results without content", `{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"x":1}}},{"id":"b","type":"function","function":{"name":"f"}}]},{"role":"tool","tool_call_id":"a","content":[]},{"role":"tool","tool_call_id":"b","content":""}]}`,
			`{"max_tokens":4096,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x":1}},{"type":"tool_use","id":"b","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"b","content":""}]}]}`,
		},
		{
			"an image with another media type than it says, and a file of text", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/jpg;base64,` + png + `"}},{"type":"file","file":{"file_data":"data:text/plain;charset=utf-8;base64,w6kK"}}]}]}`,
			`{"max_tokens":4096,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + png + `"}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"é\n"}}]}]}`,
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
		{"custom tool", `{"tools":[{"type":"custom","custom":{"name":"f"}}],"messages":[{"role":"user","content":"Hi"}]}`, "tools.0: a tool of type \"custom\""},
		{"tool without a name", `{"tools":[{"type":"function","function":{}}],"messages":[{"role":"user","content":"Hi"}]}`, "tools.0.function.name: is missing"},
		{"tools that are none", `{"tools":{"a":1},"messages":[{"role":"user","content":"Hi"}]}`, "tools: must be a list"},
		{"choice of tools: custom", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"custom","custom":{"name":"f"}},"messages":[{"role":"user","content":"Hi"}]}`, "tool_choice: only auto, none, required and a function"},
		{"choice of tools: allowed tools", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}},"messages":[{"role":"user","content":"Hi"}]}`, "tool_choice: only auto, none, required and a function"},
		{"choice of tools: unknown", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"some","messages":[{"role":"user","content":"Hi"}]}`, "tool_choice: only auto, none, required and a function"},
		{"choice of tools: a number", `{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":1,"messages":[{"role":"user","content":"Hi"}]}`, "tool_choice: only auto, none, required and a function"},
		{"functions", `{"functions":[{"name":"f"}],"function_call":"auto","messages":[{"role":"user","content":"Hi"}]}`, "functions: cannot be translated"},
		{"legacy call", `{"messages":[{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}]}`, "messages.0.function_call: cannot be translated"},
		{"legacy result", `{"messages":[{"role":"function","name":"f","content":"1"}]}`, "messages.0.role: function cannot be translated"},
		{"custom call", `{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"custom","custom":{"name":"f","input":"x"}}]}]}`, "messages.0.tool_calls.0.function.name: is missing"},
		{"call without an ID", `{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}`, "messages.0.tool_calls.0.id: is missing"},
		{"arguments that are a number", `{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"1"}}]}]}`, "messages.0.tool_calls.0.function.arguments: is not a JSON object"},
		{"calls that are none", `{"messages":[{"role":"assistant","tool_calls":{"id":"a"}}]}`, "messages.0.tool_calls: must be a list"},
		{"result without its call", `{"messages":[{"role":"tool","tool_call_id":"a","content":"1"}]}`, "messages.0.tool_call_id: no message before this one"},
		{"audio in the answer", `{"modalities":["text","audio"],"audio":{},"messages":[{"role":"user","content":"Hi"}]}`, "modalities: "},
		{"search", `{"web_search_options":{},"messages":[{"role":"user","content":"Hi"}]}`, "web_search_options: "},
		{"stop that is a number", `{"stop":1,"messages":[{"role":"user","content":"Hi"}]}`, "stop: must be a list of strings"},
		{"stop with a number", `{"stop":["a",1],"messages":[{"role":"user","content":"Hi"}]}`, "stop: must be a list of strings"},
		{"a system prompt alone", `{"messages":[{"role":"system","content":"A"}]}`, "messages: must have a message with content"},
		{"nothing but empty messages", `{"messages":[{"role":"user","content":""}]}`, "messages: must have a message with content"},
		{"image in the system prompt", `{"messages":[{"role":"system","content":[{"type":"image_url"}]}]}`, "messages.0.content.0: only text"},
		{"content that is a number", `{"messages":[{"role":"user","content":1}]}`, "messages.0.content: must be a list"},
		{"invalid image", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGVsbG8="}}]}]}`, "messages.0.content.0: is not a base64 image"},
		{"image whose base64 is malformed", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png[:60] + "*" + png[61:] + `"}}]}]}`, "messages.0.content.0: is not a base64 image"},
		{"image of a file", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}`, "messages.0.content.0: the URL of an image"},
		{"image not in base64", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/svg+xml,<svg/>"}}]}]}`, "messages.0.content.0: the URL of an image"},
		{"file by its ID", `{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]}`, "messages.0.content.0: only PDF and text"},
		{"file of another type", `{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/zip;base64,UEsDBA=="}}]}]}`, "messages.0.content.0: only PDF and text"},
		{"file that is not base64", `{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,%PDF"}}]}]}`, "messages.0.content.0.file.file_data: is not valid base64"},
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
