package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/google/go-cmp/cmp"
)

// FuzzEdit holds splices against edits of a decoded map.
func FuzzEdit(f *testing.F) {
	for i, ops := range []string{"m", "u", "sdr", "rd", "dds", "oR", "RDm", "mursdoRDS"} {
		seed(f, func(body []byte) { f.Add(body, ops, "max_tokens", "model", uint8(i)) })
		seed(f, func(body []byte) { f.Add(body, ops, "a", "b", uint8(i)) })
	}
	f.Fuzz(func(t *testing.T, body []byte, ops, key, other string, number uint8) {
		var h Head
		if h.Parse(body) != nil || !plainKey(key) || !plainKey(other) || len(ops) > 20 {
			return
		}
		var e jsonspan.Edit
		e.Reset(&h.Object)
		m := decoded{}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			apply(&e, &h, m, edit{op: op, key: key, other: other, value: string('0' + number%10)})
		}
		got := readAll(t, e.Body())
		var o jsonspan.Object
		if err := o.Scan([]byte(got)); err != nil {
			t.Fatalf("the edited body is not JSON: %v\n%s", err, got)
		}
		if folds(h.Object) {
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

func apply(e *jsonspan.Edit, h *Head, m decoded, step edit) {
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
		AskUsage(e, h)
		m.askUsage(h)
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

func (m decoded) askUsage(h *Head) {
	if h.IncludeUsage {
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
