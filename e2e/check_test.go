package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// checkReport is what caddy llm-check --json prints.
type checkReport struct {
	Summary  struct{ Replicas, Models, Errors, Warnings int }
	Findings []struct{ Severity, Check, Part, Problem string }
	Tuning   []struct {
		Target string
		Fits   bool
	}
}

// runCheck runs caddy llm-check for a site with this directive, and returns its report and its exit code.
func runCheck(t *testing.T, directive string, args ...string) (r checkReport, code int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	site := "{\n\tadmin off\n\tgrace_period 1m\n}\n\nhttp://127.0.0.1:8080 {\n\tbind 127.0.0.1\n" + directive + "\n}\n"
	if err := os.WriteFile(file, []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), installed.caddy, append([]string{"llm-check", "--config", file, "--json"}, args...)...)
	command.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "OLLAMA_NUM_PARALLEL=1")
	command.Stderr = &stderr
	output, err := command.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(output, &r); err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, stderr.Bytes())
	}
	return r, command.ProcessState.ExitCode()
}

const checkedDirective = `
	llm_proxy {
		upstream llama llamacpp CPP {
			max_concurrent SLOTS
		}
		upstream ollama ollama OLLAMA {
			max_concurrent 1
			params num_ctx 4096
		}
		model chat {
			to llama/tiny
			fallback ollama/MODEL
		}
		model embeddings ollama/tiny-embed
		health /health
	}`

// A correct configuration for a real llama.cpp and a real Ollama is clean.
func TestCheckIsCleanForRealServers(t *testing.T) {
	f := servers(t)
	r, code := runCheck(t, fill(checkedDirective, "CPP", f.llama.url(), "OLLAMA", f.ollama.url(), "SLOTS", 2, "MODEL", "tiny"), "--tune")
	if code != 0 || r.Summary.Errors+r.Summary.Warnings != 0 || r.Summary.Replicas != 2 || r.Summary.Models != 2 {
		t.Errorf("exit code %d: %+v", code, r)
	}
	var planned []string
	for _, p := range r.Tuning {
		if p.Fits {
			planned = append(planned, p.Target)
		}
	}
	if !slices.Equal(planned, []string{"llama/tiny", "ollama/tiny"}) {
		t.Errorf("plans for %v: %+v", planned, r.Tuning)
	}
}

// A model that Ollama does not have and slots that llama.cpp does not have are found.
func TestCheckFindsWhatRealServersLack(t *testing.T) {
	f := servers(t)
	r, code := runCheck(t, fill(checkedDirective, "CPP", f.llama.url(), "OLLAMA", f.ollama.url(), "SLOTS", 8, "MODEL", "missing"))
	found := map[string]string{}
	for _, finding := range r.Findings {
		if finding.Severity != "note" {
			found[finding.Check] += finding.Severity + " " + finding.Part
		}
	}
	if code != 4 || len(found) != 2 || found["model-missing"] != `error model "chat"` || found["slots"] != `warning upstream "llama" `+f.llama.url()+"/v1" {
		t.Errorf("exit code %d: %v", code, found)
	}
}
