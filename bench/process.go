package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a server that the bench started.
type process struct {
	addr string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it ended
}

// startProcess starts a server and waits until addr accepts. What it says goes to a file in dir.
func startProcess(ctx context.Context, dir, addr string, argv ...string) (*process, error) {
	out, err := os.CreateTemp(dir, filepath.Base(argv[0])+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("making a log file: %w", err)
	}
	defer out.Close()
	p := &process{addr: addr, log: out.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	if err := p.ready(ctx); err != nil {
		p.stop()
		said, _ := os.ReadFile(p.log)
		return nil, fmt.Errorf("%s: %w; it said: %s", strings.Join(argv, " "), err, said[max(0, len(said)-2000):])
	}
	return p, nil
}

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if c, err := net.DialTimeout("tcp", p.addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not accept on %s: %w", p.addr, ctx.Err())
		case <-again.C:
		}
	}
}

// stop asks the process to end, and makes it if it does not.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu is the CPU time that the process has used, all threads, user and system (proc_pid_stat(5), fields 14 and 15).
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, fmt.Errorf("reading CPU time: %w", err)
	}
	// The name, field 2, may hold blanks; it ends with the last parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading CPU time: %q", stat)
	}
	user, err1 := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is a figure of /proc/PID/status in bytes: VmRSS, what is resident now, or VmHWM, the most that ever was.
func (p *process) memory(name string) (float64, error) {
	status, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	_, rest, found := strings.Cut(string(status), "\n"+name+":")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("reading memory: no %s", name)
	}
	kib, err := strconv.Atoi(fields[0])
	return float64(kib) * 1024, err
}

// forgetPeak makes VmHWM what VmRSS is now (proc_pid_clear_refs(5)).
func (p *process) forgetPeak() error {
	if err := os.WriteFile(p.proc("clear_refs"), []byte("5"), 0); err != nil {
		return fmt.Errorf("resetting the memory peak: %w", err)
	}
	return nil
}

func (p *process) proc(file string) string {
	return "/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/" + file
}
