package openai

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// parseRequest parses a body that must be valid.
func parseRequest(t testing.TB, body string) *Request {
	t.Helper()
	r := new(Request)
	if err := r.Parse([]byte(body)); err != nil {
		t.Fatalf("Parse(%s) = %v", body, err)
	}
	return r
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       Request
	}{
		{"empty object", `{}`, Request{N: 1}},
		{"model", `{"model":"gpt-4o"}`, Request{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model after the messages", `{"messages":[{"model":"x"}],"model":"gpt-4o"}`, Request{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model with escapes in its value", `{"model":"\u0067pt\/4"}`, Request{Model: "gpt/4", HasModel: true, N: 1}},
		{"model in Cyrillic", `{"model":"модель"}`, Request{Model: "модель", HasModel: true, N: 1}},
		{"longest model", `{"model":"` + strings.Repeat("m", 256) + `"}`, Request{Model: strings.Repeat("m", 256), HasModel: true, N: 1}},
		{"model null", `{"model":null}`, Request{N: 1}},
		{"stream", `{"stream":true}`, Request{Stream: true, N: 1}},
		{"stream false", `{"stream":false}`, Request{N: 1}},
		{"stream null", `{"stream":null}`, Request{N: 1}},
		{"include_usage", `{"stream":true,"stream_options":{"include_usage":true}}`, Request{Stream: true, IncludeUsage: true, N: 1}},
		{"include_usage false", `{"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":true}}`, Request{Stream: true, N: 1}},
		{"include_usage null", `{"stream_options":{"include_usage":null}}`, Request{N: 1}},
		{"stream_options null", `{"stream_options":null}`, Request{N: 1}},
		{"n", `{"n":3}`, Request{N: 3}},
		{"n null", `{"n":null}`, Request{N: 1}},
		{"other keys may be repeated or spelled similarly", `{"temperature":1,"temperature":2,"Temperature":3,"modeling":1,"models_":2,"mode":3}`, Request{N: 1}},
		{"nested keys are ignored", `{"metadata":{"model":"a","Model":"b","model":"c"}}`, Request{N: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parseRequest(t, tt.body)
			if diff := cmp.Diff(tt.want, *got, cmpopts.IgnoreFields(Request{}, "Object", "signals")); diff != "" {
				t.Errorf("Parse(%s) (-want +got):\n%s", tt.body, diff)
			}
		})
	}
}

// TestRequestSmuggling checks that bodies are rejected if two servers may read them differently. Of duplicate keys, the last one wins
// in encoding/json, in Python's json and in nlohmann's (llama.cpp), the first one in gjson and fastjson. Go structs also accept
// "Model", and every decoder unescapes keys.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	rejected := func(name, body, param string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r Request
			err := r.Parse([]byte(body))
			if err == nil {
				t.Fatalf("Parse accepted %s", body)
			}
			if err.Status != http.StatusBadRequest || err.Type != "invalid_request_error" || err.Code != "invalid_request" || err.Param != param {
				t.Errorf("Parse(%s) = %+v, want a 400 for %q", body, *err, param)
			}
		})
	}
	rejected("repeated", `{"model":"a","model":"b"}`, "model")
	rejected("repeated in capitals", `{"model":"a","Model":"b"}`, "model")
	rejected("repeated with an escape", `{"model":"a","mod\u0065l":"b"}`, "model")
	rejected("only in capitals", `{"MODEL":"a"}`, "model")
	rejected("only with an escape", `{"\u006dodel":"a"}`, "model")
	rejected("all escapes", `{"\u006d\u006f\u0064\u0065\u006c":"a"}`, "model")
	rejected("escapes of capitals", `{"\u004d\u004f\u0044\u0045\u004c":"a"}`, "model")
	rejected("repeated after null", `{"model":null,"model":"b"}`, "model")
	rejected("a letter that folds to s", "{\"\u017ftream\":true}", "stream")
	rejected("an escape of a letter that folds to s", `{"\u017ftream":true}`, "stream")
	rejected("a letter that folds to k", "{\"max_to\u212aens\":5}", "max_tokens")
	keys := strings.Fields("model stream stream_options n max_tokens max_completion_tokens tools user options models previous_response_id " +
		"store max_output_tokens messages prompt input instructions functions response_format text")
	if diff := cmp.Diff(keys, checkedKeys[:]); diff != "" {
		t.Errorf("checkedKeys (-want +got):\n%s", diff)
	}
	for _, key := range keys {
		value := map[string]string{"model": `"a"`, "stream": "true", "stream_options": "{}", "n": "1"}[key]
		if value == "" {
			value = `"x"`
		}
		member := `"` + key + `":` + value
		rejected(key+" repeated", "{"+member+","+member+"}", key)
		rejected(key+" in capitals", "{"+strings.ToUpper(`"`+key+`"`)+":"+value+"}", key)
		rejected(key+" repeated in capitals", "{"+member+","+strings.ToUpper(`"`+key+`"`)+":"+value+"}", key)
		rejected(key+" with an escape", `{"`+"\\u00"+string("0123456789abcdef"[key[0]>>4])+string("0123456789abcdef"[key[0]&15])+key[1:]+`":`+value+"}", key)
	}
	rejected("include_usage repeated", `{"stream_options":{"include_usage":true,"include_usage":false}}`, "stream_options")
	rejected("include_usage with capitals", `{"stream_options":{"Include_Usage":true}}`, "stream_options")
	rejected("include_usage with an escape", `{"stream_options":{"include_usag\u0065":true}}`, "stream_options")
}

