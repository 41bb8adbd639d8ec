package canonjson

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func form(t *testing.T, text string) string {
	t.Helper()
	var e Encoder
	got, err := e.Value([]byte(text))
	if err != nil {
		t.Fatalf("%.100s: %v", text, err)
	}
	return string(got)
}

func TestSameForm(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a long text\\n", 200)
	for _, test := range []struct{ name, a, b string }{
		{"white space", `{"a":[1,2]}`, " {\n\"a\" : [ 1 ,\t2 ] } "},
		{"order of keys", `{"a":1,"b":{"c":2,"d":3}}`, `{"b":{"d":3,"c":2},"a":1}`},
		{"order of keys of one length", `{"ab":1,"aa":2,"ac":3}`, `{"ac":3,"aa":2,"ab":1}`},
		{"escapes", `"\u0041\/\ud83d\ude00"`, `"A/😀"`},
		{"escaped keys", `{"\u0061":1}`, `{"a":1}`},
		{"many escapes of few letters", `"` + strings.Repeat(`\u0041`, 60) + `"`, `"` + strings.Repeat("A", 60) + `"`},
		{"long strings", `"` + long + `"`, `"` + strings.ReplaceAll(long, `\n`, `\u000a`) + `"`},
		{"whole numbers", `1`, `1.0`},
		{"exponents", `1500`, `1.5E+3`},
		{"small numbers", `0.0015`, `15e-4`},
		{"leading zeros of an exponent", `1e2`, `1e0000000000000000000000002`},
		{"zeros", `0`, `-0.000e9`},
		{"a zero of any power", `0`, `0e99999999999999999999999`},
		{"long numbers", `123456789012345678901234567890`, `12345678901234567890123456789e1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if a, b := form(t, test.a), form(t, test.b); a != b {
				t.Errorf("%q\n%q", a, b)
			}
		})
	}
}

func TestDifferentForm(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	texts := []string{
		`null`, `true`, `false`, `""`, `"null"`, `0`, `"0"`, `1`, `-1`, `10`, `0.1`, `1e300`, `1e-300`, `1e9999999999999999999999`, `1e9999999999999999999998`,
		`-1e9999999999999999999999`, `123456789012345678901234567890`, `123456789012345678901234567891`, `[]`, `{}`, `[[]]`, `[[],[]]`, `[{}]`, `[1,2]`, `[12]`, `[2,1]`, `["a","b"]`, `["ab"]`,
		`["a",["b"]]`, `[["a"],"b"]`, `{"a":1}`, `{"a":"1"}`, `{"a":null}`, `{"b":1}`, `{"a":1,"b":2}`, `{"a":2,"b":1}`, `{"a":{"b":1}}`, `{"a":1,"a":2}`, `{"a":2,"a":1}`, `{"a":2}`,
		`{"a":{"b":1},"c":2}`, `{"a":{"b":1,"c":2}}`, `[[1],2]`, `[[1,2]]`,
		`{"A":1}`, `"` + long + `"`, `"` + long + `x"`, `"` + long + `y"`, `"\u0000"`, `"é"`, `"e\u0301"`,
	}
	seen := map[string]string{}
	for _, text := range texts {
		f := form(t, text)
		if other, ok := seen[f]; ok {
			t.Errorf("%.60s and %.60s are taken for the same", text, other)
		}
		seen[f] = text
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	skip := func(key []byte) bool { return string(key) == "stream" || string(key) == "user" }
	of := func(text string) string {
		var o jsonspan.Object
		if err := o.Scan([]byte(text)); err != nil {
			t.Fatal(err)
		}
		var e Encoder
		got, err := e.Object(&o, skip)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	same := of(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
	for _, text := range []string{
		`{"stream":true,"model":"m","user":"u","messages":[{"content":"hi","role":"user"}]}`,
		`{"messages":[{"role":"user","content":"hi"}],"model":"m"}`,
	} {
		if of(text) != same {
			t.Errorf("%s has another form", text)
		}
	}
	for _, text := range []string{
		`{"model":"m","messages":[{"role":"user","content":"hi","user":"u"}]}`,
		`{"Stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		`{"m":0,"model":"m","messages":[{"role":"user","content":"hi"}]}`,
	} {
		if of(text) == same {
			t.Errorf("%s has the same form", text)
		}
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	members := "{" + strings.Repeat(`"a":1,`, maxMembers+1) + `"b":1}`
	for name, text := range map[string]string{
		"depth":   strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2),
		"members": members,
		"size":    "[" + strings.Repeat("1234567890,", maxSize/10) + "1]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e Encoder
			if _, err := e.Value([]byte(text)); err != ErrTooLarge {
				t.Errorf("error %v", err)
			}
		})
	}
}

