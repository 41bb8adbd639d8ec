package openai

import "testing"

func TestNotCacheable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, path, body, want string }{
		{"chat", "/v1/chat/completions", `{"model":"m","messages":[],"temperature":1,"n":3}`, ""},
		{"own tools", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function","function":{}},{"type":"custom"},{"name":"f","input_schema":{}}]}`, ""},
		{"no tools", "/v1/chat/completions", `{"model":"m","tools":null}`, ""},
		{"not stored", "/v1/chat/completions", `{"model":"m","store":false}`, ""},
		{"text only", "/v1/chat/completions", `{"model":"m","modalities":["text"]}`, ""},
		{"null does not count", "/v1/chat/completions", `{"model":"m","previous_response_id":null,"audio":null}`, ""},
		{"stored", "/v1/chat/completions", `{"model":"m","store":true}`, "store"},
		{"store as a string", "/v1/chat/completions", `{"model":"m","store":"yes"}`, "store"},
		{"hosted tool", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function"},{"type":"web_search"}]}`, "tools"},
		{"tools as an object", "/v1/chat/completions", `{"model":"m","tools":{"a":1}}`, "tools"},
		{"web search", "/v1/chat/completions", `{"model":"m","web_search_options":{}}`, "web_search_options"},
		{"audio output", "/v1/chat/completions", `{"model":"m","modalities":["text","\u0061udio"]}`, "modalities"},
		{"voice", "/v1/chat/completions", `{"model":"m","audio":{"voice":"x"}}`, "audio"},
		{"background", "/v1/responses", `{"model":"m","store":false,"background":true}`, "background"},
		{"previous response", "/v1/responses", `{"model":"m","store":false,"previous_response_id":"r"}`, "previous_response_id"},
		{"template", "/v1/responses", `{"model":"m","store":false,"prompt":{"id":"p"}}`, "prompt"},
		{"prompt", "/v1/completions", `{"model":"m","prompt":"p"}`, ""},
		{"responses store by default", "/v1/responses", `{"model":"m","input":"x"}`, "store"},
		{"null is the default", "/v1/responses", `{"model":"m","input":"x","store":null}`, "store"},
		{"responses not stored", "/v1/responses", `{"model":"m","input":"x","store":false}`, ""},
		{"background, with an escape", "/v1/responses", `{"model":"m","store":false,"b\u0061ckground":true}`, "background"},
		{"web search, in capitals", "/v1/chat/completions", `{"model":"m","Web_Search_Options":{}}`, "web_search_options"},
		{"hosted tool, with an escape", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function","typ\u0065":"web_search"}]}`, "tools"},
		{"hosted tool in the first of two types", "/v1/chat/completions", `{"model":"m","tools":[{"type":"web_search","type":"function"}]}`, "tools"},
		{"images", "/v1/images/generations", `{"model":"m"}`, "its endpoint"},
		{"embeddings", "/v1/embeddings", `{"model":"m","input":"x"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, _ := LookupEndpoint(test.path)
			if got := parseRequest(t, test.body).NotCacheable(e); got != test.want {
				t.Errorf("NotCacheable = %q, want %q", got, test.want)
			}
		})
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path, body string
		want             bool
	}{
		{"zero", "/v1/chat/completions", `{"model":"m","temperature":0}`, true},
		{"zero with sign and exponent", "/v1/chat/completions", `{"model":"m","temperature":-0.00e5}`, true},
		{"above zero", "/v1/chat/completions", `{"model":"m","temperature":0.01}`, false},
		{"string", "/v1/chat/completions", `{"model":"m","temperature":"0"}`, false},
		{"no temperature", "/v1/chat/completions", `{"model":"m"}`, false},
		{"two choices", "/v1/completions", `{"model":"m","temperature":0,"n":2}`, false},
		{"embeddings", "/v1/embeddings", `{"model":"m"}`, true},
		{"rerank", "/v1/rerank", `{"model":"m"}`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, _ := LookupEndpoint(test.path)
			if got := parseRequest(t, test.body).Deterministic(e); got != test.want {
				t.Errorf("Deterministic = %v", got)
			}
		})
	}
}

func TestFinishReasons(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		choices    int
		complete   bool
		truncated  bool // complete if truncated choices count
	}{
		{"stop", `{"choices":[{"finish_reason":"stop"}]}`, 1, true, true},
		{"tool calls", `{"choices":[{"finish_reason":"tool_calls"}]}`, 1, true, true},
		{"length", `{"choices":[{"finish_reason":"length"}]}`, 1, false, true},
		{"filtered", `{"choices":[{"finish_reason":"content_filter"}]}`, 1, false, false},
		{"unknown", `{"choices":[{"finish_reason":"tired"}]}`, 1, false, false},
		{"unfinished", `{"choices":[{"finish_reason":null}]}`, 1, false, false},
		{"a finish reason that names none", `{"choices":[{"finish_reason":""}]}`, 1, false, false},
		{"an error that is none", `{"choices":[{"finish_reason":"stop"}],"error":""}`, 1, true, true},
		{"one of two", `{"choices":[{"finish_reason":"stop"},{}]}`, 2, false, false},
		{"an additional unfinished choice", `{"choices":[{"finish_reason":"stop"},{"finish_reason":null}]}`, 1, false, false},
		{"one of two filtered", `{"choices":[{"finish_reason":"stop"},{"finish_reason":"content_filter"}]}`, 2, false, false},
		{"embeddings", `{"object":"list","data":[{"embedding":[1]}]}`, 1, true, true},
		{"no embeddings", `{"object":"list","data":[]}`, 1, false, false},
		{"results", `{"results":[{"index":0}]}`, 1, true, true},
		{"error inside", `{"results":[{"index":0}],"error":"x"}`, 1, false, false},
		{"response", `{"object":"response","status":"completed","error":null,"incomplete_details":null}`, 1, true, true},
		{"response truncated", `{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}`, 1, false, true},
		{"response filtered", `{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}`, 1, false, false},
		{"response queued", `{"status":"queued"}`, 1, false, false},
		{"something else", `[1]`, 1, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var f FinishReasons
			f.AddWhole([]byte(test.body))
			if f.Complete(test.choices, false) != test.complete || f.Complete(test.choices, true) != test.truncated {
				t.Errorf("Complete = %v, %v with truncated choices, for %+v", f.Complete(test.choices, false), f.Complete(test.choices, true), f)
			}
		})
	}
}
