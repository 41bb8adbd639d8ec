package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A side is one of the servers that are compared.
type side int

const (
	direct side = iota // the upstream itself
	baseline
	ours
	sides
)

func (s side) String() string { return [...]string{"direct", "reverse_proxy", "llm_proxy"}[s] }

// servers are the processes of one scenario: the upstream and the two proxies before it.
type servers struct {
	caddy, fakellm string // paths of the binaries
	dir            string
	noise          bool   // reverse_proxy on both sides
	profiles       string // directory for profiles of the proxies; empty: none are taken
	peer           *peer  // the gateway in llm_proxy's place; nil: llm_proxy
	scenario       *scenario
	running        [sides]*process
}

func (s *servers) start(ctx context.Context, sc *scenario) error {
	s.scenario = sc
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	u := sc.upstream
	s.running[direct], err = startProcess(ctx, s.dir, addr, s.fakellm, "-listen", addr, "-model", "m", "-interval", u.interval.String(),
		"-bytes", strconv.Itoa(u.bytes), "-tokens", strconv.Itoa(u.tokens), "-token-bytes", strconv.Itoa(u.tokenBytes),
		"-embeddings", strconv.Itoa(u.vectors), "-dimensions", strconv.Itoa(u.dimensions))
	if err != nil {
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

// restart replaces a proxy with a new process.
func (s *servers) restart(ctx context.Context, proxy side) error {
	s.running[proxy].stop()
	s.running[proxy] = nil
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	if proxy == ours && s.peer != nil {
		s.running[proxy], err = startProcess(ctx, s.dir, addr, s.peer.command(addr, s.running[direct].addr)...)
		return err
	}
	file := filepath.Join(s.dir, proxy.String()+".caddyfile")
	if err := os.WriteFile(file, []byte(s.caddyfile(proxy, addr)), 0o600); err != nil {
		return fmt.Errorf("writing a Caddyfile: %w", err)
	}
	s.running[proxy], err = startProcess(ctx, s.dir, addr, s.caddy, "run", "--adapter", "caddyfile", "--config", file)
	return err
}

// upstreamAddr stands for the upstream's address in a scenario's directives.
const upstreamAddr = "UPSTREAM"

// caddyfile differs between the proxies in the handler alone. Caddy keeps 32 idle connections per host by default; with 256
// connections, reverse_proxy would keep dialing, which is not what is to be compared.
func (s *servers) caddyfile(proxy side, addr string) string {
	sc := s.scenario
	handler := cmp.Or(sc.rival, `reverse_proxy `+upstreamAddr+` {
		transport http {
			keepalive_idle_conns_per_host 4096
		}
	}`)
	if proxy == ours && !s.noise {
		handler = `llm_proxy {
		upstream u ` + cmp.Or(sc.kind, "openai") + ` http://` + upstreamAddr + ` {` + sc.options + `
		}
		` + cmp.Or(sc.models, "model m u/m") + `
		` + sc.directives + `
	}`
	}
	metrics, log := "", ""
	if sc.observed {
		metrics = "metrics"
		log = `log {
		output file ` + filepath.Join(s.dir, proxy.String()+".access.log") + ` {
			roll_disabled
		}
	}`
	}
	return `{
	admin unix/` + s.adminSocket(proxy) + `
	persist_config off
	auto_https off
	grace_period 1s
	` + metrics + `
}

http://` + addr + ` {
	bind 127.0.0.1
	` + log + `
	` + strings.ReplaceAll(handler, upstreamAddr, s.running[direct].addr) + `
}
`
}

func (s *servers) adminSocket(proxy side) string { return filepath.Join(s.dir, proxy.String()+".sock") }

// freeAddr returns an address with a free port, below the ports that the kernel assigns, so that no connection of another
// program takes it before the server listens.
func freeAddr() (string, error) {
	var err error
	for range 50 {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("finding a free port: %w", err)
}

// A process is a server that the benchmark started, with its children.
type process struct {
	addr string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// startProcess starts a server and waits until it accepts connections on addr. Its output goes to a file in dir.
func startProcess(ctx context.Context, dir, addr string, argv ...string) (*process, error) {
	out, err := os.CreateTemp(dir, filepath.Base(argv[0])+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("creating a log file: %w", err)
	}
	defer out.Close()
	p := &process{addr: addr, log: out.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that stop reaches the children
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "TMPDIR="+dir)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	if err := p.ready(ctx); err != nil {
		p.stop()
		output, _ := os.ReadFile(p.log)
		return nil, fmt.Errorf("%s: %w; its output: %s", strings.Join(argv, " "), err, output[max(0, len(output)-2000):])
	}
	return p, nil
}

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		if c, err := net.DialTimeout("tcp", p.addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return errors.New("it exited")
		case <-ctx.Done():
			return fmt.Errorf("it does not accept connections on %s: %w", p.addr, ctx.Err())
		case <-retry.C:
		}
	}
}

// stop terminates the process, and kills it and its children if that takes too long.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// tree returns the IDs of the process and of its children, such as nginx's workers.
func (p *process) tree() []int {
	pids := []int{p.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob(procFile(pids[i], "task/*/children"))
		for _, task := range tasks {
			children, _ := os.ReadFile(task) // fails if the thread has ended
			for child := range strings.FieldsSeq(string(children)) {
				if pid, err := strconv.Atoi(child); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu returns the CPU time of all processes and threads, user and system (proc_pid_stat(5), fields 14 and 15).
func (p *process) cpu() (sum time.Duration, err error) {
	for _, pid := range p.tree() {
		stat, err := os.ReadFile(procFile(pid, "stat"))
		if err != nil {
			return 0, fmt.Errorf("reading CPU time: %w", err)
		}
		// The name, field 2, may contain spaces; it ends with the last parenthesis.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 13 {
			return 0, fmt.Errorf("reading CPU time: %q", stat)
		}
		user, err1 := strconv.Atoi(string(fields[11]))
		system, err2 := strconv.Atoi(string(fields[12]))
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("reading CPU time: %w", err)
		}
		sum += time.Duration(user+system) * tick
	}
	return sum, nil
}

// memory returns the sum of a value of /proc/PID/status in bytes: VmRSS, the resident memory, or VmHWM, its peak. A child that has ended
// has neither.
func (p *process) memory(name string) (sum float64, err error) {
	for _, pid := range p.tree() {
		status, err := os.ReadFile(procFile(pid, "status"))
		_, rest, found := strings.Cut(string(status), "\n"+name+":")
		if hasEnded := errors.Is(err, fs.ErrNotExist) || err == nil && !found; hasEnded && pid != p.cmd.Process.Pid {
			continue // a child of a moment, as Python starts them
		}
		if err != nil {
			return 0, fmt.Errorf("reading memory: %w", err)
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, fmt.Errorf("reading memory: no %s", name)
		}
		kib, err := strconv.Atoi(fields[0])
		if err != nil {
			return 0, fmt.Errorf("reading memory: %w", err)
		}
		sum += float64(kib) * 1024
	}
	return sum, nil
}

// resetPeak sets VmHWM to the current VmRSS (proc_pid_clear_refs(5)).
func (p *process) resetPeak() error {
	for _, pid := range p.tree() {
		if err := os.WriteFile(procFile(pid, "clear_refs"), []byte("5"), 0); err != nil {
			return fmt.Errorf("resetting the memory peak: %w", err)
		}
	}
	return nil
}

func procFile(pid int, file string) string { return "/proc/" + strconv.Itoa(pid) + "/" + file }
