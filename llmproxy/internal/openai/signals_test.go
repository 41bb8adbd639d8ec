package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	x100 := strings.Repeat("x", 100)
	base64 := strings.Repeat("iVBORw0KGgo/", 1000)
	for _, tt := range []struct {
		name, body, content string
		want                Signals
	}{
		{"no input", `{"model":"m"}`, "", Signals{}},
		{"chat", `{"messages":[{"role":"system","content":"` + x100 + `"},{"role":"user","content":"first"},{"role":"assistant","content":"` + x100 + `"},{"role":"user","content":"last"}]}`, "last",
			Signals{PromptTokens: 53 + 16, LargestPrompt: 53 + 16, Messages: 4}},
		{"parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"` + x100 + `"},{"type":"text","text":"two"}]}]}`, x100 + "\ntwo",
			Signals{PromptTokens: 26 + 4, LargestPrompt: 26 + 4, Messages: 1}},
		{"image", `{"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64 + `"}}]}]}`, "What is it?",
			Signals{PromptTokens: 3 + 4 + imageTokens, LargestPrompt: 3 + 4 + imageTokens, Messages: 1, Images: 1}},
		{"audio and file", `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"` + base64 + `","format":"wav"}},{"type":"file","file":{"file_data":"` + base64 + `"}}]}]}`, "",
			Signals{PromptTokens: 4 + audioTokens + fileTokens, LargestPrompt: 4 + audioTokens + fileTokens, Messages: 1, Audio: 1, Files: 1}},
		{"tools", `{"tools":[{"a":1},{"b":2}],"functions":[{}]}`, "", Signals{PromptTokens: 6, LargestPrompt: 6, Tools: 3}},
		{"empty and null tools", `{"tools":[],"functions":null}`, "", Signals{PromptTokens: 1, LargestPrompt: 1}},
		{"tool call and its result", `{"messages":[{"role":"user","content":"weather"},{"role":"assistant","content":null,"tool_calls":[{"x":1}]},{"role":"tool","content":"21"}]}`, "weather",
			Signals{PromptTokens: 5 + 12, LargestPrompt: 5 + 12, Messages: 3}},
		{"JSON schema", `{"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, "", Signals{JSONSchema: true}},
		{"any JSON object", `{"response_format":{"type":"json_object"}}`, "", Signals{}},
		{"JSON schema of the Responses API", `{"text":{"format":{"type":"json_schema","name":"x"}}}`, "", Signals{JSONSchema: true}},
		{"max_tokens", `{"max_tokens":5}`, "", Signals{MaxTokens: 5}},
		{"max_output_tokens", `{"max_output_tokens":6}`, "", Signals{MaxTokens: 6}},
		{"max_completion_tokens over max_tokens", `{"max_completion_tokens":7,"max_tokens":5}`, "", Signals{MaxTokens: 7}},
		{"max_completion_tokens null", `{"max_tokens":5,"max_completion_tokens":null}`, "", Signals{MaxTokens: 5}},
		{"max_tokens as a string", `{"max_tokens":"5"}`, "", Signals{}},
		{"completions", `{"prompt":"` + x100 + `"}`, x100, Signals{PromptTokens: 25, LargestPrompt: 25, Messages: 1}},
		{"messages that begin alike", `{"messages":[{"role":"user","content":"1234"},{"role":"assistant","content":"\n"},{"role":"user","content":"12345678"},{"role":"user","content":"last","name":"x"},{"role":"assistant","content":"123","content":"1"}]}`, "last",
			Signals{PromptTokens: 5 + 20, LargestPrompt: 5 + 20, Messages: 5}},
		{"list of texts", `{"input":["` + x100 + `","` + x100 + x100 + `","x"]}`, "x", Signals{PromptTokens: 76, LargestPrompt: 50, Messages: 3}},
		{"list of tokens", `{"input":[1,2,3]}`, "", Signals{PromptTokens: 3, LargestPrompt: 3, Messages: 1}},
		{"lists of tokens", `{"prompt":[[1,2,3],[4]]}`, "", Signals{PromptTokens: 4, LargestPrompt: 3, Messages: 2}},
		{"instructions and input", `{"instructions":"` + x100 + `","input":"Hello"}`, "Hello", Signals{PromptTokens: 27, LargestPrompt: 27, Messages: 1}},
		{"items of the Responses API", `{"input":[{"role":"user","content":[{"type":"input_text","text":"Look"},{"type":"input_image","image_url":"data:image/png;base64,` + base64 + `"}]},{"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","output":"12345678"}]}`, "Look",
			Signals{PromptTokens: 4 + 12 + imageTokens, LargestPrompt: 4 + 12 + imageTokens, Messages: 3, Images: 1}},
		{"stored prompt", `{"prompt":{"id":"pmpt_1"}}`, "", Signals{}},
		{"moderations", `{"input":[{"type":"text","text":"` + x100 + `"},{"type":"image_url","image_url":{"url":"https://x"}}]}`, "", Signals{PromptTokens: 25 + 8 + imageTokens, LargestPrompt: 25 + 8 + imageTokens, Messages: 2, Images: 1}},
		{"rerank", `{"query":"which?","documents":["` + x100 + `",{"text":"` + x100 + x100 + `"}]}`, "which?", Signals{PromptTokens: 77 + 4, LargestPrompt: 56, Messages: 2}},
		{"escapes count as what they stand for", `{"prompt":"\u043f\u0440\n\\\ud83d\ude00"}`, "пр\n\\😀", Signals{PromptTokens: 3, LargestPrompt: 3, Messages: 1}},
		{"keys with escapes", `{"messages":[{"r\u006fle":"user","cont\u0065nt":"Hi"}]}`, "Hi", Signals{PromptTokens: 5, LargestPrompt: 5, Messages: 1}},
		{"values of the wrong type", `{"messages":{"x":1},"prompt":5,"input":true,"tools":"x","response_format":[1],"text":"x","instructions":[5,null]}`, "", Signals{PromptTokens: 1, LargestPrompt: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parseRequest(t, tt.body).Signals()
			if diff := cmp.Diff(tt.want, *got, cmpopts.IgnoreUnexported(Signals{})); diff != "" {
				t.Errorf("Signals (-want +got):\n%s", diff)
			}
			if got.Content() != tt.content {
				t.Errorf("Content = %q, want %q", got.Content(), tt.content)
			}
		})
	}
}

func TestContentIsBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("x", 1<<20), strings.Repeat("é", 1<<19), strings.Repeat(`\n`, 1<<19)} {
		s := parseRequest(t, `{"messages":[{"role":"user","content":["`+text+`",{"text":"`+text+`"}]}]}`).Signals()
		if got := s.Content(); len(got) > maxContent || len(got) < maxContent/2-1 || !strings.HasPrefix(text, got[:1]) && got[0] != '\n' {
			t.Errorf("Content has %d bytes and starts with %.8q", len(got), got)
		}
	}
}

func TestSignalsAreReadOnce(t *testing.T) {
	r := parseRequest(t, string(chatBody(10<<10)))
	if n := testing.AllocsPerRun(100, func() { r.signals = nil; r.Signals() }); n != 1 {
		t.Errorf("Signals makes %v allocations, want 1", n)
	}
	if first := r.Signals(); first != r.Signals() {
		t.Error("the second call read the signals again")
	}
	if r.Reset(); r.signals != nil {
		t.Error("Reset kept the signals")
	}
}

// FuzzSignals compares signals that are read in place with those of the decoded request.
func FuzzSignals(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	for _, body := range []string{
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},"b"]},{"role":"tool","content":"\n"}],"tools":[{}]}`,
		`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b\n"},{"role":"user","content":"c"},{"role":"user","content":"d","name":"e"},{"role":"user","content":"f" },{"role":"user","content":"g"}]}`,
		`{"messages":[{"role":"system","content":"a"},{"role":"system","content":"b"},{"content":"c","role":"user"},{"content":"d","role":"user"},{"role":"user","content":"e","content":"f"},{"role":"user","content":"e","content":"g"}]}`,
		`{"messages":[{"tool_calls":[1],"role":"user","content":"a"},{"tool_calls":[1],"role":"user","content":"b"},{"content":"c"},{"content":"d"},{"role":null,"content":"e"},{"role":null,"content":"f"},"g",{"r\u006fle":"user","content":"h"},{"r\u006fle":"user","content":"i"}]}`,
		`{"input":["a",[1,2],{"role":"user","content":"b"},{"text":"c"},3],"text":{"format":{"type":"json_schema"}},"max_output_tokens":9}`,
		`{"query":"a","documents":["b",{"text":"c"}],"instructions":[{"type":"file"}],"prompt":{"id":1},"functions":[1]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Request
		if r.Parse(body) != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		if lists := present(members, "messages", "prompt", "input"); lists > 1 || lists > 0 && present(members, "query", "documents") > 0 {
			return // no endpoint has both, and the result would depend on their order
		}
		want := reference{}
		want.read(members)
		got := r.Signals()
		if diff := cmp.Diff(want.Signals, *got, cmpopts.IgnoreUnexported(Signals{})); diff != "" {
			t.Fatalf("Signals (-decoded +got):\n%s", diff)
		}
		if content := got.Content(); len(body) < maxContent && content != want.content {
			t.Fatalf("Content = %q, decoded %q", content, want.content)
		}
		if present(members, "instructions") == 0 && (got.conversation != want.conversation || string(got.system) != string(want.system)) {
			t.Fatalf("conversation %v with the instructions %q, decoded %v with %q", got.conversation, got.system, want.conversation, want.system)
		}
	})
}

// A reference reads signals from decoded values. It also sets their content.
type reference struct{ Signals }

func (r *reference) read(members map[string]json.RawMessage) {
	for _, list := range lists {
		r.list(list, members[list])
	}
	r.text(decode[any](members["instructions"]))
	if query := decode[any](members["query"]); query != nil {
		r.text(query)
		r.content = textOf(query)
	}
	for _, list := range []string{"tools", "functions"} {
		r.Tools += len(decode[[]any](members[list]))
		if raw := members[list]; string(raw) != "null" {
			r.total.bytes += len(raw)
		}
	}
	r.JSONSchema = schema(decode[any](members["response_format"])) || schema(get(decode[any](members["text"]), "format"))
	for _, name := range []string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		if n := decode[int64](members[name]); r.MaxTokens == 0 && n > 0 {
			r.MaxTokens = int(n)
		}
	}
	r.PromptTokens = r.total.estimate()
	r.LargestPrompt = r.total.minus(r.listed).plus(r.largest).estimate()
}

var lists = []string{"documents", "messages", "prompt", "input"}

func (r *reference) list(name string, raw json.RawMessage) {
	whole := decode[any](raw)
	text, isText := whole.(string)
	if isText && name != "messages" {
		r.Messages++
		r.text(text)
		r.content = text
	}
	elements, _ := whole.([]any)
	verbatim := decode[[]json.RawMessage](raw)
	tokens := 0
	for i, element := range elements {
		before := r.total
		switch e := element.(type) {
		case map[string]any:
			r.item(e, verbatim[i])
			_, role := e["role"]
			_, kind := e["type"]
			if role || kind {
				continue
			}
		case string, []any:
			if name == "messages" {
				r.item(nil, nil)
				r.text(nil)
				continue
			}
			r.Messages++
			if list, ok := e.([]any); ok {
				r.total.tokens += len(list)
				break
			}
			r.text(e)
			r.content = e.(string)
		default:
			if name == "messages" {
				r.item(nil, nil)
				continue
			}
			tokens++
			continue
		}
		if one := r.total.minus(before); name != "messages" {
			r.listed = r.listed.plus(one)
			if one.estimate() > r.largest.estimate() {
				r.largest = one
			}
		}
	}
	if tokens > 0 {
		r.Messages++
		r.total.tokens += tokens
	}
	if name == "documents" {
		r.content = ""
	}
}

func (r *reference) item(item map[string]any, raw json.RawMessage) {
	r.Messages++
	r.total.tokens += messageTokens
	r.text(item["output"])
	members := decode[map[string]json.RawMessage](raw)
	for _, name := range []string{"arguments", "tool_calls", "function_call"} {
		r.total.bytes += len(members[name])
	}
	_, role := item["role"]
	r.conversation = r.conversation || role
	content, hasContent := item["content"]
	if hasContent && r.system == nil && (item["role"] == "system" || item["role"] == "developer") {
		r.system = members["content"]
	}
	if !role && !hasContent {
		r.text(item)
		return
	}
	r.text(content)
	if item["role"] == "user" && hasContent {
		r.content = textOf(content)
	}
}

func (r *reference) text(content any) {
	switch c := content.(type) {
	case string:
		r.total.bytes += len(c)
	case []any:
		for _, part := range c {
			r.text(part)
		}
	case map[string]any:
		kind, _ := c["type"].(string)
		switch kind {
		case "image_url", "input_image", "image":
			r.Images++
			r.total.tokens += imageTokens
		case "input_audio", "audio":
			r.Audio++
			r.total.tokens += audioTokens
		case "file", "input_file", "document":
			r.Files++
			r.total.tokens += fileTokens
		default:
			text, _ := c["text"].(string)
			r.total.bytes += len(text)
		}
	}
}

// textOf returns the text of a message's content.
func textOf(content any) string {
	if text, ok := content.(string); ok {
		return text
	}
	var lines []string
	parts, _ := content.([]any)
	for _, part := range parts {
		text, ok := part.(string)
		if !ok {
			text, ok = get(part, "text").(string)
		}
		if ok && (len(lines) > 0 || text != "") {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

// present returns how many of the members there are.
func present(members map[string]json.RawMessage, names ...string) (n int) {
	for _, name := range names {
		if members[name] != nil {
			n++
		}
	}
	return n
}

func schema(format any) bool { return get(format, "type") == "json_schema" }

func get(object any, key string) any {
	members, _ := object.(map[string]any)
	return members[key]
}

func decode[T any](raw json.RawMessage) (v T) {
	_ = json.Unmarshal(raw, &v) // the zero value for any other type
	return v
}
