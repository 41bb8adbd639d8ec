package dialect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChatFromResponse(t *testing.T) {
	t.Parallel()
	all := ChatOptions{Reasoning: true, Signed: true, Extra: true}
	encrypted := func(members string) string { return `"encrypted_content":"` + encodeReasoning([]byte(members)) + `"` }
	const (
		hi     = `{"role":"user","content":"Hi"}`
		f      = `{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":null}`
		chatF  = `{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}`
		call   = `{"type":"function_call","id":"fc_1","call_id":"a","name":"f","arguments":"{\"x\": 1}","status":"completed"}`
		chatA  = `{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}`
		output = `{"type":"function_call_output","call_id":"a","output":"1"}`
	)
	for _, test := range []struct {
		name    string
		options ChatOptions
		in, out string
	}{
		{
			"a text", all,
			`{"model":"m","input":"Hi \u00e9"}`,
			`{"model":"m","messages":[{"role":"user","content":"Hi \u00e9"}]}`,
		},
		{
			"a stream is asked for its usage", all,
			`{"model":"m","stream":true,"stream_options":{"include_obfuscation":false},"input":"Hi"}`,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[` + hi + `]}`,
		},
		{
			"parameters, some of which only a server knows", all,
			`{"temperature":0.50,"top_p":1e0,"top_k":4,"chat_template_kwargs":{"enable_thinking":false},"a\"b":null,"c\"d":1,"seed":7,"user":"u","safety_identifier":"s","prompt_cache_key":"k","service_tier":"flex","max_output_tokens":100,"n":1,"input":"Hi"}`,
			`{"temperature":0.50,"top_p":1e0,"top_k":4,"chat_template_kwargs":{"enable_thinking":false},"c\"d":1,"seed":7,"user":"u","safety_identifier":"s","prompt_cache_key":"k","service_tier":"flex","max_tokens":100,"messages":[` + hi + `]}`,
		},
		{
			"what has no effect", all,
			`{"store":true,"metadata":{"a":"b"},"client_metadata":{"c":"d"},"truncation":"auto","max_tool_calls":3,"background":false,"context_management":[{"type":"compaction","compact_threshold":1000}],"include":["reasoning.encrypted_content","web_search_call.action.sources"],"reasoning":{"summary":"auto","generate_summary":null},"previous_response_id":null,"conversation":null,"prompt":null,"top_logprobs":0,"parallel_tool_calls":true,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"input":"Hi"}`,
			`{"messages":[` + hi + `]}`,
		},
		{
			"logprobs", all,
			`{"include":["message.output_text.logprobs"],"input":"Hi"}`,
			`{"logprobs":true,"messages":[` + hi + `]}`,
		},
		{
			"logprobs with alternatives", all,
			`{"top_logprobs":2,"input":"Hi"}`,
			`{"logprobs":true,"top_logprobs":2,"messages":[` + hi + `]}`,
		},
		{
			"effort, verbosity and a schema", all,
			`{"reasoning":{"effort":"xhigh","summary":"detailed"},"text":{"verbosity":"low","format":{"type":"json_schema","name":"n","description":"d","schema":{"type":"object"},"strict":true}},"input":"Hi"}`,
			`{"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type":"object"},"strict":true}},"reasoning_effort":"xhigh","verbosity":"low","messages":[` + hi + `]}`,
		},
		{
			"JSON", all,
			`{"text":{"format":{"type":"json_object"}},"input":"Hi"}`,
			`{"response_format":{"type":"json_object"},"messages":[` + hi + `]}`,
		},
		{
			"settings that change", all,
			`{"reasoning":{"effort":"low"},"input":[` + hi + `,{"type":"configuration_update","reasoning":{"effort":"high"},"text":{"verbosity":"high"}},{"role":"user","content":"Go"}]}`,
			`{"reasoning_effort":"high","verbosity":"high","messages":[` + hi + `,{"role":"user","content":"Go"}]}`,
		},
		{
			"the system prompt is one message, and the first", all,
			`{"instructions":"A\n","input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"B"},{"type":"input_text","text":""}]},` + hi + `,{"role":"system","content":"C"}]}`,
			`{"messages":[{"role":"system","content":"A\n\n\nB\n\nC"},` + hi + `]}`,
		},
		{
			"messages in all forms", all,
			`{"instructions":"","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"b"},{"type":"input_text","text":"c"}]},{"role":"user","content":[]},
				{"type":"message","id":"msg_1","status":"completed","phase":"commentary","role":"assistant","content":[{"type":"output_text","text":"d","annotations":[],"logprobs":[]},{"type":"output_text","text":"e","annotations":[]}]},{"role":"assistant","content":"f"},
				{"type":"agent_message","author":"x","recipient":"y","content":[{"type":"input_text","text":"g"}]},{"role":"assistant","content":[{"type":"refusal","refusal":"No"}]},{"role":"assistant","content":[]}]}`,
			`{"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},{"role":"user","content":""},
				{"role":"assistant","content":"de\n\nf"},{"role":"user","content":"g"},{"role":"assistant","content":"","refusal":"No"}]}`,
		},
		{
			"images, files and audio", all,
			`{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,` + png + `","detail":"auto"},{"type":"input_image","image_url":"https://x/y.png","detail":"original"},{"type":"input_image","image_url":"http://x/z.png","detail":"low","file_id":null},
				{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERg=="},{"type":"input_file","file_data":"JVBERg=="},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},{"type":"input_audio","audio_url":"data:audio/mpeg;base64,AAAA"}]}]}`,
			`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}},{"type":"image_url","image_url":{"url":"https://x/y.png","detail":"high"}},{"type":"image_url","image_url":{"url":"http://x/z.png","detail":"low"}},
				{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERg=="}},{"type":"file","file":{"file_data":"JVBERg=="}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"mp3"}}]}]}`,
		},
		{
			"parallel calls of one answer", all,
			`{"tools":[` + f + `],"tool_choice":"required","parallel_tool_calls":false,"input":[` + hi + `,{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"role":"assistant","content":"Let me see"},` + call + `,{"type":"function_call","call_id":"b","name":"f","arguments":{"y":[1.0]}},
				{"type":"function_call_output","call_id":"b","output":[{"type":"input_text","text":"2"},{"type":"input_text","text":"3"}]},` + output + `,{"role":"user","content":"Go on"}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":"Let me see","reasoning_content":"hm","tool_calls":[` + chatA + `,{"id":"b","type":"function","function":{"name":"f","arguments":"{\"y\":[1.0]}"}}]},
				{"role":"tool","tool_call_id":"b","content":"2\n3"},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"user","content":"Go on"}],"tools":[` + chatF + `],"parallel_tool_calls":false,"tool_choice":"required"}`,
		},
		{
			"an ID that comes again after its output", all,
			`{"input":[` + call + `,` + output + `,` + call + `,` + output + `]}`,
			`{"messages":[{"role":"assistant","content":null,"tool_calls":[` + chatA + `]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"assistant","content":null,"tool_calls":[` + chatA + `]},{"role":"tool","tool_call_id":"a","content":"1"}]}`,
		},
		{
			"what comes between calls and outputs waits", all,
			`{"input":[` + call + `,{"type":"function_call","call_id":"b","name":"f","arguments":"{}"},` + hi + `,{"type":"function_call_output","call_id":"a","output":[{"type":"input_image","image_url":"https://x/y.png"}]},{"role":"developer","content":"D"},{"type":"function_call_output","call_id":"b","output":""},{"role":"assistant","content":"Done"}]}`,
			`{"messages":[{"role":"system","content":"D"},{"role":"assistant","content":null,"tool_calls":[` + chatA + `,{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":""},{"role":"tool","tool_call_id":"b","content":""},
				{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]},` + hi + `,{"role":"assistant","content":"Done"}]}`,
		},
		{
			"a call that was never answered", all,
			`{"input":[` + call + `,` + hi + `,{"role":"assistant","content":"Yes"},` + hi + `]}`,
			`{"messages":[{"role":"assistant","content":null,"tool_calls":[` + chatA + `]},` + hi + `,{"role":"assistant","content":"Yes"},` + hi + `]}`,
		},
		{
			"images of an output are the user's", all,
			`{"input":[` + call + `,{"type":"function_call_output","call_id":"a","output":[{"type":"input_text","text":"see"},{"type":"input_image","image_url":"data:image/png;base64,` + png + `"},{"type":"input_file","file_data":"JVBERg=="}]},` + hi + `]}`,
			`{"messages":[{"role":"assistant","content":null,"tool_calls":[` + chatA + `]},{"role":"tool","tool_call_id":"a","content":"see"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}},{"type":"file","file":{"file_data":"JVBERg=="}},{"type":"text","text":"Hi"}]}]}`,
		},
		{
			"custom tools", all,
			`{"tools":[{"type":"custom","name":"p","description":"d","format":{"type":"grammar","syntax":"lark","definition":"start: \"x\""}},{"type":"custom","name":"q","format":{"type":"grammar","syntax":"regex","definition":"a+"}},{"type":"custom","name":"r","format":{"type":"text"}}],"tool_choice":{"type":"custom","name":"p"},"input":[` + hi + `,
				{"type":"custom_tool_call","id":"ctc_1","call_id":"a","name":"p","input":"*** \"a\"\n"},{"type":"custom_tool_call_output","call_id":"a","output":"ok"}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"p","arguments":"{\"input\":\"*** \\\"a\\\"\\n\"}"}}]},{"role":"tool","tool_call_id":"a","content":"ok"}],
				"tools":[{"type":"function","function":{"name":"p","description":"d\n\nCall it with the text of the input as the argument input. The text must match this Lark grammar:\nstart: \"x\"","parameters":` + customParameters + `}},{"type":"function","function":{"name":"q","description":"Call it with the text of the input as the argument input. The text must match this regular expression:\na+","parameters":` + customParameters + `}},{"type":"function","function":{"name":"r","description":"Call it with the text of the input as the argument input.","parameters":` + customParameters + `}}],
				"tool_choice":{"type":"function","function":{"name":"p"}}}`,
		},
		{
			"namespaces", all,
			`{"tools":[{"type":"namespace","name":"mcp__x__","description":"X","tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":false,"defer_loading":true},{"type":"custom","name":"c","description":"e"}]},` + f + `],"tool_choice":{"type":"function","name":"f","namespace":"mcp__x__"},"input":[
				{"type":"function_call","call_id":"a","name":"f","namespace":"mcp__x__","arguments":"{}"},{"type":"custom_tool_call","call_id":"b","name":"c","namespace":"mcp__x__","input":"i"},{"type":"function_call_output","call_id":"a","output":"1"},{"type":"custom_tool_call_output","call_id":"b","output":"2"}]}`,
			`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"mcp__x__f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"mcp__x__c","arguments":"{\"input\":\"i\"}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"}],
				"tools":[{"type":"function","function":{"name":"mcp__x__f","description":"X\n\nd","parameters":{"type":"object"},"strict":false}},{"type":"function","function":{"name":"mcp__x__c","description":"e\n\nCall it with the text of the input as the argument input.","parameters":` + customParameters + `}},` + chatF + `],"tool_choice":{"type":"function","function":{"name":"mcp__x__f"}}}`,
		},
		{
			"the namespace of all functions", all,
			`{"tools":[{"type":"namespace","name":"functions","description":"","tools":[` + f + `,{"type":"custom","name":"exec","description":"e"}]}],"tool_choice":{"type":"custom","name":"exec","namespace":"functions"},"input":[{"type":"custom_tool_call","call_id":"a","name":"exec","namespace":"functions","input":"i"},{"type":"custom_tool_call_output","call_id":"a","name":"exec","output":"1"}]}`,
			`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"exec","arguments":"{\"input\":\"i\"}"}}]},{"role":"tool","tool_call_id":"a","content":"1"}],
				"tools":[` + chatF + `,{"type":"function","function":{"name":"exec","description":"e\n\nCall it with the text of the input as the argument input.","parameters":` + customParameters + `}}],"tool_choice":{"type":"function","function":{"name":"exec"}}}`,
		},
		{
			"tools of the user's machine", all,
			`{"tools":[{"type":"local_shell"},{"type":"shell","environment":{"type":"local"}},{"type":"apply_patch"}],"tool_choice":{"type":"shell"},"input":[
				{"type":"local_shell_call","id":"lsh_1","call_id":"a","status":"completed","action":{"type":"exec","command":["ls","-l"],"env":{},"timeout_ms":null,"working_directory":"/tmp"}},{"type":"local_shell_call_output","id":"lsh_1","output":"x"},
				{"type":"local_shell_call","id":"lsh_2","call_id":null,"action":{"type":"exec","command":["ls"]}},{"type":"local_shell_call_output","call_id":"lsh_2","output":"y"},
				{"type":"local_shell_call","call_id":"c","action":{"type":"exec","command":["ls"]}},{"type":"function_call_output","call_id":"c","output":"z"},
				{"type":"shell_call","call_id":"d","action":{"commands":["ls"],"timeout_ms":1000}},{"type":"shell_call_output","call_id":"d","max_output_length":100,"output":[{"stdout":"o","stderr":"","outcome":{"type":"exit","exit_code":0}}]},
				{"type":"apply_patch_call","call_id":"e","status":"completed","operation":{"type":"create_file","path":"a","diff":"+x"}},{"type":"apply_patch_call_output","call_id":"e","status":"completed"},
				{"type":"apply_patch_call","call_id":"f","status":"completed","operation":{"type":"delete_file","path":"a"}},{"type":"apply_patch_call_output","call_id":"f","status":"failed","output":"no a"}]}`,
			`{"messages":[
				{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"local_shell","arguments":"{\"command\":[\"ls\",\"-l\"],\"env\":{},\"working_directory\":\"/tmp\"}"}}]},{"role":"tool","tool_call_id":"a","content":"x"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"lsh_2","type":"function","function":{"name":"local_shell","arguments":"{\"command\":[\"ls\"]}"}}]},{"role":"tool","tool_call_id":"lsh_2","content":"y"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"local_shell","arguments":"{\"command\":[\"ls\"]}"}}]},{"role":"tool","tool_call_id":"c","content":"z"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"d","type":"function","function":{"name":"shell","arguments":"{\"commands\":[\"ls\"],\"timeout_ms\":1000}"}}]},{"role":"tool","tool_call_id":"d","content":"[{\"stdout\":\"o\",\"stderr\":\"\",\"outcome\":{\"type\":\"exit\",\"exit_code\":0}}]"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"e","type":"function","function":{"name":"apply_patch","arguments":"{\"type\":\"create_file\",\"path\":\"a\",\"diff\":\"+x\"}"}}]},{"role":"tool","tool_call_id":"e","content":"completed"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"f","type":"function","function":{"name":"apply_patch","arguments":"{\"type\":\"delete_file\",\"path\":\"a\"}"}}]},{"role":"tool","tool_call_id":"f","content":"Error: no a"}],
				"tools":[{"type":"function","function":{"name":"local_shell","description":` + localShellDescription + `,"parameters":` + localShellParameters + `}},{"type":"function","function":{"name":"shell","description":` + shellDescription + `,"parameters":` + shellParameters + `}},{"type":"function","function":{"name":"apply_patch","description":` + applyPatchDescription + `,"parameters":` + applyPatchParameters + `}}],
				"tool_choice":{"type":"function","function":{"name":"shell"}}}`,
		},
		{
			"tools that are found on the way", all,
			`{"tools":[{"type":"tool_search","execution":"client","description":"Finds tools.","parameters":{"type":"object","properties":{"query":{"type":"string"}}}}],"input":[` + hi + `,{"type":"tool_search_call","call_id":"a","execution":"client","arguments":{"query":"q"}},
				{"type":"tool_search_output","call_id":"a","execution":"client","status":"completed","tools":[{"type":"namespace","name":"n","description":"N","tools":[` + f + `]},` + f + `]},{"type":"tool_search_call","call_id":"b","execution":"client","arguments":{"query":"r"}},
				{"type":"tool_search_output","call_id":"b","execution":"client","status":"completed","tools":[` + f + `]},{"type":"additional_tools","role":"developer","tools":[` + f + `,{"type":"function","name":"g"}]}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"tool_search","arguments":"{\"query\":\"q\"}"}}]},{"role":"tool","tool_call_id":"a","content":"These tools can be called now: n__f, f"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"b","type":"function","function":{"name":"tool_search","arguments":"{\"query\":\"r\"}"}}]},{"role":"tool","tool_call_id":"b","content":"No other tool was found."}],
				"tools":[{"type":"function","function":{"name":"tool_search","description":"Finds tools.","parameters":{"type":"object","properties":{"query":{"type":"string"}}}}},{"type":"function","function":{"name":"n__f","description":"N\n\nd","parameters":{"type":"object"}}},` + chatF + `,{"type":"function","function":{"name":"g"}}]}`,
		},
		{
			"tools of a service that the model may do without", all,
			`{"tools":[{"type":"web_search","external_web_access":false},{"type":"web_search_preview_2025_03_11"},{"type":"image_generation","output_format":"png"},{"type":"code_interpreter","container":{"type":"auto"}},{"type":"tool_search"},{"type":"programmatic_tool_calling"},` + f + `],"tool_choice":"auto","input":[` + hi + `,
				{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}},{"type":"tool_search_call","execution":"server","call_id":null,"arguments":{}},{"type":"tool_search_output","execution":"server","call_id":null,"tools":[]},{"type":"code_interpreter_call","id":"ci_1","code":"1","container_id":"c","outputs":[]},{"role":"assistant","content":"Found"}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":"Found"}],"tools":[` + chatF + `],"tool_choice":"auto"}`,
		},
		{
			"without its tools, the choice is left out", all,
			`{"tools":[{"type":"web_search"}],"tool_choice":"none","parallel_tool_calls":true,"input":"Hi"}`,
			`{"messages":[` + hi + `]}`,
		},
		{
			"only some tools are allowed", all,
			`{"tools":[` + f + `,{"type":"function","name":"g"},{"type":"custom","name":"f2"},{"type":"namespace","name":"n","description":"N","tools":[{"type":"function","name":"a"},{"type":"function","name":"b"}]},{"type":"shell"}],"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"function","name":"b","namespace":"n"},{"type":"shell"},{"type":"web_search"}]},"input":"Hi"}`,
			`{"messages":[` + hi + `],"tools":[` + chatF + `,{"type":"function","function":{"name":"n__b","description":"N"}},{"type":"function","function":{"name":"shell","description":` + shellDescription + `,"parameters":` + shellParameters + `}}],"tool_choice":"required"}`,
		},
		{
			"a namespace is allowed", all,
			`{"tools":[` + f + `,{"type":"namespace","name":"n","description":"N","tools":[{"type":"function","name":"a"}]}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"namespace","name":"n"}]},"input":"Hi"}`,
			`{"messages":[` + hi + `],"tools":[{"type":"function","function":{"name":"n__a","description":"N"}}],"tool_choice":"auto"}`,
		},
		{
			"our reasoning comes back", all,
			`{"input":[` + hi + `,{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"s"}],"content":[{"type":"reasoning_text","text":"not again"}],` + encrypted(`"reasoning_content":"h\u00e9","thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s"}],"tool_calls":[{"id":"a","extra_content":{"google":{"thought_signature":"t"}}}]`) + `},` + call + `,
				{"type":"reasoning","summary":[],` + encrypted(`"reasoning_content":"m","thinking_blocks":[{"type":"redacted_thinking","data":"r"}],"reasoning_details":[{"index":0}]`) + `},{"type":"function_call","call_id":"b","name":"f","arguments":"{}"},` + output + `,{"type":"function_call_output","call_id":"b","output":"2"}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":null,"reasoning_content":"h\u00e9m","reasoning_details":[{"index":0}],"thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"redacted_thinking","data":"r"}],
				"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"},"extra_content":{"google":{"thought_signature":"t"}}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"}]}`,
		},
		{
			"our reasoning in odd forms", all,
			`{"input":[{"type":"reasoning","summary":[],` + encrypted(`"reasoning_details":[ ],"thinking_blocks":"a","tool_calls":"b"`) + `},{"type":"reasoning","summary":[],` + encrypted(`"reasoning_details":[ {"index":0} ],"thinking_blocks":[1],"tool_calls":[ ],"reasoning":{}`) + `},{"type":"reasoning","summary":[],` + encrypted(`"reasoning_details":[ ],"tool_calls":[{"id":"b"},{}],"reasoning":"x"`) + `},` + call + `]}`,
			`{"messages":[{"role":"assistant","content":null,"reasoning":"x","reasoning_details":[{"index":0}],"thinking_blocks":[1],"tool_calls":[` + chatA + `]}]}`,
		},
		{
			"a server that does not take reasoning back", ChatOptions{},
			`{"input":[` + hi + `,{"type":"reasoning","summary":[],` + encrypted(`"reasoning":"hm","thinking_blocks":[{"type":"thinking"}]`) + `},{"role":"assistant","content":"Yes"}]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":"Yes"}]}`,
		},
		{
			"reasoning of others, and reasoning without an answer", all,
			`{"input":[` + hi + `,{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"gAAAAABo"},{"role":"assistant","content":"Yes"},` + hi + `,{"type":"reasoning","summary":[],` + encrypted(`"reasoning_content":"hm"`) + `},` + hi + `]}`,
			`{"messages":[` + hi + `,{"role":"assistant","content":"Yes"},` + hi + `,` + hi + `]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := ChatFromResponse(scan(t, test.in), test.options)
			if err != nil {
				t.Fatal(err)
			}
			want := indented(t, []byte(test.out))
			if diff := cmp.Diff(decoded(t, []byte(want)), decoded(t, got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, number := range []string{"0.50", "1e0", `\u00e9`} {
				if strings.Count(test.out, number) != strings.Count(string(got), number) {
					t.Errorf("the spelling of %s has changed: %s", number, got)
				}
			}
		})
	}
}

func TestChatFromResponseRefuses(t *testing.T) {
	t.Parallel()
	input := func(items string) string { return `{"input":[` + items + `]}` }
	user := func(part string) string { return input(`{"role":"user","content":[` + part + `]}`) }
	tools := func(tools string) string { return `{"tools":[` + tools + `],"input":"Hi"}` }
	choice := func(choice string) string {
		return `{"tools":[{"type":"function","name":"f"},{"type":"web_search"}],"tool_choice":` + choice + `,"input":"Hi"}`
	}
	const call = `{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}`
	for _, test := range []struct{ name, in, want string }{
		{"stored response", `{"previous_response_id":"resp_1","input":"Hi"}`, "previous_response_id: the server of this model stores no responses"},
		{"conversation", `{"conversation":"conv_1","input":"Hi"}`, "conversation: the server of this model stores no conversations"},
		{"conversation as an object", `{"conversation":{"id":"conv_1"},"input":"Hi"}`, "conversation: "},
		{"stored prompt", `{"prompt":{"id":"pmpt_1"}}`, "prompt: the server of this model stores no prompts"},
		{"background", `{"background":true,"input":"Hi"}`, "background: the server of this model does not answer in the background"},
		{"moderation", `{"moderation":{"model":"omni-moderation-latest"},"input":"Hi"}`, "moderation: "},
		{"messages of chat", `{"messages":[{"role":"user","content":"Hi"}]}`, "messages: the Responses API has input instead"},
		{"limit of chat", `{"max_tokens":9,"input":"Hi"}`, "max_tokens: the Responses API has max_output_tokens instead"},
		{"newer limit of chat", `{"max_completion_tokens":9,"input":"Hi"}`, "max_completion_tokens: the Responses API has max_output_tokens instead"},
		{"format of chat", `{"response_format":{"type":"json_object"},"input":"Hi"}`, "response_format: the Responses API has text.format instead"},
		{"effort of chat", `{"reasoning_effort":"low","input":"Hi"}`, "reasoning_effort: the Responses API has reasoning.effort instead"},
		{"verbosity of chat", `{"verbosity":"low","input":"Hi"}`, "verbosity: the Responses API has text.verbosity instead"},
		{"logprobs of chat", `{"logprobs":true,"input":"Hi"}`, "logprobs: the Responses API has include instead"},
		{"functions of chat", `{"functions":[],"input":"Hi"}`, "functions: the Responses API has tools instead"},
		{"function_call of chat", `{"function_call":"auto","input":"Hi"}`, "function_call: the Responses API has tool_choice instead"},
		{"several answers", `{"n":2,"input":"Hi"}`, "n: the Responses API gives one answer"},
		{"limit of zero", `{"max_output_tokens":0,"input":"Hi"}`, "max_output_tokens: must be a whole number of at least 1, not 0"},
		{"limit that is a text", `{"max_output_tokens":"9","input":"Hi"}`, "max_output_tokens: must be a whole number"},
		{"unknown format", `{"text":{"format":{"type":"xml"}},"input":"Hi"}`, `text.format.type: "xml" is unknown`},
		{"instructions that are a list", `{"instructions":[],"input":"Hi"}`, "instructions: must be a string"},

		{"no input", `{"instructions":"A"}`, "input: is missing"},
		{"empty input", input(``), "input: is empty"},
		{"input that is a number", `{"input":1}`, "input: must be a string or a list of items"},
		{"item that is a text", input(`"Hi"`), "input.0: must be an object with a type"},
		{"item without a type", input(`{"content":"Hi"}`), `input.0.type: an item of type "" cannot be translated`},
		{"unknown item", input(`{"role":"user","content":"Hi"},{"type":"from_the_future"}`), `input.1.type: an item of type "from_the_future" cannot be translated`},
		{"reference to an item", input(`{"type":"item_reference","id":"msg_1"}`), "input.0: the server of this model stores no items"},
		{"reference without a type", input(`{"id":"msg_1"}`), "input.0: the server of this model stores no items"},
		{"compacted conversation", input(`{"type":"compaction","encrypted_content":"x"}`), "input.0: only the service that compacted this conversation"},
		{"compacted conversation of older versions", input(`{"type":"compaction_summary","encrypted_content":"x"}`), "input.0: only the service"},
		{"compacted context", input(`{"type":"context_compaction","encrypted_content":"x"}`), "input.0: only the service"},
		{"wish to compact", input(`{"role":"user","content":"Hi"},{"type":"compaction_trigger"}`), "input.1: the server of this model does not compact"},
		{"wish of Codex to compact", string(readFile(t, "testdata/codex/compaction-trigger.json")), "input.12: the server of this model does not compact"},
		{"approval of a call", input(`{"type":"mcp_approval_response","approval_request_id":"x","approve":true}`), "input.0: the server of this model does not call MCP servers"},
		{"use of a computer", input(`{"type":"computer_call","call_id":"a","action":{}}`), "input.0: this model cannot use a computer"},
		{"screenshot", input(`{"type":"computer_call_output","call_id":"a","output":{}}`), "input.0: this model cannot use a computer"},

		{"unknown role", input(`{"role":"tool","content":"Hi"}`), `input.0.role: "tool" is no role`},
		{"no role", input(`{"type":"message","content":"Hi"}`), `input.0.role: "" is no role`},
		{"no content", input(`{"role":"user"}`), "input.0.content: must be a string or a list of parts"},
		{"content that is a number", input(`{"role":"user","content":1}`), "input.0.content: must be a string or a list of parts"},
		{"part without a type", user(`{"text":"Hi"}`), "input.0.content.0: must be an object with a type"},
		{"part of chat", user(`{"type":"text","text":"Hi"}`), `input.0.content.0.type: a part of type "text" cannot be translated`},
		{"text that is a number", user(`{"type":"input_text","text":1}`), "input.0.content.0.text: must be a string"},
		{"stored image", user(`{"type":"input_image","file_id":"file-1"}`), "input.0.content.0.file_id: the server of this model stores no files"},
		{"image without a URL", user(`{"type":"input_image"}`), "input.0.content.0.image_url: the URL of an image must begin with"},
		{"image of the server", user(`{"type":"input_image","image_url":"file:///etc/passwd"}`), "input.0.content.0.image_url: the URL of an image must begin with"},
		{"image as in chat", user(`{"type":"input_image","image_url":{"url":"https://x/y.png"}}`), "input.0.content.0.image_url: "},
		{"image that would be fetched", user(`{"type":"input_image","image_url":"https://x/y.png"}`), "input.0.content.0.image_url: the server of this model does not fetch images"},
		{"stored file", user(`{"type":"input_file","file_id":"file-1"}`), "input.0.content.0.file_id: the server of this model stores no files"},
		{"file by its URL", user(`{"type":"input_file","file_url":"https://x/y.pdf"}`), "input.0.content.0.file_url: the server of this model does not fetch files"},
		{"file without data", user(`{"type":"input_file","filename":"a"}`), "input.0.content.0.file_data: is missing"},
		{"audio without data", user(`{"type":"input_audio"}`), "input.0.content.0.input_audio: is missing"},
		{"audio of another format", user(`{"type":"input_audio","audio_url":"data:audio/flac;base64,AA"}`), "input.0.content.0.input_audio: is missing"},
		{"mail that only the service can read", input(`{"type":"agent_message","author":"x","recipient":"y","content":[{"type":"encrypted_content","encrypted_content":"x"}]}`), `input.0.content.0.type: a part of type "encrypted_content"`},
		{"image in the system prompt", input(`{"role":"developer","content":[{"type":"input_text","text":"A"},{"type":"input_image","image_url":"https://x/y.png"}]}`), "input.0.content.1: only text can be part of the system prompt"},
		{"image of the assistant", input(`{"role":"assistant","content":[{"type":"input_image","image_url":"https://x/y.png"}]}`), `input.0.content.0.type: a part of type "input_image" cannot be part of the assistant's message`},
		{"text of the assistant that is a number", input(`{"role":"assistant","content":[{"type":"output_text","text":1}]}`), "input.0.content.0.text: must be a string"},
		{"refusal that is a number", input(`{"role":"assistant","content":[{"type":"refusal"}]}`), "input.0.content.0.refusal: must be a string"},

		{"call without an ID", input(`{"type":"function_call","id":"fc_1","name":"f","arguments":"{}"}`), "input.0.call_id: is missing"},
		{"call without a name", input(`{"type":"function_call","call_id":"a","arguments":"{}"}`), "input.0.name: is missing"},
		{"call without arguments", input(`{"type":"function_call","call_id":"a","name":"f"}`), "input.0.arguments: is missing"},
		{"call whose arguments are a number", input(`{"type":"function_call","call_id":"a","name":"f","arguments":1}`), "input.0.arguments: must be an object"},
		{"custom call with an object", input(`{"type":"custom_tool_call","call_id":"a","name":"f","input":{}}`), "input.0.input: must be a string"},
		{"command that is a text", input(`{"type":"local_shell_call","call_id":"a","action":"ls"}`), "input.0.action: must be an object"},
		{"patch without an operation", input(`{"type":"apply_patch_call","call_id":"a"}`), "input.0.operation: is missing"},
		{"second call with the ID", input(call + "," + call), `input.1.call_id: another call without an output has the ID "a", too`},
		{"output without its call", input(call + `,{"type":"function_call_output","call_id":"b","output":"1"}`), `input.1.call_id: no item before this one calls a tool with the ID "b"`},
		{"second output", input(call + `,{"type":"function_call_output","call_id":"a","output":"1"},{"type":"custom_tool_call_output","call_id":"a","output":"1"}`), `input.2.call_id: no item before this one calls a tool with the ID "a" and waits`},
		{"output without an ID", input(call + `,{"type":"function_call_output","id":"fco_1","output":"1"}`), "input.1.call_id: is missing"},
		{"output that is missing", input(call + `,{"type":"function_call_output","call_id":"a"}`), "input.1.output: is missing"},
		{"output that is an object", input(call + `,{"type":"function_call_output","call_id":"a","output":{}}`), "input.1.output: must be a string or a list of parts"},
		{"output with an unknown part", input(call + `,{"type":"function_call_output","call_id":"a","output":[{"type":"encrypted_content"}]}`), `input.1.output.0.type: a part of type "encrypted_content"`},
		{"output with a text that is a number", input(call + `,{"type":"function_call_output","call_id":"a","output":[{"type":"input_text","text":1}]}`), "input.1.output.0.text: must be a string"},
		{"found tools that are none", input(`{"type":"tool_search_call","call_id":"a","execution":"client","arguments":{}},{"type":"tool_search_output","call_id":"a","execution":"client","tools":[{"type":"function"}]}`), "input.1.tools.0.name: is missing"},
		{"added tools that are none", input(`{"type":"additional_tools","role":"developer","tools":{}}`), "input.0.tools: must be a list"},

		{"tools that are none", `{"tools":{},"input":"Hi"}`, "tools: must be a list"},
		{"tool without a type", tools(`{"name":"f"}`), "tools.0: must be an object with a type"},
		{"tool without a name", tools(`{"type":"function","function":{"name":"f"}}`), "tools.0.name: is missing"},
		{"two tools of a name", tools(`{"type":"function","name":"f"},{"type":"function","name":"f"}`), `tools.1: there are two tools named "f"`},
		{"unknown tool", tools(`{"type":"web_search"},{"type":"from_the_future"}`), `tools.1.type: a tool of type "from_the_future" cannot be translated`},
		{"search in the client's files", tools(`{"type":"file_search","vector_store_ids":["vs_1"]}`), `tools.0.type: the tool "file_search" does not run at the server of this model`},
		{"MCP server", tools(`{"type":"mcp","server_label":"x","server_url":"https://x"}`), `tools.0.type: the tool "mcp" does not run`},
		{"computer", tools(`{"type":"computer_use_preview","display_width":1}`), `tools.0.type: the tool "computer_use_preview" does not run`},
		{"computer of newer versions", tools(`{"type":"computer"}`), `tools.0.type: the tool "computer" does not run`},
		{"container with files", tools(`{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}}`), "tools.0.container: the server of this model has no containers"},
		{"container by its ID", tools(`{"type":"code_interpreter","container":"cntr_1"}`), "tools.0.container: the server of this model has no containers"},
		{"shell of the service", tools(`{"type":"shell","environment":{"type":"container_auto"}}`), `tools.0.environment.type: "container_auto" is at the service`},
		{"namespace without a name", tools(`{"type":"namespace","tools":[]}`), "tools.0.name: is missing"},
		{"namespace without tools", tools(`{"type":"namespace","name":"n"}`), "tools.0.tools: must be a list"},
		{"namespace in a namespace", tools(`{"type":"namespace","name":"n","tools":[{"type":"namespace"}]}`), `tools.0.tools.0.type: a tool of type "namespace" cannot be part of a namespace`},
		{"tool of a namespace without a name", tools(`{"type":"namespace","name":"n","tools":[{"type":"custom"}]}`), "tools.0.tools.0.name: is missing"},

		{"unknown choice", choice(`"some"`), `tool_choice: "some" is unknown`},
		{"choice that is a number", choice(`1`), `tool_choice: 1 is unknown`},
		{"choice of a service's tool", choice(`{"type":"web_search"}`), `tool_choice.type: the tool "web_search" does not run at the server`},
		{"choice of an MCP server", choice(`{"type":"mcp","server_label":"x"}`), `tool_choice.type: the tool "mcp" does not run at the server`},
		{"choice of no tool of the request", choice(`{"type":"function","name":"g"}`), `tool_choice: no tool of the request is {"type":"function","name":"g"}`},
		{"choice of a tool of another kind", choice(`{"type":"custom","name":"f"}`), "tool_choice: no tool of the request is"},
		{"choice of a shell that is not there", choice(`{"type":"shell"}`), "tool_choice: no tool of the request is"},
		{"some of the tools in an unknown way", choice(`{"type":"allowed_tools","mode":"none","tools":[]}`), `tool_choice.mode: "none" is unknown`},
		{"one of no tools", choice(`{"type":"allowed_tools","mode":"required","tools":[{"type":"web_search"}]}`), "tool_choice: requires a tool"},
		{"a required tool without tools", `{"tool_choice":"required","input":"Hi"}`, "tool_choice: requires a tool"},
		{"a tool where only a service has one", `{"tools":[{"type":"web_search"}],"tool_choice":"required","input":"Hi"}`, "tool_choice: requires a tool, but this model can call none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body, about, err := ChatFromResponse(scan(t, test.in), ChatOptions{Inline: true})
			if err == nil {
				t.Fatalf("translated to %s, %v", body, about)
			}
			if err.Status != 400 || err.Code == "" || err.Param == "" || !strings.HasPrefix(err.Message, test.want) {
				t.Errorf("status %d, %s, %s: %s", err.Status, err.Code, err.Param, err.Message)
			}
		})
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{
			"defaults", `{"model":"m","input":"Hi"}`,
			`{"background":false,"previous_response_id":null,"store":false,"frequency_penalty":0,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"parallel_tool_calls":true,"presence_penalty":0,
				"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"temperature":1,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1,"truncation":"disabled","user":null}`,
		},
		{
			"what the client sent", `{"model":"m","store":true,"instructions":"A\n","max_output_tokens":100,"max_tool_calls":2,"metadata":{"a":"b"},"parallel_tool_calls":false,"presence_penalty":0.50,"frequency_penalty":1e0,"prompt_cache_key":"k",
				"reasoning":{"effort":"low"},"safety_identifier":"s","service_tier":"flex","temperature":0.70,"text":{"verbosity":"low"},"tool_choice":"none","tools":[` + "\r\n" + `{"type":"web_search"}],"top_logprobs":1,"top_p":null,"truncation":"auto","user":"u","input":"Hi"}`,
			`{"background":false,"previous_response_id":null,"store":false,"frequency_penalty":1e0,"instructions":"A\n","max_output_tokens":100,"max_tool_calls":2,"metadata":{"a":"b"},"parallel_tool_calls":false,"presence_penalty":0.50,
				"prompt_cache_key":"k","reasoning":{"effort":"low"},"safety_identifier":"s","temperature":0.70,"text":{"verbosity":"low"},"tool_choice":"none","tools":[{"type":"web_search"}],"top_logprobs":1,"top_p":1,"truncation":"auto","user":"u"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, about, err := ChatFromResponse(scan(t, test.in), ChatOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(string(about.Echo), "\r\n") {
				t.Errorf("it is not on one line: %q", about.Echo)
			}
			if diff := cmp.Diff(indented(t, []byte(test.want)), indented(t, []byte("{"+string(about.Echo)+"}"))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWithoutOwnReasoning(t *testing.T) {
	t.Parallel()
	own := `{"type":"reasoning","summary":[],"encrypted_content":"` + encodeReasoning([]byte(`"reasoning_content":"hm"`)) + `"}`
	for in, want := range map[string]string{
		`"llm_proxy_"`: `"llm_proxy_"`,
		`[ {"type":"reasoning","encrypted_content":"gAAA"} ]`:                             `[ {"type":"reasoning","encrypted_content":"gAAA"} ]`,
		`[{"role":"user","content":"1.0"},` + own + `,{"role":"assistant"}, ` + own + `]`: `[{"role":"user","content":"1.0"},{"role":"assistant"}]`,
		`[` + own + `]`: `[]`,
	} {
		if got := string(WithoutOwnReasoning([]byte(in))); got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
}
