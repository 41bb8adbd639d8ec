package gateway

import (
	"net/http"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// What a failed first target adds to an answer: the difference to "none". Each request goes to a gateway that knows nothing of
// the failure yet, since a circuit would save the attempt.
func BenchmarkFailover(b *testing.B) {
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		down   bool
	}{
		{"none", sound(true), false},
		{"refused", sound(true), true},
		{"early error", fakellm.Text("a").RoleFirst().ErrorEventAfter(0), false},
		{"busy", fakellm.Busy(), false},
	} {
		b.Run(test.name, func(b *testing.B) {
			first, second := fakellm.Start(b, "openai"), fakellm.Start(b, "openai")
			address := first.URL()
			if first.Always(test.answer); test.down {
				first.Down()
			}
			second.Always(sound(true))
			for b.Loop() {
				b.StopTimer()
				s := &setup{t: b}
				s.up("a", upstream.OpenAI, nil, address)
				s.up("b", upstream.OpenAI, nil, second.URL())
				s.serve("m a/x | b/y")
				b.StartTimer()
				if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK {
					b.Fatalf("status %d: %s", got.status, got.body)
				}
				b.StopTimer()
				s.server.Close()
				b.StartTimer()
			}
		})
	}
}