// TestRequestRejects checks other invalid requests, and that the message says what is wrong and what to do.
func TestRequestRejects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, param, message string }{
		{"empty body", ``, "", "it is empty (byte 0). Send one JSON object"},
		{"byte order mark", "\xef\xbb\xbf{\"model\":\"a\"}", "", "byte order mark"},
		{"trailing data", `{"model":"a"}{"model":"b"}`, "", "data after its end (byte 13)"},
		{"truncated", `{"model":"a","messages":[{"role":"us`, "", "truncated (byte 36)"},
		{"not an object", `["a"]`, "", "array"},
		{"deep nesting", `{"model":"a","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", "", "nested more than 512 levels deep"},
		{"not UTF-8", "{\"model\":\"a\xff\"}", "", "not valid UTF-8"},
		{"model as a number", `{"model":5}`, "model", "put the model's name in double quotes"},
		{"model as an array", `{"model":["a","b"]}`, "model", "must be a string"},
		{"model empty", `{"model":""}`, "model", "empty"},
		{"model too long", `{"model":"` + strings.Repeat("m", 257) + `"}`, "model", "257 bytes"},
		{"model with a line break", `{"model":"a\nX-Header: b"}`, "model", "control character at byte 1"},
		{"model with a zero byte", `{"model":"\u0000"}`, "model", "control character"},
		{"model with delete", "{\"model\":\"a\x7f\"}", "model", "control character"},
		{"model with a control character beyond ASCII", `{"model":"a\u0085"}`, "model", "control character"},
		{"stream as a string", `{"stream":"true"}`, "stream", "must be true or false, not \"true\""},
		{"stream as a number", `{"stream":1}`, "stream", "must be true or false"},
		{"n zero", `{"n":0}`, "n", "whole number of at least 1"},
		{"n negative", `{"n":-1}`, "n", "whole number"},
		{"n with a fraction", `{"n":1.5}`, "n", "whole number"},
		{"n as a string", `{"n":"2"}`, "n", "whole number"},
		{"n too large for an int", `{"n":99999999999999999999}`, "n", "whole number"},
		{"stream_options as a string", `{"stream_options":"include_usage"}`, "stream_options", "must be an object"},
		{"stream_options as an array", `{"stream_options":[]}`, "stream_options", "must be an object"},
		{"include_usage as a string", `{"stream_options":{"include_usage":"yes"}}`, "stream_options", "must be true or false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Request
			err := r.Parse([]byte(tt.body))
			if err == nil {
				t.Fatal("Parse accepted it")
			}
			if err.Status != http.StatusBadRequest || err.Type != "invalid_request_error" || err.Code != "invalid_request" || err.Param != tt.param {
				t.Errorf("Parse = %+v, want a 400 for %q", *err, tt.param)
			}
			if !strings.Contains(err.Message, tt.message) || len(err.Message) > 300 {
				t.Errorf("message %q of %d bytes, want %q in it and at most 300 bytes", err.Message, len(err.Message), tt.message)
			}
		})
	}
}

func TestRequestReset(t *testing.T) {
	t.Parallel()
	r := parseRequest(t, `{"model":"a","stream":true,"n":2,"stream_options":{"include_usage":true}}`)
	capacity := cap(r.Members)
	r.Reset()
	if diff := cmp.Diff(Request{}, *r, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Request{})); diff != "" {
		t.Errorf("Reset left (-want +got):\n%s", diff)
	}
	if cap(r.Members) != capacity {
		t.Errorf("Reset left a capacity of %d members, want %d", cap(r.Members), capacity)
	}
	if err := r.Parse([]byte(`{"x":1}`)); err != nil || r.HasModel || r.N != 1 || len(r.Members) != 1 {
		t.Errorf("Parse after Reset = %v, %+v", err, r)
	}
}

func TestRequestAllocations(t *testing.T) {
	for _, tt := range []struct {
		name string
		body []byte
		want float64
	}{
		{"only the model's name", chatBody(1 << 10), 1},
		{"no model, ambiguous keys", []byte(`{"Models_":1,"mod\u0065":"x","stream":true,"stream_options":{"include_obfuscation":true},"n":2}`), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Object: jsonspan.Object{Members: make([]jsonspan.Member, 0, 16)}}
			if n := testing.AllocsPerRun(100, func() {
				if err := r.Parse(tt.body); err != nil {
					t.Error(err)
				}
			}); n > tt.want {
				t.Errorf("Parse makes %v allocations, want %v", n, tt.want)
			}
		})
	}
}

func TestRequestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"no options", `{"stream":true}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"options null", `{"stream_options":null,"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"options empty", `{"stream_options":{ }}`, `{"stream_options":{ "include_usage":true}}`},
		{"other options", `{"stream_options":{"include_obfuscation":false}}`, `{"stream_options":{"include_obfuscation":false,"include_usage":true}}`},
		{"include_usage false", `{"stream_options":{"include_usage": false,"x":1}}`, `{"stream_options":{"include_usage": true,"x":1}}`},
		{"include_usage null", `{"stream_options":{"include_usage":null}}`, `{"stream_options":{"include_usage":true}}`},
		{"include_usage true", `{"stream_options":{"include_usage":true}}`, `{"stream_options":{"include_usage":true}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := parseRequest(t, tt.body)
			var e jsonspan.Edit
			e.Reset(&r.Object)
			r.RequestUsage(&e)
			if got := string(e.Bytes()); got != tt.want {
				t.Errorf("the body is %s\nwant        %s", got, tt.want)
			}
		})
	}
}

