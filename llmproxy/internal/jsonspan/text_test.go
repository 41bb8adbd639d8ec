package jsonspan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachMember(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, object string
		want         []string
		fails        bool
	}{
		{"empty", ` { } `, nil, false},
		{"several", `{"a":1, "b" : [2,{"c":3}] ,"d":null}`, []string{"a", "1", "b", `[2,{"c":3}]`, "d", "null"}, false},
		{"cut", `{"a":1,"b":`, []string{"a", "1"}, true},
		{"array", `[1]`, nil, true},
		{"null", `null`, nil, true},
		{"nothing", ``, nil, true},
		{"what stands behind is not looked at", `{"a":1}}}`, []string{"a", "1"}, false},
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
		{"cut", `[1,`, []string{"1"}, true},
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

// A visitor that has seen enough must not be made to pay for the rest, nor to fail on it.
func TestWalkStops(t *testing.T) {
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

func TestWalkDoesNotAllocate(t *testing.T) {
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

func TestString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value, want string
		ok                bool
	}{
		{"plain", `"abc"`, "abc", true},
		{"empty", `""`, "", true},
		{"escapes", `"\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00"`, "\"\\/\b\f\n\r\tAé😀", true},
		{"number", `1`, "", false},
		{"null", `null`, "", false},
		{"one quote", `"`, "", false},
		{"nothing", ``, "", false},
		{"unchecked: half a surrogate pair", `"\ud83dx"`, "\ufffdx", true},
		{"unchecked: short escape", `"\u12"`, "\ufffd", true},
		{"unchecked: backslash at the end", `"a\"`, `a\`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := String([]byte(tt.value)); got != tt.want || ok != tt.ok {
				t.Errorf("String(%s) = %q, %v, want %q, %v", tt.value, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// FuzzAddString compares counting many bytes at a time with counting them one by one.
func FuzzAddString(f *testing.F) {
	for _, text := range []string{``, `"`, `Hello there, world"`, `héß語😀 and more of it"`, `\n\"\\ \u00e9\u8a9e\ud83d\ude00"`, `cut in an escape \`, "\x80\xff\xc3\"\xe2\x82", `0123456"`, `01234567"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got TextCount
		n := got.AddString(text, 0)
		want, length := oneByOne(text)
		if got != want || n != length {
			t.Errorf("%q: %+v and a length of %d, want %+v and %d", text, got, n, want, length)
		}
	})
}

// oneByOne counts the plain way.
func oneByOne(text []byte) (count TextCount, length int) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return count, i
		case c == '\\':
			i += count.addEscape(text[i:]) - 1
		default:
			count.Bytes++
			if c&0xc0 != 0x80 {
				count.Chars++
			}
		}
	}
	return count, len(text)
}
