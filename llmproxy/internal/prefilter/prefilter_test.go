package prefilter

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeeded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression string
		want       []string
	}{
		{`customer`, []string{"customer"}},
		{`(?i)patient|diagnosis|date of birth`, []string{"patient", "iagno", "ate of birth"}},
		{`(?i)customer|password|confidential`, []string{"tomer", "word", "confidential"}},
		{`\b(refund|invoice)s?\b.*\d+`, []string{"refund", "invoice"}},
		{`a+(bc)+d?`, []string{"bc"}},
		{`(?:geheim){2,3}`, []string{"geheim"}},
		{`Straße|Grüße`, []string{"straße", "grüße"}},
		{`(?i)straße`, []string{"tra"}},
		{`secret|.*`, nil},
		{`(secret)?`, nil},
		{`[0-9]{16}`, nil},
		{`(?i)k`, nil},
		{``, nil},
	} {
		tree, err := syntax.Parse(tt.expression, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, word := range needed(tree) {
			got = append(got, strings.ToLower(word))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.expression, diff)
		}
	}
}

// Regexp decides as package regexp does, whatever the expression and the text.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{`(?i)customer|password`, "My PASSWORD is 1234"}, {`(?i)customer|password`, "My PAſSWORD"}, {`(?i)kelvin`, "300 \u212Aelvin"}, {`(?i)straße`, "STRASSE STRAẞE"},
		{`a(bc|de)+f`, "abcdef"}, {`^x.{3}yy$`, "xabcyy"}, {"(?s)ab.cd", "zzab\ncd"}, {"\ufffdab", "\xffab"}, {`\x{FFFD}b`, "\xffb"}, {`(?i:AB)cD`, "abcD"}, {`ab{0}cd`, "acd"}, {`[[:alpha:]]{2}ing`, "sing"},
		{`(?i)[[:lower:]]x@`, "YX@ `"}, {`{}{}`, "[][]"}, {`@@`, "``"},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, expression string, text []byte) {
		want, err := regexp.Compile(expression)
		if err != nil {
			return
		}
		got, err := Compile(expression)
		if err != nil {
			t.Fatalf("%q: %v", expression, err)
		}
		for _, text := range [][]byte{text, []byte(expression), append([]byte(expression), text...), append(text[:len(text):len(text)], expression...)} {
			if got.Match(text) != want.Match(text) {
				t.Errorf("%q in %q: %v, want %v; needed: %+v", expression, text, got.Match(text), want.Match(text), got.needed)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	const sentence = "The quick brown fox jumps over the lazy dog. "
	const expression = `(?i)customer|password|confidential`
	filtered, err := Compile(expression)
	if err != nil {
		b.Fatal(err)
	}
	plain := regexp.MustCompile(expression)
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1 KB", 1 << 10}, {"16 KB", 16 << 10}} {
		text := []byte(strings.Repeat(sentence, size.bytes/len(sentence)))
		for name, match := range map[string]func([]byte) bool{"filtered": filtered.Match, "plain": plain.Match} {
			b.Run(size.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					if match(text) {
						b.Fatal("matched")
					}
				}
			})
		}
	}
}
