package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func TestServe(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- serve(ctx, ln, fakellm.New("openai", fakellm.Benchmark(fakellm.Load{Bytes: 1024}))) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ln.Addr().String()+"/v1/chat/completions", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1024 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// The output says that a request arrived and that its client has left.
func TestPrintRequests(t *testing.T) {
	t.Parallel()
	read, written := io.Pipe()
	s := httptest.NewServer(printRequests(written, fakellm.New("openai", fakellm.Steered())))
	defer s.Close()
	lines := bufio.NewScanner(read)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(`{"model":"tiny","stream":true,"messages":[{"role":"user","content":"LONG"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Error(err)
		}
		leave()
	}()
	for _, want := range []string{"received POST /v1/chat/completions", "abandoned POST /v1/chat/completions"} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	<-left
}

func TestFlags(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"-kind", "none"}); err == nil || !strings.Contains(err.Error(), "must be one of") {
		t.Errorf("got %v", err)
	}
	if err := run(t.Context(), []string{"-listen", "nowhere"}); err == nil {
		t.Error("no error")
	}
	if err := run(t.Context(), []string{"-help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got %v", err)
	}
}
