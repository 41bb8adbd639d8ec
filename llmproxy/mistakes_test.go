package llmproxy

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"
)

const mistakesFile = "testdata/mistakes.txt"

var position = regexp.MustCompile(`, at Caddyfile:\d+$`)

// Each mistake that a person makes in a Caddyfile has its message: what is wrong, what to do, and on which line, without the path of
// modules before it. Messages never contain secrets, which are all called hunter2 in the file.
func TestMistakes(t *testing.T) {
	t.Setenv("EMPTY", "")
	t.Setenv("SHORT", "abc")
	t.Setenv("MULTILINE", "hunter2\nhunter2")
	t.Setenv("PUBLIC", "http://gpu.example.com:8000")
	t.Setenv("QUOTED", "Bearer hunter2")
	text := read(t, mistakesFile)
	head, _, _ := strings.Cut(text, "\n== ")
	mistakes := strings.Split(text, "\n== ")[1:]
	if len(mistakes) < 120 {
		t.Errorf("only %d mistakes", len(mistakes))
	}
	names := map[string]bool{}
	for i, m := range mistakes {
		name, rest, _ := strings.Cut(m, "\n")
		body, want, _ := strings.Cut(rest, "\n--\n")
		if names[name] {
			t.Errorf("two mistakes are named %q", name)
		}
		names[name] = true
		got := messageFor(t, name, body)
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: the message has the secret: %s", name, got)
		}
		for line := range strings.Lines(got) {
			if !position.MatchString(strings.TrimSuffix(line, "\n")) && !strings.HasPrefix(line, " ") {
				t.Errorf("%s: no position: %s", name, line)
			}
		}
		if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" && !*update {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		mistakes[i] = name + "\n" + body + "\n--\n" + got + "\n"
	}
	if *update {
		if err := os.WriteFile(mistakesFile, []byte(head+"\n== "+strings.Join(mistakes, "\n== ")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// messageFor returns what a person reads who loads a Caddyfile: the error, or else the warnings.
func messageFor(t *testing.T, name, body string) string {
	t.Helper()
	source := "{\n\tauto_https off\n}\n\n:8080 {\n\tllm_proxy {\n" + body + "\n\t}\n}\n"
	if strings.HasPrefix(body, "\tllm_proxy") {
		source = "{\n\tauto_https off\n}\n\n:8080 {\n" + body + "\n}\n"
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return strings.TrimPrefix(err.Error(), "parsing caddyfile tokens for 'llm_proxy': ") // errors of syntax do not have it
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	c.Admin = &caddy.AdminConfig{Disabled: true}
	if err := caddy.Validate(&c); err != nil {
		path, message, _ := strings.Cut(err.Error(), "\n")
		if !strings.HasSuffix(path, "provision http.handlers.llm_proxy: ") {
			t.Errorf("%s: got %v", name, err)
		}
		return message
	}
	return warningsFor(t, config)
}

func warningsFor(t *testing.T, config []byte) string {
	t.Helper()
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		t.Fatal(err)
	}
	handler := findHandler(tree).(map[string]any)
	delete(handler, "handler")
	text, err := json.Marshal(handler)
	if err != nil {
		t.Fatal(err)
	}
	var h Handler
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	var out []string
	lines := adaptedLines.recall(&h)
	for _, w := range h.warnings(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)) {
		out = append(out, "warning: "+lines.locate(w).Error())
	}
	return strings.Join(out, "\n")
}
