package openai

import (
	"encoding/json"
	"strings"
	"testing"
)

// Of an error, only the details about the caller's own request reach the caller.
func TestErrorDetails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"Azure's content filter", `{"error":{"message":"m","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"violence":{"filtered":true,"severity":"medium"}}}}}`,
			`,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"violence":{"filtered":true,"severity":"medium"}}}`},
		{"Azure's, for images", `{"error":{"message":"m","inner_error":{"code":"x","content_filter_results":{"hate":{"filtered":true}},"trace":"at 10.0.0.3"}}}`,
			`,"inner_error":{"code":"x","content_filter_results":{"hate":{"filtered":true}}}`},
		{"Azure's, for responses", `{"error":{"message":"m","content_filters":[{"blocked":true,"source_type":"prompt"}]}}`, `,"content_filters":[{"blocked":true,"source_type":"prompt"}]`},
		{"OpenRouter's moderation", `{"error":{"code":403,"message":"m","metadata":{"reasons":["violence"],"flagged_input":"kill …","provider_name":"x","model_slug":"m"}},"user_id":"org_1"}`,
			`,"metadata":{"reasons":["violence"],"flagged_input":"kill …","provider_name":"x","model_slug":"m"}`},
		{"OpenRouter's, of another provider", `{"error":{"message":"m","metadata":{"raw":"key sk-1 at 10.0.0.3","headers":{"x":"y"},"provider_name":"x"}}}`, `,"metadata":{"provider_name":"x"}`},
		{"llama.cpp's context", `{"error":{"code":400,"message":"m","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}`, `,"n_prompt_tokens":9001,"n_ctx":4096`},
		{"flat numbers", `{"object":"error","message":"m","max_model_len":4096,"requested_tokens":5000,"pid":77}`, `,"max_model_len":4096,"requested_tokens":5000`},
		{"Groq's tool call", `{"error":{"message":"m","code":"tool_use_failed","failed_generation":"<f>"}}`, `,"failed_generation":"<f>"`},
		{"OpenAI's moderation of images", `{"error":{"message":"m","code":"moderation_blocked","moderation_details":{"categories":["x"]}}}`, `,"moderation_details":{"categories":["x"]}`},
		{"FastAPI", `{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required","input":{"a":1},"url":"https://x"}]}`, `,"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"}]`},
		{"Gemini's violations", `[{"error":{"message":"m","status":"INVALID_ARGUMENT","details":[{"@type":"x/ErrorInfo","metadata":{"consumer":"projects/1"}},{"@type":"x/BadRequest","fieldViolations":[{"field":"f","description":"d"}]}]}}]`,
			`,"details":[{"fieldViolations":[{"field":"f","description":"d"}]}]`},

		{"none", `{"error":{"message":"m","type":"t","param":null,"code":"c"}}`, ""},
		{"a trace and an address", `{"error":{"message":"m","trace":"at main.py","host":"10.0.0.3","request_id":"req_1","token":"abc","tokens":"sk-1"}}`, ""},
		{"members that are empty", `{"error":{"message":"m","innererror":null,"metadata":{},"content_filters":[],"details":[{}]}}`, ""},
		{"members of other types", `{"error":{"message":"m","innererror":"at 10.0.0.3","metadata":5,"details":"x","n_ctx":"many"}}`, ""},
		{"a string", `{"error":"m"}`, ""},
		{"too long", `{"error":{"message":"m","failed_generation":"` + strings.Repeat("x", maxDetails) + `","n_ctx":5}}`, `,"n_ctx":5`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, _ := ParseError([]byte(tt.body))
			if string(e.Details) != tt.want {
				t.Errorf("got  %s\nwant %s", e.Details, tt.want)
			}
			if got := e.AppendJSON(nil); !json.Valid(got) || !strings.HasPrefix(string(got), `{"error":{"message":`) {
				t.Errorf("%s is not valid", got)
			}
			if e.Type == "400" {
				t.Error("a numeric status became the type")
			}
		})
	}
}

// FuzzErrorDetails checks that an error stays valid JSON whatever an upstream sends.
func FuzzErrorDetails(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"m","metadata":{"reasons":[ 1 , {"a":"\ud83d\ude00"}]},"details":[[],{"fieldViolations":{"field":1}}],"n_ctx":1e9}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, _ := ParseError(body)
		if got := e.AppendJSON(nil); !json.Valid(got) {
			t.Errorf("%q became %s", body, got)
		}
	})
}
