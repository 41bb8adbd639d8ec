package draft

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestString(t *testing.T) {
	t.Parallel()
	file := new(Block)
	file.Gap()
	file.Comment("One\nTwo with {$HOME}\r\x1b[0m and\tmore")
	file.Block().Line("admin", "off")
	file.Gap()
	file.Gap()
	site := file.Block(":4000")
	up := site.Block("upstream", "gpu", "ollama", "http://127.0.0.1:11434")
	up.Line("api_key", "{env.KEY}")
	up.Line("params", "stop", `["a", "b"]`)
	up.Line("header_up", "X", "a `quoted\" word")
	up.Gap()
	site.Block("model", "m", "gpu/x y")
	more := new(Block)
	more.Block("limit").Line("rate", "1/m")
	site.CommentOut(more)
	site.Comment("- " + strings.Repeat("word ", 30))
	want := "# One\n# Two with { $HOME} [0m and more\n{\n\tadmin off\n}\n\n:4000 {\n\tupstream gpu ollama http://127.0.0.1:11434 {\n\t\tapi_key {env.KEY}\n" +
		"\t\tparams stop `[\"a\", \"b\"]`\n\t\theader_up X \"a `quoted\\\" word\"\n\t}\n\tmodel m `gpu/x y`\n" +
		"\t# limit {\n\t# \trate 1/m\n\t# }\n" +
		"\t# - " + strings.TrimSpace(strings.Repeat("word ", 21)) + "\n\t#   " + strings.TrimSpace(strings.Repeat("word ", 9)) + "\n}\n"
	if diff := cmp.Diff(want, file.String()); diff != "" {
		t.Error(diff)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"gpt-4o": "gpt-4o", "": `""`, "a b": "`a b`", "#x": "`#x`", "{env.A}": "{env.A}", "sk-{env.A}-{file./x}": "sk-{env.A}-{file./x}", "Bearer {env.A}": "`Bearer {env.A}`",
		"{": "`{`", "}": "`}`", "{}": "`{}`", `{"a":1}`: "`{\"a\":1}`", "a`b": "\"a`b\"", "<<EOF": "`<<EOF`", "a\nb": "`a\nb`", "é\u2028b": "`é\u2028b`", "\u00a0": "`\u00a0`",
	} {
		if got := Token(word); got != want {
			t.Errorf("Token(%q) = %s, want %s", word, got, want)
		}
	}
}
