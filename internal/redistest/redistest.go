//go:build unix

// Package redistest starts a real redis-server for tests, on a free port. It decides nothing, is for tests
// with the build tag redis alone, and stands on the lowest floor.
package redistest

import (
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to begin.
const patience = 10 * time.Second

// A Server is a redis-server of the test's own.
type Server struct {
	// Address is its host and port.
	Address string
	t       testing.TB
	process *exec.Cmd
	dir     string // where it keeps its memory; empty for nowhere
}

// Start runs redis-server, as PATH finds it, until the test is over. The test fails where there is none.
// What it knew is gone when it is started anew.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, "")
}

// StartLasting starts one that writes everything to the disk before it answers, and finds it when it is started anew.
func StartLasting(t testing.TB) *Server {
	t.Helper()
	return start(t, t.TempDir())
}

func start(t testing.TB, dir string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, Address: l.Addr().String()}
	l.Close()
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// URL is how the server is configured.
func (s *Server) URL() string { return "redis://" + s.Address }

// Up starts a server that is down.
func (s *Server) Up() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.Address)
	dir, lasting := s.dir, "yes"
	if dir == "" {
		dir, lasting = s.t.TempDir(), "no"
	}
	s.process = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", lasting, "--appendfsync", "always", "--dir", dir)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.answers() {
		select {
		case <-tick.C:
		case <-limit.C:
			s.t.Fatal("redis-server does not answer")
		}
	}
}

func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 5)
	n, _ := conn.Read(answer)
	return string(answer[:n]) == "+PONG"
}

// Down kills the server. It may be down already.
func (s *Server) Down() {
	s.process.Process.Kill()
	s.process.Wait()
}

// Hang stops the server in the middle of what it does: connections stay open, and nobody answers.
func (s *Server) Hang() { s.signal(syscall.SIGSTOP) }

// GoOn ends Hang.
func (s *Server) GoOn() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
