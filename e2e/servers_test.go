package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A server is a real one that runs models, upstream of the gateway.
type server struct {
	*process
	addr string // host:port
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) port() int {
	_, port, _ := strings.Cut(s.addr, ":")
	n, _ := strconv.Atoi(port) // which this test chose
	return n
}

// runLlama starts llama.cpp's server with one of the test models under its own name.
func runLlama(model string, flags ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return runLlamaAt(port, model, flags...)
}

func runLlamaAt(port int, model string, flags ...string) (*server, error) {
	args := append([]string{"llama_server.py", filepath.Join(installed.models, model+".gguf"), "--alias", model, "--port", strconv.Itoa(port)}, flags...)
	p, err := launch("llama.cpp", nil, installed.python, args...)
	if err != nil {
		return nil, err
	}
	s := &server{process: p, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	return s, p.answers(s.url() + "/health")
}

// runOllama starts Ollama on the models that install.sh imported; it loads one at the first request for it.
func runOllama(port int, home string) (*server, error) {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := launch("Ollama", []string{
		"HOME=" + home, // it writes a key pair there
		"OLLAMA_HOST=" + addr, "OLLAMA_MODELS=" + filepath.Join(installed.models, "ollama"),
		"OLLAMA_NOPRUNE=1", "OLLAMA_NUM_PARALLEL=1", "OLLAMA_DEBUG=1",
	}, installed.ollama, "serve")
	if err != nil {
		return nil, err
	}
	s := &server{process: p, addr: addr}
	return s, p.answers(s.url() + "/api/version")
}

// startLlama starts one for this test alone, one that the test may kill.
func startLlama(t *testing.T, model string, flags ...string) *server {
	t.Helper()
	s, err := runLlama(model, flags...)
	if err != nil {
		t.Fatal(err)
	}
	s.attend(t)
	return s
}

// startOllama starts one for this test alone, with the model loaded.
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
	s.attend(t)
	s.load(t, model)
	return s
}

// load has Ollama read the model, so that a later request does not wait for it.
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

// runner is the process id of the engine that Ollama has started for a model.
func (s *server) runner(t *testing.T) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		line, _ := os.ReadFile(file) // it may have ended by now
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

// A fleet is what most tests share; no test may stop or hang any of it.
type fleet struct {
	ollama, llama, embed, slow *server
	home                       string
}

// Only the fleet outlives a test: starting it for each one would cost most of the time.
var (
	shared      fleet
	startShared = sync.OnceValue(shared.start)
)

func servers(t *testing.T) *fleet {
	t.Helper()
	if err := startShared(); err != nil {
		t.Fatal(err)
	}
	return &shared
}

func (f *fleet) start() (err error) {
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
	f.slow, err = runLlama("slow")
	return err
}

func stopFleet() {
	for _, s := range []*server{shared.ollama, shared.llama, shared.embed, shared.slow} {
		if s != nil {
			s.kill()
		}
	}
	_ = os.RemoveAll(shared.home)
}
