package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A responseEvent is what clients read of an event of the Responses API.
type responseEvent struct {
	Type     string
	Sequence *int64 `json:"sequence_number"`
	Code     string // of an event named error
	Response struct {
		ID, Model, Status string
		Error             struct{ Code, Message string }
	}
}

func responseEvents(t *testing.T, stream string) (list []responseEvent) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSpace(stream), "\n\n") {
		_, data, found := strings.Cut(event, "data: ")
		if !found {
			continue
		}
		var e responseEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		list = append(list, e)
	}
	return list
}

const (
	responseRequest = `{"model":"m","stream":true,"store":false,"input":"hi"}`
	responseBegin   = `event: response.created` + "\n" + `data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_up","object":"response","created_at":1760000000,"model":"real","status":"in_progress","output":[]}}` + "\n\n" +
		`event: response.output_text.delta` + "\n" + `data: {"type":"response.output_text.delta","sequence_number":1,"delta":"Hi"}` + "\n\n"
)

func responseEnd(kind, rest string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\",\"sequence_number\":2,\"response\":{\"id\":\"resp_up\"" + rest + "}}\n\n"
}

// The final events of an upstream reach the client as they are, and what they say counts.
func TestFinalEventsOfResponsesPass(t *testing.T) {
	const counted = `,"usage":{"input_tokens":3,"output_tokens":2}`
	for _, test := range []struct {
		name, end string
		verdict   router.Verdict
		code      string // of the error in the record
		usage     bool
	}{
		{"completed", responseEnd("response.completed", `,"status":"completed","error":null`+counted), router.OK, "", true},
		{"incomplete", responseEnd("response.incomplete", `,"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}`+counted), router.OK, "", true},
		{"rate limited", responseEnd("response.failed", `,"status":"failed","error":{"code":"rate_limit_exceeded","message":"Rate limit reached for m. Please try again in 11.054s."}`+counted), router.Overloaded, "rate_limit_exceeded", true},
		{"overloaded", responseEnd("response.failed", `,"status":"failed","error":{"code":"server_is_overloaded","message":"busy"}`), router.Overloaded, "server_is_overloaded", false},
		{"a failure of the server", responseEnd("response.failed", `,"status":"failed","error":{"code":"server_error","message":"oops"}`), router.Failed, "server_error", false},
		{"a filtered answer", responseEnd("response.failed", `,"status":"failed","error":{"code":"content_filter","message":"no"}`+counted), router.ClientError, "content_filter", true},
		{"context too long", responseEnd("response.failed", `,"status":"failed","error":{"code":"context_length_exceeded","message":"no"}`), router.Unsupported, "context_length_exceeded", false},
		{"without a reason", responseEnd("response.failed", `,"status":"failed","error":null`), router.Failed, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			fake.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}}, []byte(responseBegin+test.end)))
			got := s.serve("m u/real").post("/v1/responses", responseRequest)
			if got.status != http.StatusOK || got.body != responseBegin+test.end {
				t.Errorf("status %d, body:\n%s", got.status, got.body)
			}
			rec := s.record()
			if rec.Verdict != test.verdict || rec.Estimated == test.usage || test.usage && rec.Usage != (tokens.Usage{Input: 3, Output: 2}) {
				t.Errorf("verdict %s, usage %+v, estimated %t", rec.Verdict, rec.Usage, rec.Estimated)
			}
			if failed := test.verdict != router.OK; failed != (rec.Err != nil) || failed && (rec.Err.Code != test.code || rec.Err.Message == "") {
				t.Errorf("the error in the record is %v", rec.Err)
			}
			if n := len(fake.Requests()); n != 1 {
				t.Errorf("the upstream was asked %d times", n)
			}
		})
	}
}

// Where the gateway ends a stream of the Responses API, SDKs raise the event named error, and Codex understands response.failed.
func TestOwnFailureOfResponses(t *testing.T) {
	const numberless = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n"
	for _, test := range []struct {
		name, stream string
		id, model    string
		code         string
		next         int64
	}{
		{"cut", responseBegin, "resp_up", "real", "upstream_error", 2},
		{"cut within an event", responseBegin + "event: response.completed\ndata: {\"type\"", "resp_up", "real", "upstream_error", 2},
		{"an event that is not JSON", responseBegin + "data: <html>\n\n", "resp_up", "real", "upstream_error", 2},
		{"the upstream's error", responseBegin + "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"oops\",\"sequence_number\":2}\n\n", "resp_up", "real", "server_error", 2},
		{"without created and numbers", numberless, "resp_my-id", "", "upstream_error", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			fake.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}}, []byte(test.stream)))
			got := s.serve("m u/real").post("/v1/responses", responseRequest, "X-Request-Id", "my-id")
			events := responseEvents(t, got.body)
			if len(events) < 3 {
				t.Fatalf("body:\n%s", got.body)
			}
			raised, failed := events[len(events)-2], events[len(events)-1]
			if raised.Type != "error" || raised.Code != test.code || *raised.Sequence != test.next {
				t.Errorf("the event before the last is %+v, number %d", raised, *raised.Sequence)
			}
			r := failed.Response
			if failed.Type != "response.failed" || *failed.Sequence != test.next+1 || r.Status != "failed" || r.Error.Code != test.code || r.Error.Message == "" ||
				r.ID != test.id || r.Model != test.model {
				t.Errorf("the last event is %+v, number %d", failed, *failed.Sequence)
			}
			if strings.Contains(got.body, "[DONE]") || strings.Count(got.body, `"type":"error"`) != 1 {
				t.Errorf("body:\n%s", got.body)
			}
		})
	}
}
