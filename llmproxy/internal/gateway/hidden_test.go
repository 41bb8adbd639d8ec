package gateway

import (
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// The other members of an event with a usage that only the gateway asked for reach the client, also through the cache.
func TestTimingsBesideTheUsage(t *testing.T) {
	t.Parallel()
	const usage = `{"choices":[],"id":"1","usage":{"prompt_tokens":5,"completion_tokens":2},"timings":{"predicted_per_second":91.2}}`
	events := []string{strings.TrimSpace(first), `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, "data: " + usage, "data: [DONE]"}
	for name, withCache := range map[string]bool{"no cache": false, "cache": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "openai")
			fake.Always(fakellm.RawEvents(events...))
			s := &setup{t: t}
			if withCache {
				s.config.Cache = rules(t, nil)
			}
			s.up("a", upstream.OpenAI, nil, fake.URL())
			s.serve("m a/x")
			asks := strings.Replace(chat("m", true), `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
			for i, body := range []string{chat("m", true), chat("m", true), asks, chat("m", false)} {
				got := s.settled(chatPath, body)
				if strings.Count(got.body, `"prompt_tokens":5`) != i/2 && i < 3 || i < 3 && !strings.Contains(got.body, `"timings":{"predicted_per_second":91.2}`) || !strings.Contains(got.body, "local") {
					t.Errorf("request %d (%s): %s", i, got.cache(), got.body)
				}
				if reasons := strings.Count(got.body, `"finish_reason":"stop"`); i < 2 && reasons != 2 {
					t.Errorf("request %d (%s) names the finish reason %d times: %s", i, got.cache(), reasons, got.body)
				}
			}
		})
	}
}
