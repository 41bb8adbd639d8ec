package gateway

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A session of Claude Code stays on its route, whether it generates or counts, and another one takes its own.
func TestSessionsOfClaudeCodeStay(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	s.up("box", upstream.VLLM, nil, fakellm.Start(t, "vllm").URL())
	s.up("claude", upstream.Anthropic, nil, fakellm.Start(t, "anthropic").URL())
	s.config.Affinity = NewAffinity()
	s.models = []router.Model{{Name: "coder", Routes: []router.RouteConfig{{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"claude/sonnet"}}, {Targets: []string{"box/qwen"}}}}}
	s.serve()
	ask := func(path, session string, header ...string) string {
		return s.post(path, messages("coder", false), append(header, "X-Claude-Code-Session-Id", session)...).header.Get("X-Llm-Target")
	}
	for _, step := range []struct {
		path, session string
		header        []string
		want          string
	}{
		{"/v1/messages", "a", nil, "box/qwen"},
		{"/v1/messages", "a", []string{"X-Hard", "1"}, "box/qwen"},
		{countPath, "a", []string{"X-Hard", "1"}, "box/qwen"},
		{countPath, "b", []string{"X-Hard", "1"}, "claude/sonnet"},
		{"/v1/messages", "b", []string{"X-Hard", "1"}, "claude/sonnet"},
		{"/v1/messages", "b", nil, "box/qwen"}, // a prompt that the rules keep here does not leave
	} {
		if got := ask(step.path, step.session, step.header...); got != step.want {
			t.Errorf("%s of session %s went to %s, want %s", step.path, step.session, got, step.want)
		}
	}
}

// Background calls go to the small model by a pattern, and what must stay is never sent to Claude, whatever the model is called.
func TestBackgroundCallsStay(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	small, claude := fakellm.Start(t, "ollama"), fakellm.Start(t, "anthropic")
	s.up("small", upstream.Ollama, nil, small.URL())
	s.up("claude", upstream.Anthropic, nil, claude.URL())
	s.models = []router.Model{
		{Name: "claude-*haiku*", LocalOnly: true, Pools: []router.PoolConfig{{Targets: []string{"small/qwen"}, Policy: router.First}, {Targets: []string{"claude/haiku"}, Policy: router.First}}},
		{Name: "claude-*", Pools: []router.PoolConfig{{Targets: []string{"claude"}, Policy: router.First}}},
	}
	s.serve()
	for _, answer := range []fakellm.Answer{fakellm.Text("Title"), fakellm.InternalError()} {
		small.Always(answer)
		s.post("/v1/messages", messages("claude-3-5-haiku-20241022", true))
		s.post(countPath, messages("claude-haiku-4-5", false))
	}
	if n := len(claude.Requests()); n != 0 {
		t.Errorf("%d background calls left: %s", n, claude.Requests()[0].Body)
	}
	if got := s.post("/v1/messages", messages("claude-sonnet-4-5", false)); got.header.Get("X-Llm-Target") != "claude/claude-sonnet-4-5" {
		t.Errorf("target %q: %s", got.header.Get("X-Llm-Target"), got.body)
	}
}
