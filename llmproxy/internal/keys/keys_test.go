package keys

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func entry(name, secret string) *Entry { return &Entry{Name: name, Secret: Digest(secret)} }

func TestFind(t *testing.T) {
	t.Parallel()
	secret, longest := NewSecret(), strings.Repeat("x", maxSecret)
	set, err := Compile([]*Entry{entry("alice", secret), entry("bob", "hunter2"), entry("dave", longest)}, []*Entry{{Name: "carol"}})
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		secret: "alice", "hunter2": "bob", "": "", "hunter": "", "hunter22": "", secret + " ": "",
		Digest("hunter2"): "", longest: "dave", longest + "x": "",
	} {
		got := ""
		if k, ok := set.Find(given); ok {
			got = k.Name
		}
		if got != want {
			t.Errorf("%.20q is %q, want %q", given, got, want)
		}
	}
	if k, ok := set.User("carol"); !ok || k.Name != "carol" {
		t.Error("carol is not found")
	}
	if _, ok := set.User("alice"); ok {
		t.Error("a key's name passes for a user")
	}
	if len(secret) < 50 || secret == NewSecret() {
		t.Errorf("%q is a weak secret", secret)
	}
}

func TestMay(t *testing.T) {
	t.Parallel()
	k := &Key{Models: []string{"local", "gpt-4*"}}
	for model, want := range map[string]bool{"local": true, "gpt-4o": true, "local2": false, "gpt-3": false, "": false} {
		if k.May(model) != want {
			t.Errorf("%q: %v", model, !want)
		}
	}
	if !(&Key{}).May("x") || !(*Key)(nil).May("x") {
		t.Error("a key without a list may not ask for everything")
	}
}

func TestExpires(t *testing.T) {
	t.Parallel()
	for text, last := range map[string]string{"2026-12-31": "2026-12-31T23:59:59Z", "2026-12-31T18:00:00+02:00": "2026-12-31T15:59:59Z"} {
		at, err := parseExpires(text)
		if err != nil {
			t.Fatal(err)
		}
		good, err := time.Parse(time.RFC3339, last)
		if err != nil {
			t.Fatal(err)
		}
		if k := (&Key{Expires: at}); k.Expired(good) || !k.Expired(good.Add(time.Second)) {
			t.Errorf("%s does not end after %s", text, last)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		keys, users []*Entry
		want        string
	}{
		{"no name", []*Entry{entry("", "a")}, nil, "invalid name"},
		{"line break in a name", []*Entry{entry("a\nb", "a")}, nil, "invalid name"},
		{"twice", []*Entry{entry("a", "1"), entry("a", "2")}, nil, `duplicate key "a"`},
		{"same secret", []*Entry{entry("a", "1"), entry("b", "1")}, nil, "have the same secret"},
		{"plain secret", []*Entry{{Name: "a", Secret: "hunter2"}}, nil, "expected sha256:"},
		{"short digest", []*Entry{{Name: "a", Secret: "sha256:abcd"}}, nil, "expected sha256:"},
		{"digits that are none", []*Entry{{Name: "a", Secret: "sha256:" + strings.Repeat("x", 64)}}, nil, "expected sha256:"},
		{"rate", []*Entry{{Name: "a", Secret: Digest("x"), Limits: Limits{Rate: []string{"much"}}}}, nil, `invalid rate "much"`},
		{"concurrent", []*Entry{{Name: "a", Secret: Digest("x"), Limits: Limits{Concurrent: -1}}}, nil, "use at least 1"},
		{"budget", []*Entry{{Name: "a", Secret: Digest("x"), Limits: Limits{Budget: []string{"$1/m"}}}}, nil, "shorter than an hour"},
		{"expires", []*Entry{{Name: "a", Secret: Digest("x"), Expires: "soon"}}, nil, "invalid expires"},
		{"priority", []*Entry{{Name: "a", Secret: Digest("x"), Priority: "critical"}}, nil, "use high, normal or low"},
		{"weight", []*Entry{{Name: "a", Secret: Digest("x"), Weight: 1001}}, nil, "use 1 to 1000"},
		{"user with a secret", nil, []*Entry{entry("a", "x")}, "another handler authenticates"},
		{"user twice", nil, []*Entry{{Name: "a"}, {Name: "a"}}, `duplicate user "a"`},
	} {
		_, err := Compile(test.keys, test.users)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	text := `{"keys":[{"name":"alice","secret":"` + Digest("x") + `","models":["local"],"rate":["60/m","1000/d"],"tokens":["100k/m"],"concurrent":4,
		"budget":["$20/30d"],"local_only":true,"priority":"high","weight":3,"expires":"2027-01-31","tags":["team-a"]}]}`
	f, err := ParseFile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	written, err := f.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseFile(written)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, again); diff != "" {
		t.Error(diff)
	}
	for name, broken := range map[string]string{
		"not JSON":            `{"keys":[`,
		"unknown member":      `{"keys":[{"name":"a","secret":"` + Digest("x") + `","ratee":["1/m"]}]}`,
		"plain secret":        `{"keys":[{"name":"a","secret":"hunter2"}]}`,
		"number for a secret": `{"keys":[{"name":"a","secret":1234567}]}`,
		"null":                `{"keys":[null]}`,
		"two":                 `{"keys":[]}{"keys":[]}`,
	} {
		if _, err := ParseFile([]byte(broken)); err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "1234567") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"$schema":"x","keys":[{"name":"alice","secret":"` + Digest("x") + `","rate":["60/m"]}]}`))
	f.Add([]byte(`{"keys":[{"name":"a","secret":"sha256:00","expires":"2026-01-01","concurrent":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := ParseFile(text)
		if err != nil {
			return
		}
		written, err := file.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFile(written); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}

// Identifying a caller must not allocate: it happens for every stranger, too.
func TestFindDoesNotAllocate(t *testing.T) {
	secret := NewSecret()
	set, err := Compile([]*Entry{entry("alice", secret)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { set.Find(secret) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The schema that is published must name every member, and no other.
func TestSchemaIsComplete(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../../docs/llm-keys.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(members(t, schema), described()); diff != "" {
		t.Error(diff)
	}
}

// Editors on Windows write a byte order mark.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	text := `{"keys":[{"name":"a","secret":"` + Digest("s") + `"}]}`
	f, err := ParseFile([]byte(mark + text))
	if err != nil || len(f.Keys) != 1 {
		t.Errorf("a file: %v", err)
	}
	if e, err := ParseEntry([]byte(mark + `{"name":"a"}`)); err != nil || e.Name != "a" {
		t.Errorf("an entry: %v", err)
	}
	for _, wrong := range []string{mark, mark + mark + text, text + mark, " " + mark + text, "\xff\xfe{\x00}\x00"} {
		if _, err := ParseFile([]byte(wrong)); err == nil {
			t.Errorf("%.20q is accepted", wrong)
		}
	}
	if _, err := ParseFile([]byte("\xff\xfe{\x00}\x00")); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Errorf("UTF-16: %v", err)
	}
}
