package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuestion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, text, around string }{
		{"a text", `{"model":"m","messages":[{"role":"user","content":"Hi \u0041"}]}`, "Hi A", `[{"role":"user","content":""}]`},
		{"a conversation", `{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}, {"content":"c","role":"user","name":"n"} ]}`,
			"c", `[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}, {"content":"","role":"user","name":"n"} ]`},
		{"one part", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`, "a", `[{"role":"user","content":[{"type":"text","text":""}]}]`},
		{"two parts", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, "", ""},
		{"an image", `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, "", ""},
		{"a part without text", `{"messages":[{"role":"user","content":[{"type":"text"}]}]}`, "", ""},
		{"a part that is none", `{"messages":[{"role":"user","content":["a"]}]}`, "", ""},
		{"no part", `{"messages":[{"role":"user","content":[]}]}`, "", ""},
		{"no content", `{"messages":[{"role":"user"}]}`, "", ""},
		{"content that is null", `{"messages":[{"role":"user","content":null}]}`, "", ""},
		{"an assistant's", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "", ""},
		{"a tool's", `{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}`, "", ""},
		{"two contents", `{"messages":[{"role":"user","content":"a","content":"b"}]}`, "", ""},
		{"two contents, one in disguise", `{"messages":[{"role":"user","content":"a","conten\u0074":"b"}]}`, "", ""},
		{"two roles", `{"messages":[{"role":"user","content":"a","role":"user"}]}`, "", ""},
		{"a key in disguise", `{"messages":[{"role":"user","conten\u0074":"b"}]}`, "", ""},
		{"two lists of messages", `{"messages":[],"messages":[{"role":"user","content":"a"}]}`, "", ""},
		{"messages in disguise", `{"m\u0065ssages":[{"role":"user","content":"b"}]}`, "", ""},
		{"no list", `{"messages":"a"}`, "", ""},
		{"an empty list", `{"messages":[]}`, "", ""},
		{"a message that is none", `{"messages":["a"]}`, "", ""},
		{"none", `{}`, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var h Head
			if err := h.Scan([]byte(test.body)); err != nil {
				t.Fatal(err)
			}
			text, around, ok := h.Question()
			if text != test.text || string(around) != test.around || ok != (test.around != "") {
				t.Errorf("%q, %s, %v", text, around, ok)
			}
		})
	}
}

// With the text back in its place, the messages are what they were.
func FuzzQuestion(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"Hi"}]}`))
	f.Add([]byte(`{"messages":[1,{"role":"user","content":[{"text":"\ud83d\ude00","type":"text"}]}]}`))
	f.Add([]byte(`{"a":1,"messages": [ {"content" : "" , "role":"\u0075ser"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var h Head
		if h.Scan(body) != nil {
			return
		}
		text, around, ok := h.Question()
		if !ok {
			return
		}
		value, _ := h.Get("messages")
		hole := bytes.LastIndex(around, []byte(`""`))
		for ; hole >= 0; hole = bytes.LastIndex(around[:hole], []byte(`""`)) {
			var a, b Canon
			again, err := a.Value(append(appendString(append([]byte{}, around[:hole]...), text), around[hole+2:]...))
			if err != nil {
				continue
			}
			if before, err := b.Value(value); err != nil || bytes.Equal(again, before) {
				return
			}
		}
		t.Errorf("%s is not %s with %q in it", value, around, text)
	})
}

func TestEmbeddingNumbers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		want       [][]float32
	}{
		{"numbers", `{"data":[{"embedding":[1,-2.5e1],"index":0}],"usage":{"prompt_tokens":1}}`, [][]float32{{1, -25}}},
		{"by their index", `{"data":[{"index":1,"embedding":[2]},{"object":"embedding","index":0,"embedding":[1]}]}`, [][]float32{{1}, {2}}},
		{"base64", `{"data":[{"embedding":"AACAPw==","index":0}]}`, nil},
		{"too large", `{"data":[{"embedding":[1e99],"index":0}]}`, nil},
		{"not a number", `{"data":[{"embedding":[NaN],"index":0}]}`, nil},
		{"null", `{"data":[{"embedding":[null],"index":0}]}`, nil},
		{"texts", `{"data":[{"embedding":["1"],"index":0}]}`, nil},
		{"nothing", `{"data":[]}`, nil},
		{"an error", `{"error":{"message":"no"}}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := max(len(test.want), 1)
			got, ok := EmbeddingNumbers([]byte(test.body), n)
			if diff := cmp.Diff(test.want, got); diff != "" || ok != (test.want != nil) {
				t.Errorf("%v %s", ok, diff)
			}
		})
	}
}