func TestEditAllocations(t *testing.T) {
	r := parseRequest(t, string(chatBody(1<<10)))
	var e jsonspan.Edit
	for _, tt := range []struct {
		name, model string
		want        float64
	}{
		{"unchanged: one segment", "gpt-4o-mini", 1},
		{"another model: its JSON, the segments, the new bytes", "llama3.1:8b", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(100, func() {
				e.Reset(&r.Object)
				e.SetString("model", tt.model)
				r.RequestUsage(&e)
				if len(e.Segments()) == 0 {
					t.Error("the edited body is empty")
				}
			}); n > tt.want {
				t.Errorf("an edit makes %v allocations, want %v", n, tt.want)
			}
		})
	}
}

func TestReleaseBody(t *testing.T) {
	t.Parallel()
	body := `{"model":"m","messages":[{"role":"user","content":"Hello"},{"role":"user","content":"there"}]}`
	for _, tt := range []struct {
		name     string
		read     func(*Request)
		messages int
		content  string
	}{
		{"nothing was read", func(*Request) {}, 0, ""},
		{"signals were read", func(r *Request) { r.Signals() }, 2, ""},
		{"the content was read", func(r *Request) { r.Signals().Content() }, 2, "there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Request
			memory := []byte(body)
			if err := r.Parse(memory); err != nil {
				t.Fatal(err)
			}
			tt.read(&r)
			r.ReleaseBody()
			clear(memory)
			if s := r.Signals(); s.Messages != tt.messages || s.Content() != tt.content {
				t.Errorf("%d messages with content %q, want %d with %q", s.Messages, s.Content(), tt.messages, tt.content)
			}
			if r.Model != "m" || r.Body != nil {
				t.Errorf("model %q, body %q", r.Model, r.Body)
			}
		})
	}
}

func TestChoices(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		want       int
	}{
		{"one text", `{"prompt":"a"}`, 1},
		{"texts", `{"prompt":["a","b","c"]}`, 3},
		{"tokens", `{"prompt":[1,2,3]}`, 1},
		{"lists of tokens", `{"prompt":[[1,2],[3]]}`, 2},
		{"several of each", `{"n":4,"prompt":["a","b"]}`, 8},
		{"empty list", `{"prompt":[],"n":2}`, 2},
		{"no prompt", `{}`, 1},
		{"too many", `{"n":` + strconv.Itoa(1<<62) + `,"prompt":["a","b"]}`, maxChoices},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := parseRequest(t, test.body)
			if r.CountPrompts(); r.Choices() != test.want {
				t.Errorf("%d choices, want %d", r.Choices(), test.want)
			}
		})
	}
}

