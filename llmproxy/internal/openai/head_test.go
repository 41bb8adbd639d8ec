package openai

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestHead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       Head
	}{
		{"nothing said", `{}`, Head{N: 1}},
		{"model", `{"model":"gpt-4o"}`, Head{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model behind the messages", `{"messages":[{"model":"x"}],"model":"gpt-4o"}`, Head{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model with escapes in its value", `{"model":"\u0067pt\/4"}`, Head{Model: "gpt/4", HasModel: true, N: 1}},
		{"model in another language", `{"model":"модель"}`, Head{Model: "модель", HasModel: true, N: 1}},
		{"longest model", `{"model":"` + strings.Repeat("m", 256) + `"}`, Head{Model: strings.Repeat("m", 256), HasModel: true, N: 1}},
		{"model null", `{"model":null}`, Head{N: 1}},
		{"stream", `{"stream":true}`, Head{Stream: true, N: 1}},
		{"no stream", `{"stream":false}`, Head{N: 1}},
		{"stream null", `{"stream":null}`, Head{N: 1}},
		{"usage", `{"stream":true,"stream_options":{"include_usage":true}}`, Head{Stream: true, IncludeUsage: true, N: 1}},
		{"no usage", `{"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":true}}`, Head{Stream: true, N: 1}},
		{"usage null", `{"stream_options":{"include_usage":null}}`, Head{N: 1}},
		{"options null", `{"stream_options":null}`, Head{N: 1}},
		{"n", `{"n":3}`, Head{N: 3}},
		{"n null", `{"n":null}`, Head{N: 1}},
		{"other keys may stand twice or look alike", `{"temperature":1,"temperature":2,"Temperature":3,"modeling":1,"models_":2,"mode":3}`, Head{N: 1}},
		{"the same keys further in mean nothing", `{"metadata":{"model":"a","Model":"b","model":"c"}}`, Head{N: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got Head
			if err := got.Parse([]byte(tt.body)); err != nil {
				t.Fatalf("Parse(%s) = %v", tt.body, err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Head{}, "Object", "signals")); diff != "" {
				t.Errorf("Parse(%s) (-want +got):\n%s", tt.body, diff)
			}
		})
	}
}

// Bodies that two servers can read in two ways are refused. Of duplicate keys the last one wins in encoding/json, Python's json
// and nlohmann's (llama.cpp), the first one in gjson and fastjson. Go structs also take "Model", and every decoder unescapes keys.
func TestHeadSmuggling(t *testing.T) {
	t.Parallel()
	rejected := func(name, body, param string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h Head
			err := h.Parse([]byte(body))
			if err == nil {
				t.Fatalf("Parse(%s) accepted it", body)
			}
			if err.Status != http.StatusBadRequest || err.Type != "invalid_request_error" || err.Code != "invalid_request" || err.Param != param {
				t.Errorf("Parse(%s) = %+v, want a 400 for %q", body, *err, param)
			}
		})
	}
	rejected("twice", `{"model":"a","model":"b"}`, "model")
	rejected("twice with capitals", `{"model":"a","Model":"b"}`, "model")
	rejected("twice with an escape", `{"model":"a","mod\u0065l":"b"}`, "model")
	rejected("capitals alone", `{"MODEL":"a"}`, "model")
	rejected("an escape alone", `{"\u006dodel":"a"}`, "model")
	rejected("all escapes", `{"\u006d\u006f\u0064\u0065\u006c":"a"}`, "model")
	rejected("escapes of capitals", `{"\u004d\u004f\u0044\u0045\u004c":"a"}`, "model")
	rejected("null and then another", `{"model":null,"model":"b"}`, "model")
	rejected("a letter that folds to s", "{\"\u017ftream\":true}", "stream")
	rejected("an escape of a letter that folds to s", `{"\u017ftream":true}`, "stream")
	rejected("a letter that folds to k", "{\"max_to\u212aens\":5}", "max_tokens")
	keys := strings.Fields("model stream stream_options n max_tokens max_completion_tokens tools user options models previous_response_id " +
		"store max_output_tokens messages prompt input instructions functions response_format text")
	if diff := cmp.Diff(keys, policyNames[1:]); diff != "" {
		t.Error(diff)
	}
	for _, key := range keys {
		value := map[string]string{"model": `"a"`, "stream": "true", "stream_options": "{}", "n": "1"}[key]
		if value == "" {
			value = `"x"`
		}
		member := `"` + key + `":` + value
		rejected(key+" twice", "{"+member+","+member+"}", key)
		rejected(key+" in capitals", "{"+strings.ToUpper(`"`+key+`"`)+":"+value+"}", key)
		rejected(key+" and in capitals", "{"+member+","+strings.ToUpper(`"`+key+`"`)+":"+value+"}", key)
		rejected(key+" with an escape", `{"`+"\\u00"+string("0123456789abcdef"[key[0]>>4])+string("0123456789abcdef"[key[0]&15])+key[1:]+`":`+value+"}", key)
	}
	rejected("include_usage twice", `{"stream_options":{"include_usage":true,"include_usage":false}}`, "stream_options")
	rejected("include_usage with capitals", `{"stream_options":{"Include_Usage":true}}`, "stream_options")
	rejected("include_usage with an escape", `{"stream_options":{"include_usag\u0065":true}}`, "stream_options")
}

