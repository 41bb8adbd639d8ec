package openai

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func signalsOf(t testing.TB, body string) *Signals {
	t.Helper()
	var h Head
	if err := h.Parse([]byte(body)); err != nil {
		t.Fatalf("Parse(%s) = %v", body, err)
	}
	return h.Signals()
}

func TestSignals(t *testing.T) {
	t.Parallel()
	x100 := strings.Repeat("x", 100)
	base64 := strings.Repeat("iVBORw0KGgo/", 1000)
	for _, tt := range []struct {
		name, body, content string
		want                Signals
	}{
		{"nothing", `{"model":"m"}`, "", Signals{}},
		{"chat", `{"messages":[{"role":"system","content":"` + x100 + `"},{"role":"user","content":"first"},{"role":"assistant","content":"` + x100 + `"},{"role":"user","content":"last"}]}`, "last",
			Signals{PromptTokens: 53 + 16, LargestPrompt: 53 + 16, Messages: 4}},
		{"parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"` + x100 + `"},{"type":"text","text":"two"}]}]}`, x100 + "\ntwo",
			Signals{PromptTokens: 26 + 4, LargestPrompt: 26 + 4, Messages: 1}},
		{"image", `{"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64 + `"}}]}]}`, "What is it?",
			Signals{PromptTokens: 3 + 4 + imageTokens, LargestPrompt: 3 + 4 + imageTokens, Messages: 1, Images: 1}},
		{"sound and file", `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"` + base64 + `","format":"wav"}},{"type":"file","file":{"file_data":"` + base64 + `"}}]}]}`, "",
			Signals{PromptTokens: 4 + audioTokens + fileTokens, LargestPrompt: 4 + audioTokens + fileTokens, Messages: 1, Audio: 1, Files: 1}},
		{"tools", `{"tools":[{"a":1},{"b":2}],"functions":[{}]}`, "", Signals{PromptTokens: 6, LargestPrompt: 6, Tools: 3}},
		{"no tools", `{"tools":[],"functions":null}`, "", Signals{PromptTokens: 1, LargestPrompt: 1}},
		{"a turn of tools", `{"messages":[{"role":"user","content":"weather"},{"role":"assistant","content":null,"tool_calls":[{"x":1}]},{"role":"tool","content":"21"}]}`, "weather",
			Signals{PromptTokens: 5 + 12, LargestPrompt: 5 + 12, Messages: 3}},
		{"schema", `{"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, "", Signals{JSONSchema: true}},
		{"any JSON", `{"response_format":{"type":"json_object"}}`, "", Signals{}},
		{"schema of responses", `{"text":{"format":{"type":"json_schema","name":"x"}}}`, "", Signals{JSONSchema: true}},
		{"max_tokens", `{"max_tokens":5}`, "", Signals{MaxTokens: 5}},
		{"max_output_tokens", `{"max_output_tokens":6}`, "", Signals{MaxTokens: 6}},
		{"the newer name wins", `{"max_completion_tokens":7,"max_tokens":5}`, "", Signals{MaxTokens: 7}},
		{"the newer name says nothing", `{"max_tokens":5,"max_completion_tokens":null}`, "", Signals{MaxTokens: 5}},
		{"max_tokens a text", `{"max_tokens":"5"}`, "", Signals{}},
		{"completions", `{"prompt":"` + x100 + `"}`, x100, Signals{PromptTokens: 25, LargestPrompt: 25, Messages: 1}},
		{"embeddings of a list", `{"input":["` + x100 + `","` + x100 + x100 + `","x"]}`, "x", Signals{PromptTokens: 76, LargestPrompt: 50, Messages: 3}},
		{"tokens", `{"input":[1,2,3]}`, "", Signals{PromptTokens: 3, LargestPrompt: 3, Messages: 1}},
		{"lists of tokens", `{"prompt":[[1,2,3],[4]]}`, "", Signals{PromptTokens: 4, LargestPrompt: 3, Messages: 2}},
		{"responses", `{"instructions":"` + x100 + `","input":"Hello"}`, "Hello", Signals{PromptTokens: 27, LargestPrompt: 27, Messages: 1}},
		{"items", `{"input":[{"role":"user","content":[{"type":"input_text","text":"Look"},{"type":"input_image","image_url":"data:image/png;base64,` + base64 + `"}]},{"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","output":"12345678"}]}`, "Look",
			Signals{PromptTokens: 4 + 12 + imageTokens, LargestPrompt: 4 + 12 + imageTokens, Messages: 3, Images: 1}},
		{"a stored prompt", `{"prompt":{"id":"pmpt_1"}}`, "", Signals{}},
		{"moderations", `{"input":[{"type":"text","text":"` + x100 + `"},{"type":"image_url","image_url":{"url":"https://x"}}]}`, "", Signals{PromptTokens: 25 + 8 + imageTokens, LargestPrompt: 25 + 8 + imageTokens, Messages: 2, Images: 1}},
		{"rerank", `{"query":"which?","documents":["` + x100 + `",{"text":"` + x100 + x100 + `"}]}`, "which?", Signals{PromptTokens: 77 + 4, LargestPrompt: 56, Messages: 2}},
		{"escapes weigh what they mean", `{"prompt":"\u043f\u0440\n\\\ud83d\ude00"}`, "пр\n\\😀", Signals{PromptTokens: 3, LargestPrompt: 3, Messages: 1}},
		{"keys with escapes", `{"messages":[{"r\u006fle":"user","cont\u0065nt":"Hi"}]}`, "Hi", Signals{PromptTokens: 5, LargestPrompt: 5, Messages: 1}},
		{"what servers refuse", `{"messages":{"x":1},"prompt":5,"input":true,"tools":"x","response_format":[1],"text":"x","instructions":[5,null]}`, "", Signals{PromptTokens: 1, LargestPrompt: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := signalsOf(t, tt.body)
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
		s := signalsOf(t, `{"messages":[{"role":"user","content":["`+text+`",{"text":"`+text+`"}]}]}`)
		if got := s.Content(); len(got) > maxContent || len(got) < maxContent/2-1 || !strings.HasPrefix(text, got[:1]) && got[0] != '\n' {
			t.Errorf("Content has %d bytes and begins with %.8q", len(got), got)
		}
	}
}

func TestSignalsAreReadOnce(t *testing.T) {
	var h Head
	if err := h.Parse(chatBody(10 << 10)); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { h.signals = nil; h.Signals() }); n != 1 {
		t.Errorf("reading makes %v allocations, want 1", n)
	}
	if first := h.Signals(); first != h.Signals() {
		t.Error("they were read again")
	}
	if h.Reset(); h.signals != nil {
		t.Error("Reset left them")
	}
}
