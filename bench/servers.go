package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A side is what a pass is measured at.
type side int

const (
	direct side = iota // the upstream itself
	baseline
	ours
	sides
)

func (s side) String() string { return [...]string{"direct", "reverse_proxy", "llm_proxy"}[s] }

// servers are the processes of one scenario: the upstream, and both proxies in front of it.
type servers struct {
	caddy, fakellm string // paths of the binaries
	dir            string
	noise          bool   // reverse_proxy on both sides
	cache          bool   // llm_proxy has one
	profiles       string // where CPU profiles of the proxies go; empty: none are taken
	running        [sides]*process
}

// options is how the upstream answers.
type options struct {
	bytes    int // of the content of a whole answer
	tokens   int // of a stream
	interval time.Duration
}

// lasting is how long a stream takes.
func (o options) lasting() time.Duration { return time.Duration(o.tokens) * o.interval }

func (s *servers) start(ctx context.Context, o options) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	argv := []string{s.fakellm, "-listen", addr, "-model", "m", "-interval", o.interval.String()}
	if o.bytes > 0 {
		argv = append(argv, "-bytes", strconv.Itoa(o.bytes))
	}
	if o.tokens > 0 {
		argv = append(argv, "-tokens", strconv.Itoa(o.tokens))
	}
	if s.running[direct], err = startProcess(ctx, s.dir, addr, argv...); err != nil {
		return err
	}
	for _, proxy := range []side{baseline, ours} {
		if err := s.restart(ctx, proxy); err != nil {
			return err
		}
	}
	return nil
}

func (s *servers) stop() {
	for i := range s.running {
		s.running[i].stop()
		s.running[i] = nil
	}
}

// restart puts a new process in a proxy's place: one that has never been busy.
func (s *servers) restart(ctx context.Context, proxy side) error {
	s.running[proxy].stop()
	s.running[proxy] = nil
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, proxy.String()+".caddyfile")
	if err := os.WriteFile(file, []byte(s.caddyfile(proxy, addr)), 0o600); err != nil {
		return fmt.Errorf("writing a Caddyfile: %w", err)
	}
	s.running[proxy], err = startProcess(ctx, s.dir, addr, s.caddy, "run", "--adapter", "caddyfile", "--config", file)
	return err
}

// caddyfile differs between the sides by the handler alone. Caddy's default of 32 idle connections per host would make
// reverse_proxy dial anew at 256 connections, which is not what is to be compared.
func (s *servers) caddyfile(proxy side, addr string) string {
	upstream := s.running[direct].addr
	handler := `reverse_proxy ` + upstream + ` {
		transport http {
			keepalive_idle_conns_per_host 512
		}
	}`
	if proxy == ours && !s.noise {
		handler = `llm_proxy {
		upstream u openai http://` + upstream + `
		model m u/m
		` + s.cacheLine() + `
	}`
	}
	admin := "off"
	if s.profiles != "" {
		admin = "unix/" + s.adminSocket(proxy)
	}
	return `{
	admin ` + admin + `
	persist_config off
	auto_https off
	grace_period 1s
}

http://` + addr + ` {
	bind 127.0.0.1
	` + handler + `
}
`
}

func (s *servers) cacheLine() string {
	if s.cache {
		return "cache"
	}
	return ""
}

func (s *servers) adminSocket(proxy side) string { return filepath.Join(s.dir, proxy.String()+".sock") }

// freeAddr looks for a port that nobody listens at, below those that the kernel gives away: or another program's connection
// might have it before the server that is started does.
func freeAddr() (string, error) {
	var err error
	for range 50 {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("looking for a free port: %w", err)
}
