package openai

import "testing"

func TestForgottenHead(t *testing.T) {
	t.Parallel()
	body := `{"model":"m","messages":[{"role":"user","content":"Hello"},{"role":"user","content":"there"}]}`
	for _, tt := range []struct {
		name     string
		ask      func(*Head)
		messages int
		content  string
	}{
		{"nothing was asked for", func(*Head) {}, 0, ""},
		{"signals", func(h *Head) { h.Signals() }, 2, ""},
		{"the content", func(h *Head) { h.Signals().Content() }, 2, "there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var h Head
			memory := []byte(body)
			if err := h.Parse(memory); err != nil {
				t.Fatal(err)
			}
			tt.ask(&h)
			h.Forget()
			clear(memory)
			if s := h.Signals(); s.Messages != tt.messages || s.Content() != tt.content {
				t.Errorf("%d messages, the last %q; want %d and %q", s.Messages, s.Content(), tt.messages, tt.content)
			}
			if h.Model != "m" || h.Body != nil {
				t.Errorf("model %q, body %q", h.Model, h.Body)
			}
		})
	}
}
