package jsonspan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestScanAccepts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body string }{
		{"empty object", `{}`},
		{"white space everywhere", " \t\r\n{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : null } \n"},
		{"numbers", `{"a":[0,-0,10,1.5,-1.5e10,1E+2,1e-2,0.0,123456789012345678901234567890]}`},
		{"literals", `{"a":[true,false,null]}`},
		{"escapes", `{"a":"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"}`},
		{"escape at the end of eight bytes", `{"abcdefg":"abcdef\n","b":"abcdefghijklmno\\"}`},
		{"other languages", `{"ключ":"значение","鍵":"値","emoji":"😀"}`},
		{"line separators are not control characters", "{\"a\":\"\u2028\u007f\"}"},
		{"long strings", `{"a":"` + strings.Repeat("0123456789", 100) + `","b":"` + strings.Repeat("é", 100) + `"}`},
		{"deep", nested(maxDepth)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var o Object
			if err := o.Scan([]byte(tt.body)); err != nil {
				t.Fatalf("Scan(%s) = %v", tt.body, err)
			}
			if tt.body[o.Close] != '}' || strings.TrimSpace(tt.body[o.Close+1:]) != "" {
				t.Errorf("Close = %d, which is not the last brace", o.Close)
			}
		})
	}
}

// nested returns an object that is nested to the given depth.
func nested(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}

