package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Claude Code does a task of two steps, reading a file and writing another, with a model of each kind of upstream.
func TestClaudeCode(t *testing.T) {
	f := servers(t)
	// Even without its own instructions and most of its tools, a request has several thousand tokens.
	long := startLlama(t, "tiny-long", "--ctx", "32768")
	g := startGateway(t, fill(`
	llm_proxy {
		upstream openai openai OPENAI
		upstream box llamacpp LLAMA
		upstream anthropic anthropic ANTHROPIC {
			api_key unused
		}
		model claude-openai openai/fake
		model claude-llamacpp box/tiny-long
		model claude-anthropic anthropic/fake
		key alice sk-llm-alice
	}`, "OPENAI", f.openai.url(), "LLAMA", long.url(), "ANTHROPIC", f.anthropic.url()))
	for _, model := range []string{"claude-openai", "claude-llamacpp", "claude-anthropic"} {
		t.Run(model, func(t *testing.T) {
			mark := g.log.mark()
			dir := t.TempDir()
			notes := filepath.Join(dir, "notes.txt")
			if err := os.WriteFile(notes, []byte("STORE these notes\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			result := claudeCode(t, dir, g.url, model, "FETCH the notes")
			if result.IsError || result.Turns != 3 || result.Result != "The notes are kept safely." {
				t.Errorf("got %+v", result)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, "KEPT.txt")); string(kept) != "kept" {
				t.Errorf("the file has %q, %v", kept, err)
			}
			requests := map[string]int{}
			for _, r := range g.accesses(t, mark, "POST /v1/messages?beta=true", 3) {
				requests[r.Request.Method+" "+r.Request.URI]++
				if r.Status != 200 {
					t.Errorf("status %d for %s %s", r.Status, r.Request.Method, r.Request.URI)
				}
			}
		})
	}
}

// claudeCode runs Claude Code without a terminal, in a directory and with settings of its own.
func claudeCode(t *testing.T, dir, base, model, prompt string) (result struct {
	IsError bool   `json:"is_error"`
	Turns   int    `json:"num_turns"`
	Result  string `json:"result"`
}) {
	t.Helper()
	command := exec.CommandContext(t.Context(), installed.claudeCode, "-p", prompt, "--output-format", "json",
		"--tools", "Read,Write", "--allowedTools", "Read,Write", "--system-prompt", "Be brief.")
	command.Dir = dir
	// Nothing of the user's environment but the path: no settings, no keys, no proxy.
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"ANTHROPIC_BASE_URL=" + base, "ANTHROPIC_AUTH_TOKEN=sk-llm-alice", "ANTHROPIC_MODEL=" + model, "ANTHROPIC_SMALL_FAST_MODEL=" + model,
		"CLAUDE_CODE_MAX_CONTEXT_TOKENS=32768",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_TELEMETRY=1", "DISABLE_ERROR_REPORTING=1", "DISABLE_AUTOUPDATER=1",
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, stderr.Bytes())
	}
	if err := json.Unmarshal(output, &result); err != nil {
		t.Fatalf("%v in %s", err, output)
	}
	return result
}

// An access is a line of Caddy's access log.
type access struct {
	Logger  string
	Status  int
	Request struct{ Method, URI string }
}

// accesses returns what the access log has after the mark, as soon as it has so many turns. A request is logged after its answer.
func (g *gateway) accesses(t *testing.T, mark int, turn string, turns int) (list []access) {
	t.Helper()
	eventually(t, soon, fmt.Sprintf("%d times %s in the access log", turns, turn), func() bool {
		list = nil
		found := 0
		for line := range bytes.Lines(g.log.since(mark)) {
			var a access
			if !bytes.HasSuffix(line, []byte("\n")) {
				break // it is still being written
			}
			if err := json.Unmarshal(line, &a); err != nil {
				t.Fatalf("%v in the log's line %s", err, line)
			}
			if a.Request.Method == "" {
				continue
			}
			if list = append(list, a); a.Request.Method+" "+a.Request.URI == turn {
				found++
			}
		}
		return found >= turns
	})
	return list
}