// TestHeadBadInput holds what else is wrong with requests, and that the message says where and what to do.
func TestHeadBadInput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, param, message string }{
		{"empty body", ``, "", "it is empty (byte 0). Send one JSON object"},
		{"byte order mark", "\xef\xbb\xbf{\"model\":\"a\"}", "", "byte order mark"},
		{"trailing data", `{"model":"a"}{"model":"b"}`, "", "behind its end (byte 13)"},
		{"truncated", `{"model":"a","messages":[{"role":"us`, "", "cut off? (byte 36)"},
		{"not an object", `["a"]`, "", "array"},
		{"deep nesting", `{"model":"a","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", "", "nested more than 512 deep"},
		{"not UTF-8", "{\"model\":\"a\xff\"}", "", "not UTF-8"},
		{"model a number", `{"model":5}`, "model", "put the model's name in double quotes"},
		{"model an array", `{"model":["a","b"]}`, "model", "must be a string"},
		{"model empty", `{"model":""}`, "model", "empty"},
		{"model too long", `{"model":"` + strings.Repeat("m", 257) + `"}`, "model", "257 bytes"},
		{"model with a line break", `{"model":"a\nX-Header: b"}`, "model", "control character at its byte 1"},
		{"model with a zero byte", `{"model":"\u0000"}`, "model", "control character"},
		{"model with delete", "{\"model\":\"a\x7f\"}", "model", "control character"},
		{"model with a control character beyond ASCII", `{"model":"a\u0085"}`, "model", "control character"},
		{"stream a string", `{"stream":"true"}`, "stream", "must be true or false, not \"true\""},
		{"stream a number", `{"stream":1}`, "stream", "must be true or false"},
		{"n zero", `{"n":0}`, "n", "whole number from 1 on"},
		{"n negative", `{"n":-1}`, "n", "whole number"},
		{"n broken", `{"n":1.5}`, "n", "whole number"},
		{"n a string", `{"n":"2"}`, "n", "whole number"},
		{"n too large for any computer", `{"n":99999999999999999999}`, "n", "whole number"},
		{"options a string", `{"stream_options":"include_usage"}`, "stream_options", "must be an object"},
		{"options an array", `{"stream_options":[]}`, "stream_options", "must be an object"},
		{"include_usage a string", `{"stream_options":{"include_usage":"yes"}}`, "stream_options", "must be true or false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var h Head
			err := h.Parse([]byte(tt.body))
			if err == nil {
				t.Fatal("Parse accepted it")
			}
			if err.Status != http.StatusBadRequest || err.Type != "invalid_request_error" || err.Code != "invalid_request" || err.Param != tt.param {
				t.Errorf("Parse = %+v, want a 400 for %q", *err, tt.param)
			}
			if !strings.Contains(err.Message, tt.message) || len(err.Message) > 300 {
				t.Errorf("the message is %q, want %q in it, and at most 300 bytes", err.Message, tt.message)
			}
		})
	}
}

func TestHeadReset(t *testing.T) {
	t.Parallel()
	var h Head
	if err := h.Parse([]byte(`{"model":"a","stream":true,"n":2,"stream_options":{"include_usage":true}}`)); err != nil {
		t.Fatal(err)
	}
	capacity := cap(h.Members)
	h.Reset()
	if diff := cmp.Diff(Head{}, h, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Head{})); diff != "" {
		t.Errorf("Reset left (-want +got):\n%s", diff)
	}
	if cap(h.Members) != capacity {
		t.Errorf("Reset left room for %d members, want %d", cap(h.Members), capacity)
	}
	if err := h.Parse([]byte(`{"x":1}`)); err != nil || h.HasModel || h.N != 1 || len(h.Members) != 1 {
		t.Errorf("Parse after Reset = %v, %+v", err, h)
	}
}

func TestHeadAllocations(t *testing.T) {
	for _, tt := range []struct {
		name string
		body []byte
		want float64
	}{
		{"the model's name alone", chatBody(1 << 10), 1},
		{"no model, keys that look like others", []byte(`{"Models_":1,"mod\u0065":"x","stream":true,"stream_options":{"include_obfuscation":true},"n":2}`), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Head{Object: jsonspan.Object{Members: make([]jsonspan.Member, 0, 16)}}
			if n := testing.AllocsPerRun(100, func() {
				if err := h.Parse(tt.body); err != nil {
					t.Error(err)
				}
			}); n > tt.want {
				t.Errorf("Parse makes %v allocations, want %v", n, tt.want)
			}
		})
	}
}
