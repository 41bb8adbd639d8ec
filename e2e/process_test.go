package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is a server under test: one process group, so that Ollama's runners die with it, and one log.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *logbook
	done chan struct{} // closed once it has ended
}

// launch starts a command. Its environment is this test's, without what would change its meaning, and env.
func launch(name string, env []string, command string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(command, args...), log: newLogbook(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A key in the environment would make a gateway without configuration call the real OpenAI.
	p.cmd.Env = append(os.Environ(), "OPENAI_API_KEY=", "ANTHROPIC_API_KEY=")
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is read from ProcessState
		close(p.done)
	}()
	return p, nil
}

// signal reaches the whole group; a process that has ended already is fine.
func (p *process) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// answers waits until a GET of url succeeds.
func (p *process) answers(url string) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		if answer, err := http.Get(url); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.log.tail(8<<10))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not answer at %s\n%s", p.name, url, p.log.tail(8<<10))
}

// attend ends the process with the test, and shows its log if the test failed.
func (p *process) attend(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", p.name, p.log.tail(6<<10))
		}
	})
}

// A logbook keeps what a process writes and wakes who waits for it.
type logbook struct {
	mu      sync.Mutex
	text    []byte
	written chan struct{} // closed and replaced by each write
}

func newLogbook() *logbook { return &logbook{written: make(chan struct{})} }

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	close(l.written)
	l.written = make(chan struct{})
	return len(b), nil
}

// mark is the place that later calls of await can start from.
func (l *logbook) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.text)
}

func (l *logbook) since(mark int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.text[mark:])
}

func (l *logbook) tail(n int) []byte { return l.since(max(0, l.mark()-n)) }

// await waits until text has been written after the mark.
func (l *logbook) await(t *testing.T, mark int, text string, limit time.Duration) {
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

// freePort finds a port that nobody listens on. Somebody could take it before it is used; nobody here does.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// eventually asks until yes, for what only asking can tell.
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
