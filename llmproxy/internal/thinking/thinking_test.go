package thinking

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func TestNearestEffort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		takes Efforts
		wish  Effort
		want  Effort
	}{
		{0, None, None}, {0, Max, Max}, {0, On, Medium},
		{EffortsOf(), Low, Unsaid}, {EffortsOf(), None, Unsaid},
		{EffortsOf(Low, High), None, Low}, {EffortsOf(Minimal, Low), None, Minimal}, {EffortsOf(None, Low), Minimal, None},
		{EffortsOf(None, Low, Medium), Max, Medium}, {EffortsOf(None, High), Low, High}, {EffortsOf(None, Minimal), High, Unsaid},
		{EffortsOf(None, On), Low, On}, {EffortsOf(None, On), On, On}, {EffortsOf(None, High), On, High},
	} {
		if got := tt.takes.Nearest(tt.wish); got != tt.want {
			t.Errorf("%b, %d: %d, want %d", tt.takes, tt.wish, got, tt.want)
		}
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]version{
		"claude-opus-5": {4, 7}, "claude-sonnet-4-8": {4, 7}, "claude-opus-4-7-20260416": {4, 7}, "us.anthropic.claude-fable-5-v1:0": {4, 7}, "claude-sonnet-5-5": {4, 7},
		"claude-opus-4-6": {4, 6}, "anthropic/claude-sonnet-4.6": {4, 6},
		"claude-haiku-4-5": {3, 7}, "claude-sonnet-4-5-20250929": {3, 7}, "claude-opus-4-1": {3, 7}, "claude-opus-4-20250514": {3, 7}, "claude-sonnet-4@20250514": {3, 7}, "claude-3-7-sonnet-latest": {3, 7},
		"claude-3-5-haiku-latest": {}, "claude-3-opus-20240229": {}, "claude-2.1": {}, "claude-instant-1.2": {},
	} {
		if got := GenerationOf(name); got.from != want || got == otherModels {
			t.Errorf("%s: %+v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"glm-5", "kimi-k3", "claude-latest", ""} {
		if got := GenerationOf(name); got != otherModels {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whatever a request says, it is still JSON when a server has been told.
func FuzzTell(f *testing.F) {
	for _, request := range []string{
		`{}`, `{"reasoning_effort":"none"}`, `{"reasoning":{"effort":"low","max_tokens":9}}`, `{"thinking":{"type":"enabled","budget_tokens":2048},"max_tokens":1}`,
		`{"think":"high"}`, `{"enable_thinking":false,"chat_template_kwargs":{"thinking":true,"x":[]}}`, `{"thinking":null,"reasoning":7,"output_config":{"effort":"max"}}`,
		`{"chat_template_kwargs":{"enable_thinking":true,"enable_thinking":false},"think":true}`, `{"output_config":{"effort":"low","format":{}},"thinking":{"type":"adaptive"}}`,
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		var o jsonspan.Object
		if o.Scan(request) != nil || !json.Valid(request) || !MayWish(&o) {
			return
		}
		check := func(how string, tell func(e *jsonspan.Edit)) {
			var e jsonspan.Edit
			e.Reset(&o)
			tell(&e)
			if told := e.Bytes(); !json.Valid(told) {
				t.Errorf("%s: %s", how, told)
			}
		}
		for i, k := range []*Knob{OpenAI, VLLM, LlamaCpp, EffortOnly, Ollama, Gemini, OpenRouter, Groq, Mistral, DeepSeek, Together, Fireworks, Cerebras} {
			for _, translated := range []bool{false, true} {
				check(fmt.Sprint("knob ", i), func(e *jsonspan.Edit) { k.Tell(e, About{Takes: k.Takes, Translated: translated}) })
			}
		}
		check("responses", func(e *jsonspan.Edit) { TellResponses(e, EffortsOf(Low)) })
		for _, g := range append(generations, otherModels) {
			check(fmt.Sprint("Claude from ", g.from), func(e *jsonspan.Edit) {
				wished := WishIn(e).Effort
				g.Fit(e, EffortsOf(Low, High))
				g.Tell(e, AboutClaude{Wished: wished, DefaultLimit: 4096})
			})
		}
	})
}
