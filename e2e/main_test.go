// Package e2e tests the gateway end to end: the Caddy binary with the plugin, a real Ollama, a real llama.cpp server, the SDKs,
// Claude Code and Codex. It imports nothing of the plugin's code; it sees what users see. APIs that cost money are imitated by fakellm.
//
// install.sh installs everything. Whatever is missing is a failure, never a skip.
package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// installed are the paths of what install.sh installed. TestMain sets them.
var installed struct {
	caddy, fakellm, ollama, python, node, nodeModules, claudeCode, codex, guidellm, models string
}

func TestMain(m *testing.M) {
	if err := errors.Join(locate(), buildFakellm()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	stopShared()
	os.Exit(code)
}

func locate() error {
	current, err := cacheDir()
	if err != nil {
		return fmt.Errorf("finding the cache: %w", err)
	}
	current = filepath.Join(current, "current")
	caddy := os.Getenv("CADDY")
	if caddy == "" {
		caddy = "../bin/caddy"
	}
	if installed.caddy, err = filepath.Abs(caddy); err != nil {
		return fmt.Errorf("finding Caddy: %w", err)
	}
	installed.ollama = filepath.Join(current, "ollama", "ollama")
	installed.python = filepath.Join(current, "python", "bin", "python")
	installed.node = filepath.Join(current, "node", "node")
	installed.nodeModules = filepath.Join(current, "node", "node_modules")
	installed.claudeCode = filepath.Join(current, "claude-code", "claude")
	installed.codex = filepath.Join(current, "codex", "codex")
	installed.guidellm = filepath.Join(current, "guidellm", "bin", "guidellm")
	installed.models = filepath.Join(current, "models")

	if _, err := os.Stat(installed.caddy); err != nil {
		return fmt.Errorf("%w; run `make build`, or set CADDY to the binary", err)
	}
	for _, path := range []string{installed.ollama, installed.python, installed.node, installed.nodeModules, installed.claudeCode, installed.codex, installed.guidellm, installed.models} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; run e2e/install.sh", err)
		}
	}
	return nil
}

// buildFakellm builds the scripted upstream of this clone. That takes seconds, and the tests and its rules always agree.
func buildFakellm() (err error) {
	if installed.fakellm, err = filepath.Abs("../bin/fakellm"); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-C", "..", "-o", installed.fakellm, "./llmproxy/internal/fakellm/cmd/fakellm")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building fakellm: %w\n%s", err, output)
	}
	return nil
}

// cacheDir returns the directory that install.sh installs into; the two must agree.
func cacheDir() (string, error) {
	if dir := os.Getenv("LLMPROXY_E2E_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "caddy-llmproxy-e2e"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "caddy-llmproxy-e2e"), err
}

// A process is a server under test. It has a process group of its own, so that Ollama's runners die with it.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when it has exited
}

// startProcess starts a command with the environment of this test and env, but without API keys.
func startProcess(name string, env []string, command string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(command, args...), log: newLogBuffer(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// With a key in the environment, a gateway without configuration would call the real OpenAI.
	p.cmd.Env = append(os.Environ(), "OPENAI_API_KEY=", "ANTHROPIC_API_KEY=")
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit status is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// signal signals the whole group. It has no effect on a process that has exited.
func (p *process) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// waitReady waits until a GET of url succeeds, or demands a key.
func (p *process) waitReady(url string) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		if answer, err := http.Get(url); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusUnauthorized {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s exited: %v\n%s", p.name, p.cmd.ProcessState, p.log.tail(8<<10))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not answer on %s\n%s", p.name, url, p.log.tail(8<<10))
}

// stopAfter kills the process when the test ends, and prints its log if the test failed.
func (p *process) stopAfter(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", p.name, p.log.tail(6<<10))
		}
	})
}

// A logBuffer keeps the output of a process and lets tests wait for a text in it.
type logBuffer struct {
	mu      sync.Mutex
	text    []byte
	written chan struct{} // closed and replaced by each write
}

func newLogBuffer() *logBuffer { return &logBuffer{written: make(chan struct{})} }

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	close(l.written)
	l.written = make(chan struct{})
	return len(b), nil
}

// mark returns the current end of the log, for later calls of waitFor and since.
func (l *logBuffer) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.text)
}

func (l *logBuffer) since(mark int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text[mark:])
}

func (l *logBuffer) tail(n int) []byte { return l.since(max(0, l.mark()-n)) }

// waitFor waits until text was written after the mark.
func (l *logBuffer) waitFor(t *testing.T, mark int, text string, limit time.Duration) {
	t.Helper()
	timeout := time.After(limit)
	for {
		l.mu.Lock()
		found, written := bytes.Contains(l.text[mark:], []byte(text)), l.written
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-written:
		case <-timeout:
			t.Fatalf("%q did not appear in the log within %v", text, limit)
		}
	}
}

// freePort returns a port that nothing listens on. It is below those that systems assign to clients, so that no connection gets it before it
// is used, also while a server is down, and is no port on which the gateway looks for servers.
func freePort() (port int, err error) {
	for range 100 {
		port = 12_000 + rand.IntN(20_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}

// eventually polls until ask returns true.
func eventually(t *testing.T, limit time.Duration, what string, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		if ask() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(50 * time.Millisecond)
	}
}
