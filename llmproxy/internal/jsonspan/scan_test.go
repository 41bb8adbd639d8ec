package jsonspan

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
		{"line separators are no control characters", "{\"a\":\"\u2028\u007f\"}"},
		{"long strings", `{"a":"` + strings.Repeat("0123456789", 100) + `","b":"` + strings.Repeat("é", 100) + `"}`},
		{"deep", nested(MaxDepth)},
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

// nested is an object with as many levels.
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
		{"white space alone", " \n", 2, "empty"},
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
		{"cut after the brace", `{`, 1, "key"},
		{"cut in a key", `{"mod`, 5, "truncated"},
		{"cut before a value", `{"a":`, 5, "value"},
		{"cut in a value", `{"a":"b`, 7, "truncated"},
		{"cut in an escape", `{"a":"b\`, 7, "truncated"},
		{"cut in a literal", `{"a":tru`, 5, "invalid value"},
		{"cut in a number", `{"a":1.`, 7, "digit"},
		{"cut before the end", `{"a":1`, 6, "closing brace"},
		{"leading zero", `{"a":01}`, 6, "comma"},
		{"two zeros", `{"a":00}`, 6, "comma"},
		{"plus", `{"a":+1}`, 5, "invalid value"},
		{"no digit before the point", `{"a":.5}`, 5, "invalid value"},
		{"no digit behind the point", `{"a":1.e5}`, 7, "digit"},
		{"no exponent", `{"a":1e}`, 7, "digit"},
		{"minus alone", `{"a":-}`, 6, "digit"},
		{"not a number", `{"a":NaN}`, 5, "invalid value"},
		{"capital literal", `{"a":True}`, 5, "invalid value"},
		{"line break in a string", "{\"a\":\"b\nc\"}", 7, "control character"},
		{"zero byte", "{\"a\":\"\x00\"}", 6, "control character"},
		{"control character behind long text", `{"a":"` + strings.Repeat("x", 40) + "\x1f\"}", 46, "control character"},
		{"unknown escape", `{"a":"\x"}`, 6, "escape"},
		{"short escape", `{"a":"\u12"}`, 6, "four hexadecimal"},
		{"bad escape", `{"a":"\u12g4"}`, 6, "four hexadecimal"},
		{"high surrogate alone", `{"a":"\ud83d"}`, 6, "surrogate"},
		{"high surrogate, then text", `{"a":"\ud83dabcdef"}`, 6, "surrogate"},
		{"two high surrogates", `{"a":"\ud83d\ud83d"}`, 6, "surrogate"},
		{"low surrogate alone", `{"a":"\ude00"}`, 6, "surrogate"},
		{"not UTF-8", "{\"a\":\"b\xff\"}", 7, "UTF-8"},
		{"not UTF-8 behind UTF-8", "{\"a\":\"éé\xc3\"}", 10, "UTF-8"},
		{"not UTF-8 behind a replacement character", "{\"a\":\"\ufffd\xff\"}", 9, "UTF-8"},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", 6, "UTF-8"},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", 6, "UTF-8"},
		{"not UTF-8 in a key", "{\"\xff\":1}", 2, "UTF-8"},
		{"comment", `{/**/"a":1}`, 1, "key"},
		{"other white space", "{\u00a0}", 1, "key"},
		{"too deep", nested(MaxDepth + 1), 5 + MaxDepth - 1, "nested"},
		{"a hundred thousand levels", strings.Repeat(`{"a":`, 100_000), 5 * MaxDepth, "nested"},
		{"a hundred thousand brackets", `{"a":` + strings.Repeat("[", 100_000), 5 + MaxDepth - 1, "nested"},
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
		t.Errorf("Get(a) = %s, %v, want the last one", value, ok)
	}
	if value, ok := o.Get("model"); !ok || string(value) != `"b"` {
		t.Errorf("Get(model) = %s, %v, want the one with an escape", value, ok)
	}
	if value, ok := o.Get("A"); ok {
		t.Errorf("Get(A) = %s, want nothing: keys are exact", value)
	}
}

// Every kind of stop must be seen at every place within the sixteen bytes that are looked at together.
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
		{"number sign, beside the quote", "#", true},
		{"brackets, beside the backslash", "[]", true},
		{"delete", "\x7f", true},
		{"not UTF-8", "\x80", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for before := range 40 {
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

// A body that is cut anywhere must be told from a whole one, and not be read past its end.
func TestScanEveryCut(t *testing.T) {
	t.Parallel()
	body := []byte(`{"text":"` + strings.Repeat(`0123456789abcd\n\u00e9\ud83d\ude00`, 5) + "é😀" + `","n":[-1.5e+10,true,false,null,{}]}`)
	var o Object
	if err := o.Scan(body); err != nil {
		t.Fatal(err)
	}
	for n := range body {
		if err := o.Scan(slices.Clip(body[:n])); err == nil {
			t.Errorf("Scan took %s for whole", body[:n])
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
