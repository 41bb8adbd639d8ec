package canonjson

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
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
			t.Errorf("%.60s and %.60s have the same form", text, other)
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

// A large value counts as it is spelled, but where its member is does not matter, and no other value has its form.
func TestLargeValue(t *testing.T) {
	t.Parallel()
	of := func(text string) string {
		var o jsonspan.Object
		if err := o.Scan([]byte(text)); err != nil {
			t.Fatal(err)
		}
		var e Encoder
		got, err := e.Object(&o, func(key []byte) bool { return string(key) == "user" })
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	value := func(elements int) string { return `[` + strings.Repeat(`{"a":"1234567890","b":1},`, elements) + `1]` }
	large := value(maxCanonical / 20)
	same := of(`{"a":` + large + `,"b":1,"user":` + large + `}`)
	if other := of(` { "\u0062" : 1.0 , "\u0061" : ` + large + ` } `); other != same {
		t.Error("the order and the spelling of keys matter")
	}
	sum := sha256.Sum256([]byte(large))
	for name, text := range map[string]string{
		"white space":       `{"a":[ ` + large[1:] + `,"b":1}`,
		"another key":       `{"c":` + large + `,"b":1}`,
		"the keys swapped":  `{"b":` + large + `,"a":1}`,
		"another value":     `{"a":` + value(maxCanonical/20+1) + `,"b":1}`,
		"no value":          `{"b":1}`,
		"a second value":    `{"a":` + large + `,"a":` + large + `,"b":1}`,
		"the hash":          `{"a":"` + fmt.Sprintf("%x", sum) + `","b":1}`,
		"a string of it":    `{"a":"` + strings.ReplaceAll(large, `"`, `\"`) + `","b":1}`,
		"one level further": `{"a":[` + large + `],"b":1}`,
	} {
		if of(text) == same {
			t.Errorf("%s: the same form", name)
		}
	}
	// Below the limit, the form is canonical.
	if small := value(10); of(`{"a":`+small+`}`) != of(`{"a":[ `+small[1:]+`}`) {
		t.Error("white space matters in a small value")
	}
	// Values that would exceed the other bounds are hashed all the same.
	of(`{"a":` + strings.Repeat("[", 2*maxDepth) + large + strings.Repeat("]", 2*maxDepth) + `}`)
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

// FuzzCanon compares the form with encoding/json: two texts must have the same form exactly if they decode to the same value.
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
		if (errA == nil) != valid(a) {
			t.Fatalf("%q: error %v, valid %v", a, errA, valid(a))
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
			return // valued cannot compare them by value
		}
		if same := reflect.DeepEqual(valued(valueA), valued(stdlib(t, b))); same != bytes.Equal(formA, formB) {
			t.Fatalf("%q and %q: decoded the same: %v", a, b, same)
		}
	})
}

// hugeNumbers are those whose value takes math/big long to compute.
var hugeNumbers = regexp.MustCompile(`[eE][+-]?0*[1-9][0-9]{3}`)

// valid is like json.Valid, but also rejects what jsonspan rejects: invalid UTF-8 and half surrogate pairs.
func valid(text []byte) bool {
	s := jsonspan.Scanner{Text: text}
	if i := s.Value(s.Space(0), 0); i != jsonspan.Failed {
		s.End(i)
	}
	return s.Err() == nil
}

// A number is the value of a JSON number, or its spelling if it is too large to calculate with.
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

// valued replaces the numbers in a decoded value by their values.
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

// unique reports whether no object in a text repeats a key.
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

// A generator makes random documents, always the same from the same seed.
type generator struct {
	*rand.Rand
	changes []func() // each replaces one scalar of the document by another one
}

// value returns a random value; put replaces it in the document.
func (g *generator) value(depth int, put func(any)) any {
	switch n := g.IntN(6); {
	case depth > 0 && n < 2:
		object := map[string]any{}
		for i := range 1 + g.IntN(5) {
			k := fmt.Sprintf("key %d %s", i, strings.Repeat("ü", g.IntN(3)))
			object[k] = g.value(depth-1, func(v any) { object[k] = v })
		}
		return object
	case depth > 0 && n == 2:
		list := make([]any, 1+g.IntN(4))
		for i := range list {
			list[i] = g.value(depth-1, func(v any) { list[i] = v })
		}
		return list
	default:
		v := g.scalar()
		g.changes = append(g.changes, func() {
			for {
				if other := g.scalar(); other != v {
					put(other)
					return
				}
			}
		})
		return v
	}
}

func (g *generator) scalar() any {
	switch g.IntN(5) {
	case 0:
		return nil
	case 1:
		return g.IntN(2) == 0
	case 2:
		return float64(g.IntN(2000)-1000) / 8
	case 3:
		return strings.Repeat("long \"text\"\n", 5+g.IntN(9)) + string(rune('a'+g.IntN(26)))
	}
	return fmt.Sprint("text ", g.IntN(1000))
}

// permuted encodes a document with the keys of each object in a random order, and white space between them.
func (g *generator) permuted(v any) string {
	space := strings.Repeat(" \n", g.IntN(2))
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for k, inner := range v { // maps have no order
			members = append(members, g.permuted(k)+space+":"+g.permuted(inner))
		}
		g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		return "{" + space + strings.Join(members, space+",") + "}"
	case []any:
		var items []string
		for _, inner := range v {
			items = append(items, g.permuted(inner))
		}
		return "[" + strings.Join(items, ","+space) + space + "]"
	}
	text, _ := json.Marshal(v) // scalars
	return string(text)
}

// The order of keys does not change the form; changing any single value does.
func TestRandomDocuments(t *testing.T) {
	t.Parallel()
	var e Encoder
	form := func(text string) []byte {
		t.Helper()
		f, err := e.Value([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return bytes.Clone(f)
	}
	for seed := range uint64(500) {
		g := generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		document := map[string]any{}
		document["root"] = g.value(4, func(v any) { document["root"] = v })
		first := g.permuted(document)
		want := form(first)
		if second := g.permuted(document); !bytes.Equal(form(second), want) {
			t.Fatalf("seed %d: these have different forms:\n%s\n%s", seed, first, second)
		}
		if len(g.changes) == 0 {
			continue
		}
		g.changes[g.IntN(len(g.changes))]()
		if other := g.permuted(document); bytes.Equal(form(other), want) {
			t.Fatalf("seed %d: these have the same form:\n%s\n%s", seed, first, other)
		}
	}
}

// BenchmarkObject converts requests with one text, and with as many short messages as fit into 5 MB.
func BenchmarkObject(b *testing.B) {
	const message = `{"role":"user","content":"All right."},`
	for _, t := range []struct{ name, messages string }{
		{"1K", `{"role":"user","content":"` + strings.Repeat("All right. ", 90) + `"}`},
		{"20KMessages", strings.Repeat(message, 500) + `{}`},
		{"100K", `{"role":"user","content":"` + strings.Repeat("All right. ", 9_000) + `"}`},
		{"5MMessages", strings.Repeat(message, 126_000) + `{}`},
	} {
		b.Run(t.name, func(b *testing.B) {
			var o jsonspan.Object
			if err := o.Scan([]byte(`{"model":"m","messages":[` + t.messages + `],"temperature":0}`)); err != nil {
				b.Fatal(err)
			}
			var e Encoder
			b.SetBytes(int64(len(o.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Object(&o, func([]byte) bool { return false }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
