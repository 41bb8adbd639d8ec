package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A server is a real upstream that runs models.
type server struct {
	*process
	addr string // host:port
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) port() int {
	_, port, _ := strings.Cut(s.addr, ":")
	n, _ := strconv.Atoi(port) // cannot fail: this test chose it
	return n
}

// runLlama starts llama.cpp's server with one of the test models.
func runLlama(model string, flags ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return runLlamaAt(port, model, flags...)
}

func runLlamaAt(port int, model string, flags ...string) (*server, error) {
	args := append([]string{"llama_server.py", filepath.Join(installed.models, model+".gguf"), "--alias", model, "--port", strconv.Itoa(port)}, flags...)
	p, err := startProcess("llama.cpp", nil, installed.python, args...)
	if err != nil {
		return nil, err
	}
	s := &server{process: p, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	return s, p.waitReady(s.url() + "/health")
}

// runOllama starts Ollama with the models that install.sh imported. It loads a model at the first request for it.
func runOllama(port int, home string) (*server, error) {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := startProcess("Ollama", []string{
		"HOME=" + home, // it writes a key pair there
		"OLLAMA_HOST=" + addr, "OLLAMA_MODELS=" + filepath.Join(installed.models, "ollama"),
		"OLLAMA_NOPRUNE=1", "OLLAMA_NUM_PARALLEL=1", "OLLAMA_DEBUG=1",
	}, installed.ollama, "serve")
	if err != nil {
		return nil, err
	}
	s := &server{process: p, addr: addr}
	return s, p.waitReady(s.url() + "/api/version")
}

// runFake starts an imitation of OpenAI's or Anthropic's API. Its model, fake, follows the same words in a prompt as the test models.
func runFake(kind string) (*server, error) { return runFakeOf(kind, "-steered") }

// runFakeOf starts an imitated API with these flags. Its model is called fake.
func runFakeOf(kind string, flags ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := startProcess("fakellm", nil, installed.fakellm, append(flags, "-kind", kind, "-model", "fake", "-listen", addr)...)
	if err != nil {
		return nil, err
	}
	s := &server{process: p, addr: addr}
	return s, p.waitReady(s.url() + "/v1/models")
}

// startFake starts an imitated API that only this test uses.
func startFake(t *testing.T, kind string) *server {
	t.Helper()
	s, err := runFake(kind)
	if err != nil {
		t.Fatal(err)
	}
	s.stopAfter(t)
	return s
}

// startLlama starts a llama.cpp server that only this test uses and may kill.
func startLlama(t *testing.T, model string, flags ...string) *server {
	t.Helper()
	s, err := runLlama(model, flags...)
	if err != nil {
		t.Fatal(err)
	}
	s.stopAfter(t)
	return s
}

// startOllama starts an Ollama that only this test uses and may kill, and loads the model.
func startOllama(t *testing.T, model string) *server {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s, err := runOllama(port, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.stopAfter(t)
	s.load(t, model)
	return s
}

// load makes Ollama load the model, so that a later request does not have to wait for it.
func (s *server) load(t *testing.T, model string) {
	t.Helper()
	answer, err := http.Post(s.url()+"/api/generate", "application/json", strings.NewReader(`{"model":"`+model+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("loading %s: %s", model, answer.Status)
	}
}

// runner returns the process id of the engine that Ollama started for a model.
func (s *server) runner(t *testing.T) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		line, _ := os.ReadFile(file) // it may have exited
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || !strings.Contains(string(line), "\x00runner\x00") {
			continue
		}
		if group, err := syscall.Getpgid(pid); err == nil && group == s.cmd.Process.Pid {
			return pid
		}
	}
	t.Fatal("Ollama has no runner")
	return 0
}

// A serverSet is the servers that most tests share. No test may stop or suspend one of them.
type serverSet struct {
	ollama, llama, embed, slow *server
	openai, anthropic          *server // imitated
	home                       string
}

// The shared servers outlive the tests, because starting them for each test would take most of the time.
var (
	shared      serverSet
	startShared = sync.OnceValue(shared.start)
)

func servers(t *testing.T) *serverSet {
	t.Helper()
	if err := startShared(); err != nil {
		t.Fatal(err)
	}
	return &shared
}

func (f *serverSet) start() (err error) {
	if f.home, err = os.MkdirTemp("", "e2e-ollama-"); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	if f.ollama, err = runOllama(port, f.home); err != nil {
		return err
	}
	if f.llama, err = runLlama("tiny", "--parallel", "2"); err != nil { // 2048 tokens of context each
		return err
	}
	if f.embed, err = runLlama("tiny-embed", "--embeddings", "--ctx", "512"); err != nil {
		return err
	}
	if f.slow, err = runLlama("slow"); err != nil {
		return err
	}
	if f.openai, err = runFake("openai"); err != nil {
		return err
	}
	f.anthropic, err = runFake("anthropic")
	return err
}

func stopShared() {
	for _, s := range []*server{shared.ollama, shared.llama, shared.embed, shared.slow, shared.openai, shared.anthropic} {
		if s != nil {
			s.kill()
		}
	}
	_ = os.RemoveAll(shared.home)
}

// A gateway is a Caddy process with the plugin.
type gateway struct {
	*process
	url, admin string // http://127.0.0.1:PORT, and the admin endpoint's host:port
	port       int
	file       string
	env        []string
}

// startGateway runs Caddy with one site that has this directive.
func startGateway(t *testing.T, directive string) *gateway {
	t.Helper()
	port, admin := twoPorts(t)
	g := startCaddy(t, port, admin, caddyfile(port, admin, directive))
	g.log.waitFor(t, 0, `"uri":"/v1/models"`, soon) // the request that found it ready; it is logged after its answer, and no test's own
	return g
}

func caddyfile(port int, admin, directive string) string {
	return fmt.Sprintf("{\n\tadmin %s\n\tgrace_period 1m\n}\n\n:%d {\n\tlog\n%s\n}\n", admin, port, directive)
}

// startCaddy runs Caddy with a complete Caddyfile, which must use these ports.
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
	if g.process, err = startProcess("Caddy", g.env, installed.caddy, "run", "--adapter", "caddyfile", "--config", g.file); err != nil {
		t.Fatal(err)
	}
	g.stopAfter(t)
	if err := g.waitReady(g.url + "/v1/models"); err != nil {
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

// reload replaces the directive of the running Caddy by the command that operators use.
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

// sharedGateway starts a gateway for the shared servers, with configured names for some of their models; it serves the others
// under their own names.
func sharedGateway(t *testing.T) *gateway {
	t.Helper()
	f := servers(t)
	return startGateway(t, fill(`
	llm_proxy {
		upstream ollama ollama OLLAMA
		upstream llama llamacpp LLAMA
		upstream embed llamacpp EMBED
		upstream slow llamacpp SLOW
		upstream openai openai OPENAI
		upstream chat deepseek OPENAI
		upstream anthropic anthropic ANTHROPIC {
			api_key unused
		}

		model ollama-chat ollama/tiny:latest
		model ollama-embed ollama/tiny-embed:latest
		model ollama-slow ollama/slow:latest
		model llama-chat llama/tiny
		model llama-embed embed/tiny-embed
		model llama-slow slow/slow
		model openai-chat openai/fake
		model chat-only chat/fake
		model claude-chat anthropic/fake
		model org/chat:v1 {
			to llama/tiny
		}
		discover
	}`, "OLLAMA", f.ollama.url(), "LLAMA", f.llama.url(), "EMBED", f.embed.url(), "SLOW", f.slow.url(), "OPENAI", f.openai.url(), "ANTHROPIC", f.anthropic.url()))
}

// fill replaces placeholders in a text, given as pairs of name and value.
func fill(text string, pairs ...any) string {
	for i := 0; i < len(pairs); i += 2 {
		text = strings.ReplaceAll(text, pairs[i].(string), fmt.Sprint(pairs[i+1]))
	}
	return text
}

// chatServers are the two shared servers and the names of their fast models at sharedGateway.
var chatServers = []struct{ name, model, target string }{
	{"ollama", "ollama-chat", "ollama/tiny:latest"},
	{"llamacpp", "llama-chat", "llama/tiny"},
}

// translated is a model whose upstream has Anthropic's API, so that the gateway translates for the clients of OpenAI's.
var translated = struct{ name, model, target string }{"anthropic", "claude-chat", "anthropic/fake"}
