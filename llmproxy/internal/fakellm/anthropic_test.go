package fakellm

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestAnthropic(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, version, body string
		answer              Answer
		status              int
		want                []string
	}{
		{"whole", "2023-06-01", `{"model":"m","max_tokens":9,"messages":[]}`, Text("a", "b").Usage(12, 3, 5), 200,
			[]string{`"content":[{"type":"text","text":"ab"}],"stop_reason":"end_turn"`, `"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":3`}},
		{"stream", "2023-06-01", `{"model":"m","max_tokens":9,"stream":true,"messages":[]}`, Text("a", "b"), 200,
			[]string{"event: message_start\n", "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"b\"}}\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"}},
		{"error in a stream", "2023-06-01", `{"model":"m","max_tokens":9,"stream":true,"messages":[]}`, Text("a", "b").ErrorEventAfter(1), 200, []string{"event: error\n", `"type":"overloaded_error"`}},
		{"no version", "", `{"model":"m","max_tokens":9,"messages":[]}`, Text("a"), 400, []string{`{"type":"error","error":{"type":"invalid_request_error"`}},
		{"no max_tokens", "2023-06-01", `{"model":"m","messages":[]}`, Text("a"), 400, []string{"max_tokens: Field required"}},
		{"overloaded", "2023-06-01", `{"model":"m","max_tokens":9,"messages":[]}`, Busy(), 529, []string{`"overloaded_error"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, "anthropic")
			s.Next(test.answer)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/messages?beta=true", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if test.version != "" {
				req.Header.Set("Anthropic-Version", test.version)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != test.status {
				t.Errorf("status %d: %s", res.StatusCode, body)
			}
			for _, want := range test.want {
				if !strings.Contains(string(body), want) {
					t.Errorf("%q is not in %s", want, body)
				}
			}
		})
	}
}
