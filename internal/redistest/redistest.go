//go:build unix

// Package redistest starts real servers of Redis and Valkey for tests, on free ports: one, a cluster, or a pair with a sentinel.
// It decides nothing, is for tests with the build tag redis alone, and stands on the floor above freeport.
package redistest

import (
	"net"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
)

// startTimeout is how long a server may take to begin.
const startTimeout = time.Minute

// A Setup is how a server is run.
type Setup struct {
	// Binary is what runs, as PATH finds it. Default: redis-server.
	Binary string
	// Lasting makes it write everything to the disk before it answers, and find it when it is started anew. Else what it knew is gone then.
	Lasting bool
	// User may do what Rules say with the Password, and nobody else anything. Default: anybody may do everything.
	User, Password string
	// Rules are as ACL SETUSER takes them. Default: everything.
	Rules []string
	// TLS makes it speak nothing else, with a certificate of this authority.
	TLS *Authority
	// Args are more of its command line.
	Args []string

	conf string // makes it a sentinel, and is its configuration
}

// A Server is a redis-server of the test's own.
type Server struct {
	// Address is its host and port.
	Address string

	setup   Setup
	t       testing.TB
	process *exec.Cmd
	dir     string // where it keeps its memory
}

// Start runs redis-server, as PATH finds it, until the test is over. The test fails if it is not installed.
// If it is started again, it has lost its data.
func Start(t testing.TB) *Server {
	t.Helper()
	return Setup{}.Start(t)
}

// StartLasting starts one that writes everything to the disk before it answers, and finds it when it is started anew.
func StartLasting(t testing.TB) *Server {
	t.Helper()
	return Setup{Lasting: true}.Start(t)
}

// Start runs such a server until the test is over.
func (setup Setup) Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{Address: freeport.Address(t), setup: setup, t: t, dir: t.TempDir()}
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// Up starts a server that is down.
func (s *Server) Up() {
	s.t.Helper()
	if !s.setup.Lasting {
		s.dir = s.t.TempDir()
	}
	s.process = exec.Command(s.binary(), s.args()...)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	until(s.t, s.binary()+" does not answer", s.answers)
}

func (s *Server) binary() string {
	if s.setup.Binary == "" {
		return "redis-server"
	}
	return s.setup.Binary
}

func (s *Server) args() []string {
	_, port, _ := net.SplitHostPort(s.Address)
	plain, lasting := port, "no"
	if s.setup.TLS != nil {
		plain = "0"
	}
	if s.setup.Lasting {
		lasting = "yes"
	}
	args := []string{"--port", plain, "--bind", "127.0.0.1", "--dir", s.dir}
	if s.setup.conf != "" {
		args = append([]string{s.setup.conf, "--sentinel"}, args...)
	} else {
		args = append(args, "--save", "", "--appendonly", lasting, "--appendfsync", "always")
	}
	if tls := s.setup.TLS; tls != nil {
		args = append(args, "--tls-port", port, "--tls-ca-cert-file", tls.CA, "--tls-cert-file", tls.Certificate, "--tls-key-file", tls.Key, "--tls-replication", "yes")
	}
	if s.setup.User != "" {
		args = append(args, "--user", "default", "off", "--user", s.setup.User, "on", ">"+s.setup.Password)
		if args = append(args, s.setup.Rules...); s.setup.Rules == nil {
			args = append(args, "~*", "&*", "+@all")
		}
	}
	return append(args, s.setup.Args...)
}

// with gives a setup with more of a command line.
func (setup Setup) with(args ...string) Setup {
	setup.Args = append(slices.Clip(setup.Args), args...)
	return setup
}

// until waits for something.
func until(t testing.TB, otherwise string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal(otherwise)
		}
	}
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