func TestScanRejects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		offset     int
		msg        string // a part of it
	}{
		{"nothing", ``, 0, "empty"},
		{"white space only", " \n", 2, "empty"},
		{"byte order mark", "\xef\xbb\xbf{}", 0, "byte order mark"},
		{"array", `[{}]`, 0, "array"},
		{"string", `"model"`, 0, "not an object"},
		{"form", `model=a`, 0, "brace"},
		{"trailing comma", `{"a":1,}`, 7, "key"},
		{"trailing data", `{"a":1} {"b":2}`, 8, "data after its end"},
		{"trailing brace", `{"a":1}}`, 7, "data after its end"},
		{"single quotes", `{'a':1}`, 1, "double quotes"},
		{"bare key", `{a:1}`, 1, "double quotes"},
		{"no colon", `{"a" 1}`, 5, "colon"},
		{"no comma", `{"a":1 "b":2}`, 7, "comma"},
		{"no comma in an array", `{"a":[1 2]}`, 8, "comma"},
		{"invalid value", `{"a":}`, 5, "invalid value"},
		{"wrong bracket", `{"a":[1}`, 7, "bracket"},
		{"truncated after the brace", `{`, 1, "key"},
		{"truncated in a key", `{"mod`, 5, "truncated"},
		{"truncated before a value", `{"a":`, 5, "value"},
		{"truncated in a value", `{"a":"b`, 7, "truncated"},
		{"truncated in an escape", `{"a":"b\`, 7, "truncated"},
		{"truncated in a literal", `{"a":tru`, 5, "invalid value"},
		{"truncated in a number", `{"a":1.`, 7, "digit"},
		{"truncated before the end", `{"a":1`, 6, "closing brace"},
		{"leading zero", `{"a":01}`, 6, "comma"},
		{"two zeros", `{"a":00}`, 6, "comma"},
		{"plus", `{"a":+1}`, 5, "invalid value"},
		{"no digit before the point", `{"a":.5}`, 5, "invalid value"},
		{"no digit after the point", `{"a":1.e5}`, 7, "digit"},
		{"no exponent", `{"a":1e}`, 7, "digit"},
		{"minus only", `{"a":-}`, 6, "digit"},
		{"not a number", `{"a":NaN}`, 5, "invalid value"},
		{"capital literal", `{"a":True}`, 5, "invalid value"},
		{"line break in a string", "{\"a\":\"b\nc\"}", 7, "control character"},
		{"zero byte", "{\"a\":\"\x00\"}", 6, "control character"},
		{"control character after long text", `{"a":"` + strings.Repeat("x", 40) + "\x1f\"}", 46, "control character"},
		{"unknown escape", `{"a":"\x"}`, 6, "escape"},
		{"short escape", `{"a":"\u12"}`, 6, "four hexadecimal"},
		{"bad escape", `{"a":"\u12g4"}`, 6, "four hexadecimal"},
		{"lone high surrogate", `{"a":"\ud83d"}`, 6, "surrogate"},
		{"high surrogate, then text", `{"a":"\ud83dabcdef"}`, 6, "surrogate"},
		{"two high surrogates", `{"a":"\ud83d\ud83d"}`, 6, "surrogate"},
		{"lone low surrogate", `{"a":"\ude00"}`, 6, "surrogate"},
		{"not UTF-8", "{\"a\":\"b\xff\"}", 7, "UTF-8"},
		{"not UTF-8 after UTF-8", "{\"a\":\"éé\xc3\"}", 10, "UTF-8"},
		{"not UTF-8 after a replacement character", "{\"a\":\"\ufffd\xff\"}", 9, "UTF-8"},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", 6, "UTF-8"},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", 6, "UTF-8"},
		{"not UTF-8 in a key", "{\"\xff\":1}", 2, "UTF-8"},
		{"comment", `{/**/"a":1}`, 1, "key"},
		{"other white space", "{\u00a0}", 1, "key"},
		{"too deep", nested(maxDepth + 1), 5 + maxDepth - 1, "nested"},
		{"a hundred thousand levels", strings.Repeat(`{"a":`, 100_000), 5 * maxDepth, "nested"},
		{"a hundred thousand brackets", `{"a":` + strings.Repeat("[", 100_000), 5 + maxDepth - 1, "nested"},
		{"too many members", "{" + strings.Repeat(`"a":1,`, maxMembers) + `"a":1}`, 1 + 6*maxMembers, "more than 1024 members"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var o Object
			var syntax *SyntaxError
			if err := o.Scan([]byte(tt.body)); !errors.As(err, &syntax) {
				t.Fatalf("Scan = %v, want a *SyntaxError", err)
			}
			if syntax.Offset != tt.offset || !strings.Contains(syntax.Msg, tt.msg) {
				t.Errorf("Scan = %v, want byte %d and %q", syntax, tt.offset, tt.msg)
			}
		})
	}
}

func TestScanMembers(t *testing.T) {
	t.Parallel()
	body := []byte(` {"a" : {"x":[1,2]}, "mod\u0065l":"b","a":3 } `)
	var o Object
	if err := o.Scan(body); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range o.Members {
		got = append(got, string(m.Key.Of(body)), string(m.Value.Of(body)))
	}
	want := []string{"a", `{"x":[1,2]}`, `mod\u0065l`, `"b"`, "a", "3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if value, ok := o.Get("a"); !ok || string(value) != "3" {
		t.Errorf("Get(a) = %s, %v, want 3, the last value", value, ok)
	}
	if value, ok := o.Get("model"); !ok || string(value) != `"b"` {
		t.Errorf("Get(model) = %s, %v, want the value of the key with an escape", value, ok)
	}
	if value, ok := o.Get("A"); ok {
		t.Errorf("Get(A) = %s, want no value: keys are compared exactly", value)
	}
}

// Bytes that need a closer look must be found at every offset within the bytes that are examined together: sixteen, or 32 in a long string.
func TestScanStringAtEveryOffset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"quote", `","b":"`, true},
		{"escape", `\n`, true},
		{"escaped quote", `\"`, true},
		{"two bytes", "é", true},
		{"four bytes", "😀", true},
		{"control character", "\x01", false},
		{"last control character", "\x1f", false},
		{"tab", "\t", false},
		{"exclamation mark, between space and quote", "!", true},
		{"number sign, next to the quote", "#", true},
		{"brackets, next to the backslash", "[]", true},
		{"delete", "\x7f", true},
		{"not UTF-8", "\x80", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for before := range 80 {
				if before >= 40 {
					before += manyPlain
				}
				for after := range 20 {
					body := `{"a":"` + strings.Repeat("x", before) + tt.text + strings.Repeat("y", after) + `"}`
					var o Object
					if err := o.Scan([]byte(body)); (err == nil) != tt.ok {
						t.Fatalf("Scan(%q) = %v, want ok = %v", body, err, tt.ok)
					}
				}
			}
		})
	}
}

// A body that is truncated anywhere must be rejected, and must not be read past its end.
func TestScanTruncated(t *testing.T) {
	t.Parallel()
	body := []byte(`{"text":"` + strings.Repeat(`0123456789abcd\n\u00e9\ud83d\ude00`, 5) + "é😀" + `","n":[-1.5e+10,true,false,null,{}]}`)
	var o Object
	if err := o.Scan(body); err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if err := o.Scan(slices.Clip(body[:n])); err == nil {
			t.Errorf("Scan accepted the truncated body %s", body[:n])
		}
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	body := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("Hello, ", 1500) + `"}],"model":"m"}`)
	o := Object{Members: make([]Member, 0, 16)}
	if n := testing.AllocsPerRun(100, func() {
		if err := o.Scan(body); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("Scan makes %v allocations, want none", n)
	}
}