// seed adds the captured bodies, and others with what the captured ones lack.
func seed(f *testing.F, add func(body []byte)) {
	for _, body := range captured(f, ".json") {
		add(body)
	}
	for _, body := range []string{
		`{}`, ` { "a" : [ ] , "b" : { } } `, `{"model":"a","Model":"b"}`, `{"model":"a","mod\u0065l":"b"}`, "{\"\u017ftream\":true}",
		`{"a":"\ud83d\ude00\n\\\"","b":-0.5e+10,"c":[true,false,null]}`, `{"a":1,"a":2}`, `{"a":` + strings.Repeat("[", 19) + strings.Repeat("]", 19) + `}`, `{"a":"\ud83d"}`, "\xef\xbb\xbf{}",
		`{"stream":true,"stream_options":{"include_usage":false,"x":1},"n":2,"max_tokens":1,"max_completion_tokens":2}`,
		`{"ключ":"значение","a":"` + strings.Repeat("0123456789abcdef", 4) + "é\x7f\"}",
	} {
		add([]byte(body))
	}
}

// FuzzRequest compares what the gateway reads with what a server in Go reads, which folds the case of keys, and one in Python, which
// does not: they must agree on every request that is accepted.
func FuzzRequest(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Request
		if err := r.Parse(body); err != nil {
			if err.Status != 400 || err.Message == "" || !json.Valid(err.AppendJSON(nil)) {
				t.Fatalf("Parse = %+v", *err)
			}
			return
		}
		type fields struct {
			Model         *string
			Stream        *bool
			N             *int
			StreamOptions *struct {
				IncludeUsage *bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		var folding, exact fields
		if err := json.Unmarshal(body, &folding); err != nil {
			t.Fatal(err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		for key, to := range map[string]any{"model": &exact.Model, "stream": &exact.Stream, "n": &exact.N, "stream_options": &exact.StreamOptions} {
			if value, ok := members[key]; ok {
				if err := json.Unmarshal(value, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		if diff := cmp.Diff(exact, folding); diff != "" {
			t.Fatalf("a server that folds the case of keys reads other values (-exact +folding):\n%s", diff)
		}
		var model *string
		if r.HasModel {
			model = &r.Model
		}
		if diff := cmp.Diff(exact.Model, model); diff != "" {
			t.Fatalf("model (-want +got):\n%s", diff)
		}
		if want := exact.Stream != nil && *exact.Stream; r.Stream != want {
			t.Fatalf("Stream = %v", r.Stream)
		}
		if want := exact.N; want != nil && r.N != *want || want == nil && r.N != 1 {
			t.Fatalf("N = %d", r.N)
		}
		options := exact.StreamOptions
		if want := options != nil && options.IncludeUsage != nil && *options.IncludeUsage; r.IncludeUsage != want {
			t.Fatalf("IncludeUsage = %v", r.IncludeUsage)
		}
		for _, e := range endpoints {
			r.NotCacheable(e)
			r.Deterministic(e)
		}
		r.CountPrompts()
		checkRequestUsage(t, &r, members)
	})
}

// checkRequestUsage checks that RequestUsage sets include_usage and changes nothing else.
func checkRequestUsage(t *testing.T, r *Request, members map[string]json.RawMessage) {
	t.Helper()
	var e jsonspan.Edit
	e.Reset(&r.Object)
	r.RequestUsage(&e)
	body := e.Bytes()
	var edited Request
	if err := edited.Parse(body); err != nil || !edited.IncludeUsage {
		t.Fatalf("Parse(%s) = %v, IncludeUsage = %v", body, err, edited.IncludeUsage)
	}
	type object = map[string]json.RawMessage
	got := decode[object](body)
	options, gotOptions := decode[object](members["stream_options"]), decode[object](got["stream_options"])
	for _, o := range []object{options, gotOptions} {
		delete(o, includeUsage)
	}
	for _, o := range []object{members, got} {
		delete(o, "stream_options")
	}
	if diff := cmp.Diff([]object{members, options}, []object{got, gotOptions}, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s became %s (-before +after):\n%s", r.Body, body, diff)
	}
}
