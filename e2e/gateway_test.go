package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A gateway is the real Caddy with the plugin.
type gateway struct {
	*process
	url, admin string // http://127.0.0.1:PORT, and the admin endpoint's host:port
	port       int
	file       string
	env        []string
}

// startGateway runs Caddy with this directive in its one site.
func startGateway(t *testing.T, directive string) *gateway {
	t.Helper()
	port, admin := twoPorts(t)
	return startCaddy(t, port, admin, caddyfile(port, admin, directive))
}

func caddyfile(port int, admin, directive string) string {
	return fmt.Sprintf("{\n\tadmin %s\n\tgrace_period 1m\n}\n\n:%d {\n\tlog\n%s\n}\n", admin, port, directive)
}

// startCaddy runs Caddy with a whole Caddyfile, which must use these ports.
func startCaddy(t *testing.T, port int, admin, text string, env ...string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{port: port, admin: admin, file: filepath.Join(dir, "Caddyfile"), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(env, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	g.run(t)
	return g
}

func (g *gateway) run(t *testing.T) {
	t.Helper()
	var err error
	if g.process, err = launch("Caddy", g.env, installed.caddy, "run", "--adapter", "caddyfile", "--config", g.file); err != nil {
		t.Fatal(err)
	}
	g.attend(t)
	if err := g.answers(g.url + "/v1/models"); err != nil {
		t.Fatal(err)
	}
}

func twoPorts(t *testing.T) (port int, admin string) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	adminPort, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port, fmt.Sprintf("127.0.0.1:%d", adminPort)
}

// reload gives the running Caddy another directive, as an operator does.
func (g *gateway) reload(t *testing.T, directive string) {
	t.Helper()
	if err := os.WriteFile(g.file, []byte(caddyfile(g.port, g.admin, directive)), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(installed.caddy, "reload", "--adapter", "caddyfile", "--config", g.file, "--address", g.admin)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("caddy reload: %v\n%s", err, output)
	}
}

// fleetGateway is a gateway before the shared servers, with names of its own for their models; what else
// they have is served under its own name.
func fleetGateway(t *testing.T) *gateway {
	t.Helper()
	f := servers(t)
	return startGateway(t, directive(`
	llm_proxy {
		upstream ollama ollama OLLAMA
		upstream llama llamacpp LLAMA
		upstream embed llamacpp EMBED
		upstream slow llamacpp SLOW

		model ollama-chat ollama/tiny:latest
		model ollama-embed ollama/tiny-embed:latest
		model ollama-slow ollama/slow:latest
		model llama-chat llama/tiny
		model llama-embed embed/tiny-embed
		model llama-slow slow/slow
		model org/chat:v1 {
			to llama/tiny
		}
		discover
	}`, "OLLAMA", f.ollama.url(), "LLAMA", f.llama.url(), "EMBED", f.embed.url(), "SLOW", f.slow.url()))
}

// directive fills places into a text: name, value, name, value.
func directive(text string, places ...any) string {
	for i := 0; i < len(places); i += 2 {
		text = strings.ReplaceAll(text, places[i].(string), fmt.Sprint(places[i+1]))
	}
	return text
}

// chatServers are the two real servers, by the name of their quick model at fleetGateway.
var chatServers = []struct{ name, model, target string }{
	{"ollama", "ollama-chat", "ollama/tiny:latest"},
	{"llamacpp", "llama-chat", "llama/tiny"},
}