func TestEachMember(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, object string
		want         []string
		fails        bool
	}{
		{"empty", ` { } `, nil, false},
		{"several", `{"a":1, "b" : [2,{"c":3}] ,"d":null}`, []string{"a", "1", "b", `[2,{"c":3}]`, "d", "null"}, false},
		{"truncated", `{"a":1,"b":`, []string{"a", "1"}, true},
		{"array", `[1]`, nil, true},
		{"null", `null`, nil, true},
		{"nothing", ``, nil, true},
		{"what follows is not read", `{"a":1}}}`, []string{"a", "1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			err := EachMember([]byte(tt.object), func(key, value []byte) bool {
				got = append(got, string(key), string(value))
				return true
			})
			if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.fails {
				t.Errorf("EachMember = %v, members (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEachElement(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, array string
		want        []string
		fails       bool
	}{
		{"empty", `[ ]`, nil, false},
		{"several", ` [1, "b" ,[2],{"c":3}]`, []string{"1", `"b"`, "[2]", `{"c":3}`}, false},
		{"truncated", `[1,`, []string{"1"}, true},
		{"trailing comma", `[1,]`, []string{"1"}, true},
		{"object", `{}`, nil, true},
		{"null", `null`, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			err := EachElement([]byte(tt.array), func(value []byte) bool {
				got = append(got, string(value))
				return true
			})
			if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.fails {
				t.Errorf("EachElement = %v, elements (-want +got):\n%s", err, diff)
			}
		})
	}
}

// A visitor that stops early must not pay for the rest, nor fail on it.
func TestVisitorStops(t *testing.T) {
	t.Parallel()
	visits := 0
	if err := EachMember([]byte(`{"a":1,"b":2,broken`), func(_, _ []byte) bool { visits++; return visits < 2 }); err != nil || visits != 2 {
		t.Errorf("EachMember = %v after %d visits, want none after 2", err, visits)
	}
	visits = 0
	if err := EachElement([]byte(`[1,2,broken`), func([]byte) bool { visits++; return visits < 2 }); err != nil || visits != 2 {
		t.Errorf("EachElement = %v after %d visits, want none after 2", err, visits)
	}
}