// FuzzCanon holds the form against encoding/json: what it decodes to the same has the same form, and nothing else has.
func FuzzCanon(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"a":1,"b":[true,null,"x"]}`, `{"b":[true,null,"x"],"a":1.0}`},
		{`"\ud83d\ude00"`, `"😀"`}, {`1e5`, `100000`}, {`-0`, `0`}, {`[1]`, `[1,1]`}, {`{"a":{}}`, `{"a":[]}`},
		{`"` + strings.Repeat(`a\n`, 60) + `"`, `"` + strings.Repeat("b", 130) + `"`},
	} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var e Encoder
		formA, errA := e.Value(a)
		formA = bytes.Clone(formA)
		if errA == ErrTooLarge {
			return
		}
		if (errA == nil) != (validHere(a)) {
			t.Fatalf("%q: error %v, valid %v", a, errA, validHere(a))
		}
		if errA != nil || !unique(a) {
			return
		}
		valueA := stdlib(t, a)
		again, err := json.Marshal(valueA)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := e.Value(again); err != nil || !bytes.Equal(other, formA) {
			t.Fatalf("%q and its copy %q differ: %v", a, again, err)
		}
		formB, errB := e.Value(b)
		if errB != nil || !unique(b) {
			return
		}
		if hugeNumbers.Match(a) || hugeNumbers.Match(b) {
			return // compared here only where the spelling is the same
		}
		if same := reflect.DeepEqual(valued(valueA), valued(stdlib(t, b))); same != bytes.Equal(formA, formB) {
			t.Fatalf("%q and %q: decoded the same: %v", a, b, same)
		}
	})
}

// hugeNumbers are those whose value math/big would take long to work out.
var hugeNumbers = regexp.MustCompile(`[eE][+-]?0*[1-9][0-9]{3}`)

// validHere is json.Valid, but also refuses what jsonspan refuses: bytes that are not UTF-8, and half surrogate pairs.
func validHere(text []byte) bool {
	s := jsonspan.Scanner{Text: text}
	if i := s.Value(s.Space(0), 0); i != jsonspan.Failed {
		s.End(i)
	}
	return s.Err() == nil
}

// A number by its value; of one that is too large to calculate with, its spelling.
type number string

func stdlib(t *testing.T, text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// valued puts numbers in by their value.
func valued(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = valued(v[k])
		}
	case []any:
		for i := range v {
			v[i] = valued(v[i])
		}
	case json.Number:
		mantissa, power, ok := splitExponent([]byte(v))
		switch {
		case strings.Trim(string(mantissa), "-0.") == "":
			return number("0")
		case !ok || power > 9999 || power < -9999:
			return number("as spelled: " + v)
		}
		r, _ := new(big.Rat).SetString(string(v))
		return number(r.RatString())
	}
	return v
}

func unique(text []byte) bool {
	ok := true
	var walk func([]byte)
	walk = func(value []byte) {
		keys := map[string]bool{}
		_ = jsonspan.EachMember(value, func(key, inner []byte) bool {
			k := string(jsonspan.Unescape(key))
			ok = ok && !keys[k]
			keys[k] = true
			walk(inner)
			return true
		})
		_ = jsonspan.EachElement(value, func(inner []byte) bool { walk(inner); return true })
	}
	walk(text)
	return ok
}
