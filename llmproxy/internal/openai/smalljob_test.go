package openai

import (
	"strconv"
	"strings"
	"testing"
)

func TestSmallJob(t *testing.T) {
	t.Parallel()
	const claudeTitle = "You are Claude Code, Anthropic's official CLI for Claude.\\nGenerate a concise, sentence-case title (3-7 words) that captures the main topic"
	for _, test := range []struct {
		name, body string
		want       bool
	}{
		{"Claude Code's title", `{"max_tokens":32000,"messages":[{"role":"system","content":"` + claudeTitle + `"},{"role":"user","content":"fix the login"}]}`, true},
		{"its older title, with parts", `{"messages":[{"role":"system","content":[{"type":"text","text":"You are Claude Code."},{"type":"text","text":"Analyze if this message indicates a new conversation topic. If"}]},{"role":"user","content":"fix"}]}`, true},
		{"its quota check", `{"max_tokens":1,"messages":[{"role":"user","content":"quota"}]}`, true},
		{"opencode's title", `{"messages":[{"role":"system","content":"You are a title generator. You output ONLY a thread title. Nothing else."},{"role":"user","content":"x"}]}`, true},
		{"a title in the Responses API", `{"instructions":"You are a title generator. You output ONLY a thread title.","input":[{"role":"user","content":"x"}]}`, true},
		{"Open WebUI's tags", `{"messages":[{"role":"user","content":"### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history"}]}`, true},
		{"a short answer", `{"max_tokens":128,"messages":[{"role":"user","content":"Spam or not?"}]}`, true},
		{"a short completion", `{"max_completion_tokens":20,"prompt":"def f("}`, true},
		{"a conversation", `{"messages":[{"role":"system","content":"You are Claude Code."},{"role":"user","content":"fix the login"}]}`, false},
		{"a longer answer", `{"max_tokens":129,"messages":[{"role":"user","content":"Hi"}]}`, false},
		{"tools", `{"max_tokens":10,"tools":[{}],"messages":[{"role":"user","content":"Hi"}]}`, false},
		{"an image", `{"max_tokens":10,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}`, false},
		{"a long prompt", `{"max_tokens":10,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 7000) + `"}]}`, false},
		{"Open WebUI's documents", `{"messages":[{"role":"user","content":"### Task:\nRespond to the user query using the provided context"}]}`, false},
		{"a summary to go on with", `{"messages":[{"role":"system","content":"You are a helpful AI assistant tasked with summarizing conversations."},{"role":"user","content":"Summarize."}]}`, false},
		{"a quoted instruction", `{"messages":[{"role":"user","content":` + strconv.Quote(strings.Repeat("word ", 500)+"Generate a title for this conversation:") + `}]}`, false},
		{"an earlier title request", `{"messages":[{"role":"user","content":"Generate a title for this conversation: x"},{"role":"assistant","content":"X"},{"role":"user","content":"Now a poem"}]}`, false},
		{"an embedding of such a text", `{"input":"Generate a title for this conversation: x"}`, false},
		{"nothing", `{}`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := parseRequest(t, test.body).Signals().SmallJob(); got != test.want {
				t.Errorf("SmallJob = %v", got)
			}
		})
	}
}

func BenchmarkSmallJob(b *testing.B) {
	signals := parseRequest(b, `{"messages":[{"role":"system","content":"`+strings.Repeat("You are an agent. ", 500)+`"},{"role":"user","content":"`+strings.Repeat("word ", 1000)+`"}]}`).Signals()
	b.ReportAllocs()
	for b.Loop() {
		if signals.SmallJob() {
			b.Fatal("no small job")
		}
	}
}