func TestEachMemberDoesNotAllocate(t *testing.T) {
	data := []byte(`{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}`)
	count := 0
	if n := testing.AllocsPerRun(100, func() {
		if err := EachMember(data, func(_, _ []byte) bool { count++; return true }); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("EachMember makes %v allocations, want none", n)
	}
}

// seeds are the bodies that the fuzz targets start from.
var seeds = []string{
	`{}`, ` { "a" : [ ] , "b" : { } } `, `{"model":"a","Model":"b"}`, `{"model":"a","mod\u0065l":"b"}`, "{\"\u017ftream\":true}",
	`{"a":"\ud83d\ude00\n\\\"","b":-0.5e+10,"c":[true,false,null]}`, `{"a":1,"a":2}`, nested(20), `{"a":"\ud83d"}`, "\xef\xbb\xbf{}", `[{"a":1},2]`,
	`{"stream":true,"stream_options":{"include_usage":false,"x":1},"n":2,"max_tokens":1,"max_completion_tokens":2}`,
	`{"ключ":"значение","a":"` + strings.Repeat("0123456789abcdef", 4) + "é\x7f\"}",
	`{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"model":"m","temperature":0.7,"tools":[],"stop":null}`,
}

// FuzzScan compares Scan and Walk with encoding/json, which also accepts invalid UTF-8, half surrogate pairs and deeper nesting.
func FuzzScan(f *testing.F) {
	for _, body := range seeds {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		valid := json.Valid(body) && utf8.Valid(body) && depth(body) <= maxDepth && !halfSurrogate(body)
		trimmed := bytes.TrimLeft(body, " \t\r\n")
		isObject, isArray := bytes.HasPrefix(trimmed, []byte("{")), bytes.HasPrefix(trimmed, []byte("["))
		if err := Walk(body, func(_, _ []byte) {}, func([]byte) {}); (err == nil) != (valid && (isObject || isArray)) {
			t.Fatalf("Walk = %v, valid: %v", err, valid)
		}
		var o Object
		err := o.Scan(body)
		if err == nil {
			if !valid || !isObject {
				t.Fatal("Scan accepted an invalid body")
			}
			checkMembers(t, &o)
			return
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(body) {
			t.Fatalf("Scan = %v, want a *SyntaxError within %d bytes", err, len(body))
		}
		if valid && isObject && !strings.Contains(syntax.Msg, "members") {
			t.Fatalf("Scan = %v, but the body is valid", err)
		}
	})
}

// checkMembers compares the members of a scanned object with those that encoding/json finds.
func checkMembers(t *testing.T, o *Object) {
	t.Helper()
	var want map[string]json.RawMessage
	if err := json.Unmarshal(o.Body, &want); err != nil {
		t.Fatal(err)
	}
	got := map[string]json.RawMessage{}
	for _, m := range o.Members {
		key, ok := String(o.Body[m.Key.Start-1 : m.Key.End+1])
		if !ok {
			t.Fatalf("the key %q has no quotes around it", m.Key.Of(o.Body))
		}
		got[key] = m.Value.Of(o.Body)
		if value, ok := o.Get(key); !ok || !bytes.Equal(value, want[key]) {
			t.Fatalf("Get(%q) = %s, want %s", key, value, want[key])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("members (-want +got):\n%s", diff)
	}
	if o.Body[o.Close] != '}' || len(bytes.TrimSpace(o.Body[o.Close+1:])) > 0 {
		t.Fatalf("Close = %d is not the last brace", o.Close)
	}
}

var (
	surrogatePair = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	surrogateHalf = regexp.MustCompile(`\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
)

// halfSurrogate reports whether valid JSON has an escape that is half a surrogate pair.
func halfSurrogate(body []byte) bool {
	// Escaped backslashes go first, because what follows one is not an escape; a space keeps its two sides apart.
	body = bytes.ReplaceAll(body, []byte(`\\`), []byte(" "))
	return surrogateHalf.Match(surrogatePair.ReplaceAll(body, []byte(" ")))
}

// depth returns how deeply valid JSON is nested.
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

// reference validates a value with recursion.
func reference(s *Scanner, i, depth int) int {
	switch s.peek(i) {
	case '{':
		return s.Object(i, depth+1, func(_ Span, value int) int { return reference(s, value, depth+1) })
	case '[':
		return s.Array(i, depth+1, func(value int) int { return reference(s, value, depth+1) })
	}
	return s.Value(i, depth)
}

// compareCompound checks that a text is found valid or not as with recursion, with the same error.
func compareCompound(t *testing.T, text string) {
	t.Helper()
	recursive, fast := Scanner{Text: []byte(text)}, Scanner{Text: []byte(text)}
	want, got := reference(&recursive, 0, 0), fast.Value(0, 0)
	if got != want || fmt.Sprint(fast.Err()) != fmt.Sprint(recursive.Err()) {
		t.Errorf("%.200q: %d, %v; want %d, %v", text, got, fast.Err(), want, recursive.Err())
	}
}

func TestCompound(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"messages":                  `[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"user","content":"c"}]`,
		"messages, cut off":         `[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"user","conte`,
		"the same text elsewhere":   `[["a","b","c"],{"x":["a","b"],"y":"c","z":"d"},["a":"b"]]`,
		"an object closes an array": `[{"a":"b","c":"d"},{"a":"b","c":"d"},["a","b","c","d"}]`,
		"keys where none belong":    `[{"a":"b","c":"d","e":"f"},["b","c":"d"]]`,
		"invalid in a later string": `[{"a":"b","c":"d"},{"a":"b","c":"d"},{"a":"b","c":"\x"}]`,
		"empty":                     `[{},[],{"a":{}},{"a":[]},[{}],[[]]]`,
		"white space":               "[ {\"a\" : \"b\" }\n,{\"a\" : \"b\" }\n,{\"a\" : \"b\" }\n] ",
		"deep":                      strings.Repeat(`[{"a":`, 200) + `"b"` + strings.Repeat(`}]`, 200),
		"too deep":                  strings.Repeat(`[{"a":`, 300) + `"b"` + strings.Repeat(`}]`, 300),
		"the deepest":               strings.Repeat(`[`, maxDepth) + strings.Repeat(`]`, maxDepth),
		"one deeper":                strings.Repeat(`[`, maxDepth+1) + strings.Repeat(`]`, maxDepth+1),
		"deep, closed wrongly":      strings.Repeat(`[{"a":`, 100) + `"b"` + strings.Repeat(`]}`, 100),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareCompound(t, text)
		})
	}
}

// Whatever stands between the strings, and however often, the result is that of recursion. One text follows another so that what is
// remembered of the one meets the other.
func FuzzCompound(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"role":"user","content":"a"}`, `{"role":"user","content":["b"]}`},
		{`["a","b","c"]`, `{"a":"b","c"}`},
		{`"a"],["b"`, `"c"},{"d":"e"`},
		{`{"a":1,"b":"c","d":[true]}`, `{"a":1,"b":"\ud800","d":[true]}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, text := range []string{a, "[" + a + "," + a + "," + a + "," + b + "]", `{"x":[` + a + "," + a + "," + b + "," + a + `],"y":` + b + "}"} {
			compareCompound(t, text)
		}
	})
}
