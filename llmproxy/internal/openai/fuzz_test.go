package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/google/go-cmp/cmp"
)

// seed adds the captured bodies, and some that hold what they do not.
func seed(f *testing.F, add func(body []byte)) {
	for _, body := range captured(f, ".json") {
		add(body)
	}
	for _, body := range []string{
		`{}`, ` { "a" : [ ] , "b" : { } } `, `{"model":"a","Model":"b"}`, `{"model":"a","mod\u0065l":"b"}`, "{\"\u017ftream\":true}",
		`{"a":"\ud83d\ude00\n\\\"","b":-0.5e+10,"c":[true,false,null]}`, `{"a":1,"a":2}`, nested(20), `{"a":"\ud83d"}`, "\xef\xbb\xbf{}",
		`{"stream":true,"stream_options":{"include_usage":false,"x":1},"n":2,"max_tokens":1,"max_completion_tokens":2}`,
		`{"ключ":"значение","a":"` + strings.Repeat("0123456789abcdef", 4) + "é\x7f\"}",
	} {
		add([]byte(body))
	}
}

// FuzzScan holds the scanner against encoding/json, which accepts more: no UTF-8, half surrogate pairs, deeper nesting.
func FuzzScan(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		err := o.Scan(body)
		if err == nil {
			checkScanned(t, &o)
			return
		}
		var syntax *jsonspan.SyntaxError
		if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(body) {
			t.Fatalf("Scan = %v, want a *jsonspan.SyntaxError within %d bytes", err, len(body))
		}
		trimmed := bytes.TrimLeft(body, " \t\r\n")
		if json.Valid(body) && utf8.Valid(body) && trimmed[0] == '{' && !halfSurrogate(body) && depth(body) <= jsonspan.MaxDepth && !strings.Contains(syntax.Msg, "members") {
			t.Fatalf("Scan = %v, but encoding/json accepts it", err)
		}
	})
}

// FuzzSkim holds that skim takes every object that encoding/json takes, and no piece of one.
func FuzzSkim(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body, 3) })
	for _, e := range chunkEvents {
		f.Add([]byte(e.data), 20)
	}
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		_, whole := skim(data, new(jsonspan.TextCount))
		if _, again := skim(data, nil); again != whole {
			t.Fatal("whether it is whole depends on whether its text is counted")
		}
		object := bytes.Trim(data, " \t\r\n")
		if !json.Valid(data) || object[0] != '{' || depth(data) >= 62 {
			return
		}
		if !whole {
			t.Fatal("it is an object, but not to skim")
		}
		if at < 0 || at >= len(object) {
			return
		}
		if _, whole := skim(object[:at], nil); whole {
			t.Fatalf("it is whole without %q", object[at:])
		}
		if _, whole := skim(append(object[:len(object):len(object)], object...), nil); whole {
			t.Fatal("two of it are one")
		}
	})
}

func checkScanned(t *testing.T, o *jsonspan.Object) {
	t.Helper()
	if !json.Valid(o.Body) || !utf8.Valid(o.Body) || depth(o.Body) > jsonspan.MaxDepth || halfSurrogate(o.Body) {
		t.Fatal("Scan accepted what it must not")
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(o.Body, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string]json.RawMessage{}
	for _, m := range o.Members {
		key, ok := jsonspan.String(o.Body[m.Key.Start-1 : m.Key.End+1])
		if !ok {
			t.Fatalf("the key %q has no quotes around it", m.Key.Of(o.Body))
		}
		got[key] = m.Value.Of(o.Body)
		if value, ok := o.Get(key); !ok || !bytes.Equal(value, want[key]) {
			t.Fatalf("Get(%q) = %s, want %s", key, value, want[key])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the members (-want +got):\n%s", diff)
	}
	if o.Body[o.Close] != '}' || len(bytes.TrimSpace(o.Body[o.Close+1:])) > 0 {
		t.Fatalf("Close = %d is not the last brace", o.Close)
	}
}

var (
	surrogatePair = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	surrogateHalf = regexp.MustCompile(`\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
)

// halfSurrogate reports whether valid JSON has an escape that is half a pair.
func halfSurrogate(body []byte) bool {
	// An escaped backslash goes first, for what stands behind it is no escape; a space keeps its sides apart.
	body = bytes.ReplaceAll(body, []byte(`\\`), []byte(" "))
	return surrogateHalf.Match(surrogatePair.ReplaceAll(body, []byte(" ")))
}

// depth counts the levels of valid JSON.
func depth(body []byte) (deepest int) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	for level := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// FuzzRequest holds what the gateway reads against a server in Go, which folds the case of keys, and one in Python, which does
// not: what is accepted must be the same to both.
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
		type said struct {
			Model         *string
			Stream        *bool
			N             *int
			StreamOptions *struct {
				IncludeUsage *bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		var folding, exact said
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
			t.Fatalf("a server that folds keys reads something else (-exact +folding):\n%s", diff)
		}
		got := said{}
		if r.HasModel {
			got.Model = &r.Model
		}
		if diff := cmp.Diff(exact.Model, got.Model); diff != "" {
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
	})
}

// FuzzStream wants Next, which skips most events unread, to find what First finds.
func FuzzStream(f *testing.F) {
	for _, stream := range captured(f, ".sse") {
		for _, e := range splitStream(stream) {
			f.Add(e[0], e[1])
		}
	}
	for _, e := range chunkEvents {
		f.Add([]byte(e.kind), []byte(e.data))
	}
	f.Add([]byte("response.failed"), []byte(`{"response":{"error":{"code":"x"},"usage":{"input_tokens":1}}}`))
	f.Add([]byte(""), []byte(`{"type":"error","message":"m"}`))
	f.Fuzz(func(t *testing.T, name, data []byte) {
		for _, framing := range []Framing{Chunks, Typed} {
			first, next := framing.First(name, data), framing.Next(name, data)
			if first.Finish != (first.Finishes > 0) || first.UsageOnly && (first.Finish || first.Content) {
				t.Fatalf("First contradicts itself: %+v", first)
			}
			// Broken JSON is read as far as it goes, and a key with escapes is not hunted for.
			if !json.Valid(data) || bytes.Contains(data, []byte(`\u`)) {
				continue
			}
			first.Content, next.Content, next.Text = false, false, jsonspan.TextCount{}
			if diff := cmp.Diff(first, next); diff != "" {
				t.Fatalf("framing %d: Next finds other things than First (-first +next):\n%s", framing, diff)
			}
		}
		_, _ = ParseError(data)
		var a Answer
		if err := a.Parse(data); (err == nil) != json.Valid(data) && utf8.Valid(data) && len(data) < jsonspan.MaxDepth && !halfSurrogate(data) && !scalarJSON(data) {
			t.Fatalf("Parse = %v", err)
		}
	})
}

func scalarJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] != '{' && data[0] != '['
}

// nested is an object with as many levels.
func nested(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}
