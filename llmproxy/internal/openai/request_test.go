package openai

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       Request
	}{
		{"nothing said", `{}`, Request{N: 1}},
		{"model", `{"model":"gpt-4o"}`, Request{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model behind the messages", `{"messages":[{"model":"x"}],"model":"gpt-4o"}`, Request{Model: "gpt-4o", HasModel: true, N: 1}},
		{"model with escapes in its value", `{"model":"\u0067pt\/4"}`, Request{Model: "gpt/4", HasModel: true, N: 1}},
		{"model in another language", `{"model":"модель"}`, Request{Model: "модель", HasModel: true, N: 1}},
		{"longest model", `{"model":"` + strings.Repeat("m", 256) + `"}`, Request{Model: strings.Repeat("m", 256), HasModel: true, N: 1}},
		{"model null", `{"model":null}`, Request{N: 1}},
		{"stream", `{"stream":true}`, Request{Stream: true, N: 1}},
		{"no stream", `{"stream":false}`, Request{N: 1}},
		{"stream null", `{"stream":null}`, Request{N: 1}},
		{"usage", `{"stream":true,"stream_options":{"include_usage":true}}`, Request{Stream: true, IncludeUsage: true, N: 1}},
		{"no usage", `{"stream":true,"stream_options":{"include_usage":false,"include_obfuscation":true}}`, Request{Stream: true, N: 1}},
		{"usage null", `{"stream_options":{"include_usage":null}}`, Request{N: 1}},
		{"options null", `{"stream_options":null}`, Request{N: 1}},
		{"n", `{"n":3}`, Request{N: 3}},
		{"n null", `{"n":null}`, Request{N: 1}},
		{"other keys may stand twice or look alike", `{"temperature":1,"temperature":2,"Temperature":3,"modeling":1,"models_":2,"mode":3}`, Request{N: 1}},
		{"the same keys further in mean nothing", `{"metadata":{"model":"a","Model":"b","model":"c"}}`, Request{N: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got Request
			if err := got.Parse([]byte(tt.body)); err != nil {
				t.Fatalf("Parse(%s) = %v", tt.body, err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Request{}, "Object", "signals")); diff != "" {
				t.Errorf("Parse(%s) (-want +got):\n%s", tt.body, diff)
			}
		})
	}
}

// Bodies that two servers can read in two ways are refused. Of duplicate keys the last one wins in encoding/json, Python's json
// and nlohmann's (llama.cpp), the first one in gjson and fastjson. Go structs also take "Model", and every decoder unescapes keys.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	rejected := func(name, body, param string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r Request
			err := r.Parse([]byte(body))
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
	if diff := cmp.Diff(keys, checkedKeys[:]); diff != "" {
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

// TestRequestBadInput holds what else is wrong with requests, and that the message says where and what to do.
func TestRequestBadInput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, param, message string }{
		{"empty body", ``, "", "it is empty (byte 0). Send one JSON object"},
		{"byte order mark", "\xef\xbb\xbf{\"model\":\"a\"}", "", "byte order mark"},
		{"trailing data", `{"model":"a"}{"model":"b"}`, "", "data after its end (byte 13)"},
		{"truncated", `{"model":"a","messages":[{"role":"us`, "", "truncated (byte 36)"},
		{"not an object", `["a"]`, "", "array"},
		{"deep nesting", `{"model":"a","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", "", "nested more than 512 levels deep"},
		{"not UTF-8", "{\"model\":\"a\xff\"}", "", "not valid UTF-8"},
		{"model a number", `{"model":5}`, "model", "put the model's name in double quotes"},
		{"model an array", `{"model":["a","b"]}`, "model", "must be a string"},
		{"model empty", `{"model":""}`, "model", "empty"},
		{"model too long", `{"model":"` + strings.Repeat("m", 257) + `"}`, "model", "257 bytes"},
		{"model with a line break", `{"model":"a\nX-Header: b"}`, "model", "control character at byte 1"},
		{"model with a zero byte", `{"model":"\u0000"}`, "model", "control character"},
		{"model with delete", "{\"model\":\"a\x7f\"}", "model", "control character"},
		{"model with a control character beyond ASCII", `{"model":"a\u0085"}`, "model", "control character"},
		{"stream a string", `{"stream":"true"}`, "stream", "must be true or false, not \"true\""},
		{"stream a number", `{"stream":1}`, "stream", "must be true or false"},
		{"n zero", `{"n":0}`, "n", "whole number of at least 1"},
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
			var r Request
			err := r.Parse([]byte(tt.body))
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

func TestRequestReset(t *testing.T) {
	t.Parallel()
	var r Request
	if err := r.Parse([]byte(`{"model":"a","stream":true,"n":2,"stream_options":{"include_usage":true}}`)); err != nil {
		t.Fatal(err)
	}
	capacity := cap(r.Members)
	r.Reset()
	if diff := cmp.Diff(Request{}, r, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Request{})); diff != "" {
		t.Errorf("Reset left (-want +got):\n%s", diff)
	}
	if cap(r.Members) != capacity {
		t.Errorf("Reset left room for %d members, want %d", cap(r.Members), capacity)
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
		{"the model's name alone", chatBody(1 << 10), 1},
		{"no model, keys that look like others", []byte(`{"Models_":1,"mod\u0065":"x","stream":true,"stream_options":{"include_obfuscation":true},"n":2}`), 0},
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
		{"asked not to", `{"stream_options":{"include_usage": false,"x":1}}`, `{"stream_options":{"include_usage": true,"x":1}}`},
		{"asked for null", `{"stream_options":{"include_usage":null}}`, `{"stream_options":{"include_usage":true}}`},
		{"asked already", `{"stream_options":{"include_usage":true}}`, `{"stream_options":{"include_usage":true}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Request
			if err := r.Parse([]byte(tt.body)); err != nil {
				t.Fatal(err)
			}
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
	var r Request
	if err := r.Parse(chatBody(1 << 10)); err != nil {
		t.Fatal(err)
	}
	var e jsonspan.Edit
	for _, tt := range []struct {
		name, model string
		want        float64
	}{
		{"nothing changes: the segment", "gpt-4o-mini", 1},
		{"another model: its JSON, the segments, the new bytes", "llama3.1:8b", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(100, func() {
				e.Reset(&r.Object)
				e.SetString("model", tt.model)
				r.RequestUsage(&e)
				if len(e.Segments()) == 0 {
					t.Error("there is no body")
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
		ask      func(*Request)
		messages int
		content  string
	}{
		{"nothing was asked for", func(*Request) {}, 0, ""},
		{"signals", func(r *Request) { r.Signals() }, 2, ""},
		{"the content", func(r *Request) { r.Signals().Content() }, 2, "there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Request
			memory := []byte(body)
			if err := r.Parse(memory); err != nil {
				t.Fatal(err)
			}
			tt.ask(&r)
			r.ReleaseBody()
			clear(memory)
			if s := r.Signals(); s.Messages != tt.messages || s.Content() != tt.content {
				t.Errorf("%d messages, the last %q; want %d and %q", s.Messages, s.Content(), tt.messages, tt.content)
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
		{"a text", `{"prompt":"a"}`, 1},
		{"texts", `{"prompt":["a","b","c"]}`, 3},
		{"tokens", `{"prompt":[1,2,3]}`, 1},
		{"lists of tokens", `{"prompt":[[1,2],[3]]}`, 2},
		{"several of each", `{"n":4,"prompt":["a","b"]}`, 8},
		{"none", `{"prompt":[],"n":2}`, 2},
		{"no prompt", `{}`, 1},
		{"more than can be", `{"n":` + strconv.Itoa(1<<62) + `,"prompt":["a","b"]}`, maxChoices},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r Request
			if err := r.Parse([]byte(test.body)); err != nil {
				t.Fatal(err)
			}
			if r.CountPrompts(); r.Choices() != test.want {
				t.Errorf("%d choices", r.Choices())
			}
		})
	}
}

// FuzzEdit holds splices against edits of a decoded map.
func FuzzEdit(f *testing.F) {
	for i, ops := range []string{"m", "u", "sdr", "rd", "dds", "oR", "RDm", "mursdoRDS"} {
		seed(f, func(body []byte) { f.Add(body, ops, "max_tokens", "model", uint8(i)) })
		seed(f, func(body []byte) { f.Add(body, ops, "a", "b", uint8(i)) })
	}
	f.Fuzz(func(t *testing.T, body []byte, ops, key, other string, number uint8) {
		var r Request
		if r.Parse(body) != nil || !plainKey(key) || !plainKey(other) || len(ops) > 20 {
			return
		}
		var e jsonspan.Edit
		e.Reset(&r.Object)
		m := decoded{}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			apply(&e, &r, m, edit{op: op, key: key, other: other, value: string('0' + number%10)})
		}
		got := string(e.Bytes())
		var o jsonspan.Object
		if err := o.Scan([]byte(got)); err != nil {
			t.Fatalf("the edited body is not JSON: %v\n%s", err, got)
		}
		if folds(r.Object) {
			return // which one of them is meant is nobody's to say
		}
		result := decoded{}
		if err := json.Unmarshal([]byte(got), &result); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, result); diff != "" || len(o.Members) != len(m) {
			t.Fatalf("after %q the body is %s (-want +got):\n%s", ops, got, diff)
		}
	})
}

// An edit is one step that the fuzzer chose.
type edit struct {
	op                rune
	key, other, value string
}

func apply(e *jsonspan.Edit, r *Request, m decoded, step edit) {
	key, value := step.key, json.RawMessage(step.value)
	if strings.ContainsRune("SDR", step.op) {
		key, step.other = step.other, key
	}
	switch step.op {
	case 's', 'S':
		e.Set(key, value)
		m.drop(key)
		m[key] = value
	case 'd', 'D':
		e.Drop(key)
		m.drop(key)
	case 'r', 'R':
		e.Rename(key, step.other)
		if old, ok := m.find(key); ok {
			m.drop(key)
			m.drop(step.other)
			m[step.other] = old
		}
	case 'o':
		e.Default(key, value)
		if _, ok := m.find(key); !ok {
			m[key] = value
		}
	case 'm':
		e.SetString("model", "new/\"model\"")
		m.drop("model")
		m["model"] = json.RawMessage(`"new/\"model\""`)
	case 'u':
		r.RequestUsage(e)
		m.askUsage(r)
	}
}

// A decoded body is what the body should say.
type decoded map[string]json.RawMessage

func (m decoded) find(key string) (json.RawMessage, bool) {
	for k, v := range m {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return nil, false
}

func (m decoded) drop(key string) {
	for k := range m {
		if strings.EqualFold(k, key) {
			delete(m, k)
		}
	}
}

func (m decoded) askUsage(r *Request) {
	if r.IncludeUsage {
		return
	}
	const key = "stream_options"
	old, _ := m.find(key)
	m.drop(key)
	var o jsonspan.Object
	if o.Scan(old) != nil {
		m[key] = json.RawMessage(`{"include_usage":true}`)
		return
	}
	if value, ok := o.Get(includeUsage); ok {
		m[key] = json.RawMessage(strings.Replace(string(old), string(value), "true", 1))
		return
	}
	comma := ","
	if len(o.Members) == 0 {
		comma = ""
	}
	end := len(old) - 1
	if n := len(o.Members); n > 0 {
		end = o.Members[n-1].Value.End
	}
	m[key] = json.RawMessage(string(old[:end]) + comma + `"include_usage":true` + string(old[end:]))
}

// plainKey keeps the fuzzer to names that a configuration may hold.
func plainKey(key string) bool {
	return key != "" && strings.Trim(strings.ToLower(key), "abcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

// folds reports whether two members of an object are the same to a server that folds case.
func folds(o jsonspan.Object) bool {
	for i, a := range o.Members {
		for _, b := range o.Members[:i] {
			if strings.EqualFold(string(jsonspan.Unescape(a.Key.Of(o.Body))), string(jsonspan.Unescape(b.Key.Of(o.Body)))) {
				return true
			}
		}
	}
	return false
}
