package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Codex does a task of two steps, reading a file and writing another, with a model of each kind of upstream: one that has the Responses
// API, one that has chat only, Anthropic's, and a real llama.cpp.
func TestCodex(t *testing.T) {
	f := servers(t)
	llama := startLlama(t, "tiny-codex", "--ctx", "32768")
	g := startGateway(t, fill(`
	llm_proxy {
		upstream openai openai OPENAI
		upstream chat deepseek OPENAI/v1
		upstream anthropic anthropic ANTHROPIC {
			api_key unused
		}
		upstream box llamacpp LLAMA
		model codex-openai openai/fake
		model codex-chat chat/fake
		model codex-anthropic anthropic/fake
		model codex-llamacpp box/tiny-codex
		model gpt-5.5 chat/fake
		key alice sk-llm-alice
	}`, "OPENAI", f.openai.url(), "ANTHROPIC", f.anthropic.url(), "LLAMA", llama.url()))
	// The settings of the example, at this gateway.
	example, err := os.ReadFile("../examples/codex/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	settings := strings.ReplaceAll(string(example), "https://llm.example.com", g.url)
	if strings.Count(settings, g.url) != 2 {
		t.Fatalf("the example has another address: %s", example)
	}
	// A request has 20 KB, and each of them is a token of the test model. Without these tools, 8 KB are left.
	few := []string{"--disable", "multi_agent", "--disable", "goals", "-c", "skills.include_instructions=false", "-c", "include_environment_context=false"}
	for _, test := range []struct {
		model    string
		settings string
		args     []string
		items    []string // what Codex did
		first    string   // the first request
	}{
		{"codex-openai", settings, nil, []string{"command_execution", "command_execution"}, "GET /v1/models?client_version=0.171.0"},
		{"codex-chat", settings, nil, []string{"command_execution", "command_execution"}, "GET /v1/models?client_version=0.171.0"},
		{"codex-anthropic", settings, nil, []string{"command_execution", "command_execution"}, "GET /v1/models?client_version=0.171.0"},
		{"codex-llamacpp", settings, few, []string{"command_execution", "command_execution"}, "GET /v1/models?client_version=0.171.0"},
		// A model that Codex knows gets its tool for patches, which is no function. At OpenAI's address, Codex opens a WebSocket first.
		{"gpt-5.5", `openai_base_url = "` + g.url + `/v1"` + "\n", nil, []string{"command_execution", "file_change"}, "GET /v1/responses"},
	} {
		t.Run(test.model, func(t *testing.T) {
			mark := g.log.mark()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("STORE these notes\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			events := codex(t, dir, test.settings, append(test.args, "-m", test.model, "FETCH the notes")...)
			var items []string
			said := ""
			for _, e := range events {
				switch {
				case e.Type == "turn.failed" || e.Type == "error":
					t.Errorf("%+v", e)
				case e.Type == "item.completed" && e.Item.Type == "agent_message":
					said = e.Item.Text
				case e.Type == "item.completed":
					items = append(items, e.Item.Type)
				}
			}
			if said != "The notes are kept safely." || !slices.Equal(items, test.items) {
				t.Errorf("it said %q, after %q", said, items)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, "KEPT.txt")); strings.TrimSpace(string(kept)) != "kept" {
				t.Errorf("the file has %q, %v", kept, err)
			}
			var requests []string
			for _, r := range g.accesses(t, mark, "POST /v1/responses", 3) {
				request := r.Request.Method + " " + r.Request.URI
				requests = append(requests, request)
				want := 200
				if request == "GET /v1/responses" {
					want = 426
				}
				if r.Status != want {
					t.Errorf("status %d for %s", r.Status, request)
				}
			}
			turns := slices.DeleteFunc(slices.Clone(requests), func(r string) bool { return r != "POST /v1/responses" })
			if len(turns) != 3 || requests[0] != test.first {
				t.Errorf("requests: %q", requests)
			}
		})
	}
}

// A codexEvent is a line of what codex exec --json writes.
type codexEvent struct {
	Type, Message string
	Error         struct{ Message string }
	Item          struct{ Type, Text, Message string }
}

// codex runs Codex without a terminal, in a directory and with settings of its own. The test runs it without a sandbox of its own, which
// a container may not allow.
func codex(t *testing.T, dir, settings string, args ...string) (events []codexEvent) {
	t.Helper()
	home := t.TempDir()
	settings = "check_for_update_on_startup = false\n" + settings + "\n[analytics]\nenabled = false\n"
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), installed.codex, append([]string{"exec", "--json", "--strict-config", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"}, args...)...)
	command.Dir = dir
	// Nothing of the user's environment but the path: no settings, no keys, no proxy.
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CODEX_HOME=" + home, "GATEWAY_KEY=sk-llm-alice", "CODEX_API_KEY=sk-llm-alice"}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(output) {
		var e codexEvent
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		events = append(events, e)
	}
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, output, stderr.Bytes())
	}
	return events
}
