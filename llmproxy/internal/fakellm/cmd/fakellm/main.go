// Command fakellm is a fakellm server as a process of its own, for benchmarks: what it costs is not counted as the proxy's.
// It prints its address when it listens, and ends with SIGINT or SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fakellm:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fakellm", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen at; port 0 is any free one")
	kind := flags.String("kind", "openai", "what to speak as: openai, ollama, vllm, llamacpp")
	model := flags.String("model", "tiny", "the model it has")
	var load fakellm.Load
	flags.IntVar(&load.Bytes, "bytes", 1024, "size of an answer that is not a stream")
	flags.IntVar(&load.Tokens, "tokens", 200, "events with content of a stream")
	flags.DurationVar(&load.Interval, "interval", 0, "time between two of them; 0: full speed")
	flags.IntVar(&load.Batch, "batch", 1, "events between two flushes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch *kind {
	case "openai", "ollama", "vllm", "llamacpp":
	default:
		return fmt.Errorf("-kind %s: expected openai, ollama, vllm or llamacpp", *kind)
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Println("http://" + ln.Addr().String())
	return serve(ctx, ln, fakellm.New(*kind, fakellm.Models(*model), fakellm.Benchmark(load)))
}

func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
