package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzSignals holds what is read by passes over the bytes against what a decoded request says.
func FuzzSignals(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	for _, body := range []string{
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},"b"]},{"role":"tool","content":"\n"}],"tools":[{}]}`,
		`{"input":["a",[1,2],{"role":"user","content":"b"},{"text":"c"},3],"text":{"format":{"type":"json_schema"}},"max_output_tokens":9}`,
		`{"query":"a","documents":["b",{"text":"c"}],"instructions":[{"type":"file"}],"prompt":{"id":1},"functions":[1]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var h Head
		if h.Parse(body) != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		if lists := present(members, "messages", "prompt", "input"); lists > 1 || lists > 0 && present(members, "query", "documents") > 0 {
			return // their order would count, and no endpoint has both
		}
		want := reference{}
		want.read(members)
		got := h.Signals()
		if diff := cmp.Diff(want.Signals, *got, cmpopts.IgnoreUnexported(Signals{})); diff != "" {
			t.Fatalf("Signals (-decoded +got):\n%s", diff)
		}
		if content := got.Content(); len(body) < maxContent && content != want.said {
			t.Fatalf("Content = %q, decoded %q", content, want.said)
		}
	})
}

// A reference reads signals from decoded values.
type reference struct {
	Signals
	said string
}

func (r *reference) read(members map[string]json.RawMessage) {
	for _, list := range lists {
		r.list(list, members[list])
	}
	r.text(decode[any](members["instructions"]))
	if query := decode[any](members["query"]); query != nil {
		r.text(query)
		r.said = said(query)
	}
	for _, list := range []string{"tools", "functions"} {
		r.Tools += len(decode[[]any](members[list]))
		if raw := members[list]; string(raw) != "null" {
			r.all.bytes += len(raw)
		}
	}
	r.JSONSchema = schema(decode[any](members["response_format"])) || schema(get(decode[any](members["text"]), "format"))
	for _, name := range []string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		if n := decode[int64](members[name]); r.MaxTokens == 0 && n > 0 {
			r.MaxTokens = int(n)
		}
	}
	r.PromptTokens = r.all.estimate()
	r.LargestPrompt = r.all.minus(r.listed).plus(r.largest).estimate()
}

var lists = []string{"documents", "messages", "prompt", "input"}

func (r *reference) list(name string, raw json.RawMessage) {
	whole := decode[any](raw)
	text, alone := whole.(string)
	if alone && name != "messages" {
		r.Messages++
		r.text(text)
		r.said = text
	}
	elements, _ := whole.([]any)
	verbatim := decode[[]json.RawMessage](raw)
	tokens := 0
	for i, element := range elements {
		before := r.all
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
				r.all.tokens += len(list)
				break
			}
			r.text(e)
			r.said = e.(string)
		default:
			if name == "messages" {
				r.item(nil, nil)
				continue
			}
			tokens++
			continue
		}
		if one := r.all.minus(before); name != "messages" {
			r.listed = r.listed.plus(one)
			if one.estimate() > r.largest.estimate() {
				r.largest = one
			}
		}
	}
	if tokens > 0 {
		r.Messages++
		r.all.tokens += tokens
	}
	if name == "documents" {
		r.said = ""
	}
}

func (r *reference) item(item map[string]any, raw json.RawMessage) {
	r.Messages++
	r.all.tokens += messageTokens
	r.text(item["output"])
	members := decode[map[string]json.RawMessage](raw)
	for _, name := range []string{"arguments", "tool_calls", "function_call"} {
		r.all.bytes += len(members[name])
	}
	_, role := item["role"]
	content, said0 := item["content"]
	if !role && !said0 {
		r.text(item)
		return
	}
	r.text(content)
	if item["role"] == "user" && said0 {
		r.said = said(content)
	}
}

func (r *reference) text(content any) {
	switch c := content.(type) {
	case string:
		r.all.bytes += len(c)
	case []any:
		for _, part := range c {
			r.text(part)
		}
	case map[string]any:
		kind, _ := c["type"].(string)
		switch kind {
		case "image_url", "input_image", "image":
			r.Images++
			r.all.tokens += imageTokens
		case "input_audio", "audio":
			r.Audio++
			r.all.tokens += audioTokens
		case "file", "input_file", "document":
			r.Files++
			r.all.tokens += fileTokens
		default:
			text, _ := c["text"].(string)
			r.all.bytes += len(text)
		}
	}
}

func said(content any) string {
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
	_ = json.Unmarshal(raw, &v) // what is something else is left out
	return v
}
