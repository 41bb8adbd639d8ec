package jsonspan

import "testing"

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
		{"not validated: half a surrogate pair", `"\ud83dx"`, "\ufffdx", true},
		{"not validated: short escape", `"\u12"`, "\ufffd", true},
		{"not validated: backslash at the end", `"a\"`, `a\`, true},
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

// oneByOne counts one byte at a time.
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
