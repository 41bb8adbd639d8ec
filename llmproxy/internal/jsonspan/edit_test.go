package jsonspan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEdit(t *testing.T) {
	t.Parallel()
	set := func(key, value string) func(*Edit) { return func(e *Edit) { e.Set(key, []byte(value)) } }
	byDefault := func(key, value string) func(*Edit) { return func(e *Edit) { e.Default(key, []byte(value)) } }
	drop := func(key string) func(*Edit) { return func(e *Edit) { e.Drop(key) } }
	rename := func(from, to string) func(*Edit) { return func(e *Edit) { e.Rename(from, to) } }
	model := func(name string) func(*Edit) { return func(e *Edit) { e.SetString("model", name) } }
	for _, tt := range []struct {
		name, body string
		edits      []func(*Edit)
		want       string
	}{
		{"nothing", ` {"a" : 1.0 } `, nil, ` {"a" : 1.0 } `},
		{"set in place", `{"a": 1, "b" :2 }`, []func(*Edit){set("a", "9")}, `{"a": 9, "b" :2 }`},
		{"set adds", `{"a":1 }`, []func(*Edit){set("b", "2")}, `{"a":1,"b":2 }`},
		{"set adds to an empty object", ` { } `, []func(*Edit){set("b", "2")}, ` { "b":2} `},
		{"two added", `{}`, []func(*Edit){set("b", "2"), set("c", "3")}, `{"b":2,"c":3}`},
		{"set what was added", `{}`, []func(*Edit){set("b", "2"), set("b", "3")}, `{"b":3}`},
		{"set one of several", `{"a":1,"b":2,"a":3}`, []func(*Edit){set("a", "9")}, `{"a":9,"b":2}`},
		{"set another spelling", `{"Temperature":1}`, []func(*Edit){set("temperature", "0")}, `{"temperature":0}`},
		{"set a long value", `{"a":1}`, []func(*Edit){set("a", strings.Repeat("1", 300))}, `{"a":` + strings.Repeat("1", 300) + `}`},
		{"key with a quote", `{}`, []func(*Edit){set(`a"b`, "1")}, `{"a\"b":1}`},
		{"default adds", `{"a":1}`, []func(*Edit){byDefault("b", "2")}, `{"a":1,"b":2}`},
		{"default keeps a value", `{"a":1}`, []func(*Edit){byDefault("a", "2")}, `{"a":1}`},
		{"default keeps null", `{"a":null}`, []func(*Edit){byDefault("a", "2")}, `{"a":null}`},
		{"default keeps another spelling", `{"\u0041":1}`, []func(*Edit){byDefault("a", "2")}, `{"\u0041":1}`},
		{"default after drop", `{"a":1}`, []func(*Edit){drop("a"), byDefault("a", "2")}, `{"a":2}`},
		{"drop the first", `{"a":1, "b":2}`, []func(*Edit){drop("a")}, `{"b":2}`},
		{"drop in the middle", `{"a":1, "b":2 , "c":3}`, []func(*Edit){drop("b")}, `{"a":1 , "c":3}`},
		{"drop the last", `{"a":1, "b":2 }`, []func(*Edit){drop("b")}, `{"a":1 }`},
		{"drop the only member", `{ "a":1 }`, []func(*Edit){drop("a")}, `{  }`},
		{"drop all", `{"a":1,"b":2,"c":3}`, []func(*Edit){drop("b"), drop("a"), drop("c")}, `{}`},
		{"drop the first two", `{"a":1,"b":2,"c":3}`, []func(*Edit){drop("b"), drop("a")}, `{"c":3}`},
		{"drop every spelling", `{"user":1,"x":0,"User":2,"us\u0065r":3,"user":4}`, []func(*Edit){drop("user")}, `{"x":0}`},
		{"drop a missing key", `{"a":1}`, []func(*Edit){drop("b")}, `{"a":1}`},
		{"drop what was set", `{"a":1,"b":2}`, []func(*Edit){set("a", "9"), drop("a")}, `{"b":2}`},
		{"drop what was added", `{"a":1}`, []func(*Edit){set("b", "2"), drop("b")}, `{"a":1}`},
		{"drop all and add", `{"a":1}`, []func(*Edit){drop("a"), set("b", "2"), set("c", "3")}, `{"b":2,"c":3}`},
		{"rename", `{"a":1,"max_completion_tokens" : 5}`, []func(*Edit){rename("max_completion_tokens", "max_tokens")}, `{"a":1,"max_tokens" : 5}`},
		{"rename replaces the member before it", `{"max_tokens":40,"max_completion_tokens":5}`, []func(*Edit){rename("max_completion_tokens", "max_tokens")}, `{"max_tokens":5}`},
		{"rename replaces the member after it", `{"max_completion_tokens":5,"max_tokens":40}`, []func(*Edit){rename("max_completion_tokens", "max_tokens")}, `{"max_tokens":5}`},
		{"rename replaces other spellings", `{"MAX_TOKENS":40,"max_completion_tokens":5}`, []func(*Edit){rename("max_completion_tokens", "max_tokens")}, `{"max_tokens":5}`},
		{"rename a missing key", `{"max_tokens":40}`, []func(*Edit){rename("max_completion_tokens", "max_tokens")}, `{"max_tokens":40}`},
		{"rename keeps the last of several", `{"a":1,"A":2}`, []func(*Edit){rename("a", "b")}, `{"b":2}`},
		{"rename to another case", `{"a":1}`, []func(*Edit){rename("a", "A")}, `{"A":1}`},
		{"rename what was added", `{}`, []func(*Edit){set("a", "1"), rename("a", "b")}, `{"b":1}`},
		{"default keeps a renamed member", `{"a":1}`, []func(*Edit){rename("a", "b"), byDefault("b", "2"), byDefault("a", "3")}, `{"b":1,"a":3}`},
		{"drop a renamed member", `{"a":1,"c":3}`, []func(*Edit){rename("a", "b"), drop("b")}, `{"c":3}`},
		{"model", `{"messages":[],"model":"a","n":1}`, []func(*Edit){model(`meta/"x"`)}, `{"messages":[],"model":"meta/\"x\"","n":1}`},
		{"model has the value already", `{"model":"a"}`, []func(*Edit){model("a")}, `{"model":"a"}`},
		{"model has the value already, with an escape", `{"model":"\u0061"}`, []func(*Edit){model("a")}, `{"model":"\u0061"}`},
		{"model is missing", `{"n":1}`, []func(*Edit){model("a")}, `{"n":1,"model":"a"}`},
		{"model twice", `{"model":"a","model":"b"}`, []func(*Edit){model("a")}, `{"model":"a"}`},
		{"model is null", `{"model":null}`, []func(*Edit){model("a")}, `{"model":"a"}`},
		{"numbers, zeros and order survive", `{"z":1e400,"temperature":0.0,"a":12345678901234567890,"model":"x","logit_bias":{}}`, []func(*Edit){model("y")},
			`{"z":1e400,"temperature":0.0,"a":12345678901234567890,"model":"y","logit_bias":{}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var o Object
			if err := o.Scan([]byte(tt.body)); err != nil {
				t.Fatal(err)
			}
			var e Edit
			e.Reset(&o)
			for _, edit := range tt.edits {
				edit(&e)
			}
			if got := string(e.Bytes()); got != tt.want {
				t.Errorf("the body is %s\nwant        %s", got, tt.want)
			}
		})
	}
}

func TestEditHas(t *testing.T) {
	t.Parallel()
	var o Object
	if err := o.Scan([]byte(`{"Max_Tokens":1,"us\u0065r":2,"gone":3,"old":4}`)); err != nil {
		t.Fatal(err)
	}
	var e Edit
	e.Reset(&o)
	e.Drop("gone")
	e.Rename("old", "new")
	e.Set("added", []byte("5"))
	for key, want := range map[string]bool{
		"max_tokens": true, "user": true, "USER": true, "gone": false, "old": false, "new": true, "Added": true, "use": false, "": false,
	} {
		if got := e.Has(key); got != want {
			t.Errorf("Has(%q) = %v, want %v", key, got, want)
		}
	}
}

// A body must stay valid after the next Reset: a transport may still be reading it when the next attempt begins.
func TestEditIsReusable(t *testing.T) {
	t.Parallel()
	var o Object
	if err := o.Scan([]byte(`{"model":"auto","n":1}`)); err != nil {
		t.Fatal(err)
	}
	var e Edit
	e.Reset(&o)
	e.SetString("model", "first")
	e.Rename("n", "m")
	e.Set("x", []byte("1"))
	first := e.Segments()
	e.Reset(&o)
	e.SetString("model", "second")
	if got, want := string(e.Bytes()), `{"model":"second","n":1}`; got != want {
		t.Errorf("the second body is %s, want %s", got, want)
	}
	if got, want := string(bytes.Join(first, nil)), `{"model":"first","m":1,"x":1}`; got != want {
		t.Errorf("the first body is %s, want %s", got, want)
	}
}

func TestSegmentsShareBytes(t *testing.T) {
	t.Parallel()
	body := []byte(`{"messages":[],"model":"m","stream":true}`)
	var o Object
	if err := o.Scan(body); err != nil {
		t.Fatal(err)
	}
	var e Edit
	e.Reset(&o)
	e.SetString("model", "other")
	segments := e.Segments()
	if len(segments) != 3 || &segments[0][0] != &body[0] || &segments[2][len(segments[2])-1] != &body[len(body)-1] {
		t.Errorf("the body has %d segments, want the old body's bytes around the new name", len(segments))
	}
}

// FuzzEdit compares edits in place with edits of a decoded map.
func FuzzEdit(f *testing.F) {
	for i, ops := range []string{"t", "sdr", "rd", "dds", "oR", "RDt", "trsdoRDS"} {
		for _, body := range seeds {
			f.Add([]byte(body), ops, "max_tokens", "model", uint8(i))
			f.Add([]byte(body), ops, "a", "b", uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, ops, key, other string, number uint8) {
		var o Object
		if o.Scan(body) != nil || !plainKey(key) || !plainKey(other) || len(ops) > 20 {
			return
		}
		ambiguous := repeatsKey(&o)
		var e Edit
		e.Reset(&o)
		m := decoded{}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			apply(&e, m, op, key, other, json.RawMessage{'0' + number%10})
		}
		got := e.Bytes()
		var edited Object
		if err := edited.Scan(got); err != nil {
			t.Fatalf("the edited body is not JSON: %v\n%s", err, got)
		}
		if ambiguous {
			return // the map has lost one of the values
		}
		result := decoded{}
		if err := json.Unmarshal(got, &result); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, result); diff != "" || len(edited.Members) != len(m) {
			t.Fatalf("after %q the body is %s (-want +got):\n%s", ops, got, diff)
		}
	})
}

// apply makes one edit, both in place and to the decoded map. Capital letters swap the two keys.
func apply(e *Edit, m decoded, op rune, key, other string, value json.RawMessage) {
	if strings.ContainsRune("SDR", op) {
		key, other = other, key
	}
	switch op {
	case 's', 'S':
		e.Set(key, value)
		m.set(key, value)
	case 't':
		const text = `new/"text"`
		e.SetString(key, text)
		old, _ := m.find(key)
		var oldText string
		if json.Unmarshal(old, &oldText) != nil || oldText != text {
			m.set(key, json.RawMessage(`"new/\"text\""`))
		}
	case 'd', 'D':
		e.Drop(key)
		m.drop(key)
	case 'r', 'R':
		e.Rename(key, other)
		if old, ok := m.find(key); ok {
			m.drop(key)
			m.set(other, old)
		}
	case 'o':
		e.Default(key, value)
		if _, ok := m.find(key); !ok {
			m[key] = value
		}
	}
}

// A decoded object is edited by a server that folds the case of keys.
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

func (m decoded) set(key string, value json.RawMessage) {
	m.drop(key)
	m[key] = value
}

// plainKey reports whether a key is one that a configuration may have.
func plainKey(key string) bool {
	return key != "" && strings.Trim(strings.ToLower(key), "abcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

// repeatsKey reports whether two members of an object have the same key to a server that folds case.
func repeatsKey(o *Object) bool {
	for i, a := range o.Members {
		for _, b := range o.Members[:i] {
			if bytes.EqualFold(Unescape(a.Key.Of(o.Body)), Unescape(b.Key.Of(o.Body))) {
				return true
			}
		}
	}
	return false
}
