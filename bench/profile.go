package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// profile writes a CPU profile of the side's process to the directory while work runs, and then what was allocated, once for
// each scenario and side. What is measured at the same time carries the profiler's own cost.
func (p *pass) profile(ctx context.Context, lasting time.Duration) (wait func() error) {
	s := p.servers
	if s.profiles == "" || p.side == direct {
		return func() error { return nil }
	}
	socket, name := s.adminSocket(p.side), filepath.Join(s.profiles, p.scenario.name+"-"+p.side.String())
	done := make(chan error, 1)
	go func() {
		seconds := strconv.Itoa(max(1, int(lasting.Seconds())))
		done <- errors.Join(
			fetchProfile(ctx, socket, "profile?seconds="+seconds, name+".pprof"),
			fetchProfile(ctx, socket, "allocs", name+".allocs.pprof"),
		)
	}()
	return func() error { return <-done }
}

func fetchProfile(ctx context.Context, socket, which, file string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/debug/pprof/"+which, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profiling: %s", res.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, res.Body); err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	return nil
}
