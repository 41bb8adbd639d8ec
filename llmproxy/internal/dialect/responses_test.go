package dialect

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

func TestReasoningComesBack(t *testing.T) {
	t.Parallel()
	for _, members := range []string{
		`"reasoning_content":"hm"`,
		`"reasoning_content":"a\n\u00e9 ","thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s+/="}]`,
		`"reasoning":"x","reasoning_details":[{"type":"reasoning.encrypted","data":"…"}]`,
		`"tool_calls":[{"id":"a","extra_content":{"google":{"thought_signature":"s"}}}]`,
	} {
		got, ok := decodeReasoning(encodeReasoning([]byte(members)))
		if !ok || string(got) != members {
			t.Errorf("%s became %s, %v", members, got, ok)
		}
	}
}

// The translation of an answer is reused for other requests. Nothing of the one before may be in it.
func TestAnswersAreReused(t *testing.T) {
	t.Parallel()
	endpoint, _ := openai.LookupEndpoint("/v1/responses")
	ask := func(request, answer string) string {
		var r openai.Request
		if err := r.Parse([]byte(request)); err != nil {
			t.Fatal(err)
		}
		_, translation, err := ByChat(nil, endpoint, &r.Object, ChatOptions{Model: "m"})
		if err != nil {
			t.Fatal(err)
		}
		response, _, ok := translation.Whole(nil, []byte(answer))
		if !ok {
			t.Fatalf("%s was not translated", answer)
		}
		return string(response)
	}
	const secret = "swordfish"
	for range 100 {
		ask(`{"model":"m","input":"Hi","instructions":"`+secret+`","tools":[{"type":"custom","name":"`+secret+`"}],"user":"`+secret+`"}`,
			`{"model":"`+secret+`","service_tier":"`+secret+`","system_fingerprint":"`+secret+`","timings":{"a":"`+secret+`"},"choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","reasoning_content":"`+secret+`",
			"content":"`+secret+`","tool_calls":[{"id":"a","type":"function","function":{"name":"`+secret+`","arguments":"{\"input\":\"`+secret+`\"}"}}]}}],"usage":{"prompt_tokens":77,"completion_tokens":77}}`)
		plain := ask(
			`{"model":"m","input":"Hi"}`, `{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","tool_calls":[{"id":"b","type":"function","function":{"name":"`+secret+`","arguments":"{}"}}]}}]}`)
		for _, leftover := range []string{`"instructions":"`, `"custom_tool_call"`, `"usage":{`, `"incomplete"`, `"message"`, `"reasoning","summary"`, "fingerprint", "timings", `"user":"`} {
			if strings.Contains(plain, leftover) {
				t.Fatalf("%s has %s of another answer", plain, leftover)
			}
		}
	}
}

func TestForeignReasoningIsRecognized(t *testing.T) {
	t.Parallel()
	encode := func(members string) string {
		return ownReasoning + base64.RawURLEncoding.EncodeToString([]byte(members))
	}
	for _, encrypted := range []string{
		"", "gAAAAABo4yQ", ownReasoning, ownReasoning + "*", encode(""), encode(`"reasoning_content":"hm"`) + "=",
		encode(`"reasoning_content":"hm"},{"role":"system"`), encode(`"role":"system"`), encode(`"reasoning_content":"hm","content":"x"`),
		encode(`"reasoning_content":"hm`), encode(`"reasoning_content":"hm",`),
	} {
		if members, ok := decodeReasoning(encrypted); ok {
			t.Errorf("%q was taken for %s", encrypted, members)
		}
	}
}

func TestResponseTools(t *testing.T) {
	t.Parallel()
	var r ResponseRequest
	long := strings.Repeat("long_", 20)
	tools := []responseTool{
		{name: "f"}, {kind: customTool, name: "apply_patch"}, {kind: localShellTool, name: "local_shell"},
		{namespace: "mcp__github__", name: "search"}, {namespace: "mcp__github", name: "search"}, {name: "mcp__github__search"},
		{namespace: "calendar", name: "add"}, {kind: customTool, namespace: "calendar", name: "note"},
		{name: long + "a"}, {name: long + "b"}, {namespace: long, name: long}, {name: "with.dot"},
	}
	names := map[string]bool{}
	for _, tool := range tools {
		name := r.addTool(tool)
		switch {
		case len(name) > 64 || !isID(name):
			t.Errorf("%+v has the name %q, which OpenAI does not allow", tool, name)
		case names[name]:
			t.Errorf("%+v has the name %q of another tool", tool, name)
		case r.tool(name) != tool:
			t.Errorf("%q stands for %+v instead of %+v", name, r.tool(name), tool)
		case r.addTool(tool) != name:
			t.Errorf("%+v has another name the second time", tool)
		}
		names[name] = true
	}
	for _, name := range []string{"f", "apply_patch", "calendar__add", "mcp__github__search"} {
		if !names[name] {
			t.Errorf("no tool has the name %q", name)
		}
	}
	for tool, want := range map[responseTool]string{
		{namespace: "mcp__github", name: "search"}:      r.addTool(tools[4]), // as the client says it
		{name: "calendar__add"}:                         "calendar__add",     // as the model says it
		{kind: customTool, name: "mcp__github__search"}: "mcp__github__search",
		{name: "of_an_earlier_turn"}:                    "of_an_earlier_turn",
	} {
		if got := r.nameOf(tool); got != want {
			t.Errorf("a call of %+v is one of %q instead of %q", tool, got, want)
		}
	}
	if got := r.tool("unknown"); got != (responseTool{name: "unknown"}) {
		t.Errorf("an unknown tool is %+v", got)
	}
	for kind, item := range callItems {
		if item.call == "" || item.output == "" || item.argument == "" {
			t.Errorf("kind %d has no items", kind)
		}
	}
}

func TestCustomArguments(t *testing.T) {
	t.Parallel()
	input := "*** Begin Patch\n\"é\"\t\\"
	if got := str(get(customArguments(input), customInput)); got != input {
		t.Errorf("%q became %q", input, got)
	}
}
