package openai

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResponseState(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, created, sent string
		want                ResponseState
	}{
		{"nothing", "", "", ResponseState{}},
		{"OpenAI", `{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","created_at":1760000000,"model":"m","error":null}}`,
			"event: a\ndata: {\"sequence_number\":4}\n\nevent: b\ndata: {\"type\":\"b\",\"sequence_number\":5,\"delta\":\"x\"}\n\n",
			ResponseState{ID: "resp_1", Model: "m", Created: 1760000000, Next: 6}},
		{"white space, as Python writes it", `{"response": {"id": "r", "model": "m"}}`, `data: {"sequence_number": 41, "delta": "x"}`, ResponseState{ID: "r", Model: "m", Next: 42}},
		{"a number at the end", `{}`, `data: {"delta":"x","sequence_number":7`, ResponseState{Next: 8}},
		{"a number that the model wrote", `{}`, `data: {"sequence_number":3,"delta":"{\"sequence_number\":99}"}`, ResponseState{Next: 4}},
		{"no numbers", `{"response":{"id":"r"}}`, `data: {"delta":"x"}`, ResponseState{ID: "r"}},
		{"a sequence number that is null", `{"response":[]}`, `data: {"sequence_number":null}`, ResponseState{}},
		{"members of other types", `{"response":{"id":1,"model":null,"created_at":"now"}}`, `data: {"sequence_number":"5"}`, ResponseState{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got ResponseState
			got.ReadHead([]byte(tt.created))
			got.Sent([]byte(tt.sent))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailedResponse(t *testing.T) {
	t.Parallel()
	e := &Error{Code: "upstream_timeout", Message: `it "stopped"`}
	got := e.AppendFailedResponse(nil, ResponseState{ID: "r", Model: "m", Created: 1760000000, Next: 9})
	const want = `{"type":"response.failed","sequence_number":9,"response":{"id":"r","object":"response","created_at":1760000000,"status":"failed",` +
		`"error":{"code":"upstream_timeout","message":"it \"stopped\""},"incomplete_details":null,"model":"m","output":[],"usage":null}}`
	if diff := cmp.Diff(want, string(got)); diff != "" || !json.Valid(got) {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if event := Typed.First([]byte("response.failed"), got); !event.Terminal || event.Err == nil {
		t.Errorf("our own event is read as %+v", event)
	}
}

// FuzzResponseState checks that any error and any state become valid JSON.
func FuzzResponseState(f *testing.F) {
	f.Add([]byte(`{"response":{"id":"r","model":"m","created_at":1}}`), []byte(`{"sequence_number": 3}`), "broke off")
	f.Add([]byte(`{"response":{"id":"\ud83d"}}`), []byte(`{"sequence_number":99999999999999999999}`), "\xff")
	f.Fuzz(func(t *testing.T, created, sent []byte, message string) {
		var s ResponseState
		s.ReadHead(created)
		s.Sent(sent)
		if s.Next < 0 {
			t.Fatalf("the next sequence number is %d", s.Next)
		}
		if got := (&Error{Message: message}).AppendFailedResponse(nil, s); !json.Valid(got) {
			t.Fatalf("%s is not valid JSON", got)
		}
	})
}
