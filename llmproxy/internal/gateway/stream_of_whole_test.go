package gateway

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A client that asks for a stream gets one, even from an upstream that answers without one.
func TestStreamOfAWholeAnswer(t *testing.T) {
	t.Parallel()
	const whole = `{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`
	for name, status := range map[string]int{"200": http.StatusOK, "201, as some frameworks say to every POST": http.StatusCreated} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			fake.Always(raw(status, whole))
			s.serve("m u")
			if got := s.post("/v1/chat/completions", chat("m", false)); got.status != http.StatusOK || got.body != whole {
				t.Errorf("not as a stream: status %d, %s", got.status, got.body)
			}
			got := s.post("/v1/chat/completions", chat("m", true))
			want := `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n" +
				`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + "data: [DONE]\n\n"
			if diff := cmp.Diff(want, got.body); diff != "" || got.status != http.StatusOK || got.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("status %d, %v %s", got.status, got.header, diff)
			}
			if rec := s.record(); rec.Usage.Input != 3 || rec.Events != 3 || !rec.Stream {
				t.Errorf("recorded %+v", rec)
			}
		})
	}
}
