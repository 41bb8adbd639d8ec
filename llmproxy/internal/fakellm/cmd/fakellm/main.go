// Command fakellm runs a fakellm server in its own process: for benchmarks, so that its CPU time does not count as the proxy's, and for
// the end-to-end tests, where -steered lets the prompt decide about the answer. It prints its URL when it listens, and exits on SIGINT
// or SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
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
	kinds := strings.Join(fakellm.Kinds(), ", ")
	flags := flag.NewFlagSet("fakellm", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on; port 0 picks a free one")
	kind := flags.String("kind", "openai", "server to imitate: "+kinds)
	model := flags.String("model", "tiny", "name of the model")
	steered := flags.Bool("steered", false, "let words in the prompt decide about the answer, and print when requests arrive and when their clients leave; the flags below have no effect")
	var load fakellm.Load
	flags.IntVar(&load.Bytes, "bytes", 1024, "size of an answer that is not a stream")
	flags.IntVar(&load.Tokens, "tokens", 200, "content events of a stream")
	flags.IntVar(&load.TokenBytes, "token-bytes", 0, "text of a content event; 0 means a short word")
	flags.DurationVar(&load.First, "first", 0, "time before the first content event")
	flags.DurationVar(&load.Interval, "interval", 0, "time between two content events; 0 means as fast as possible")
	flags.IntVar(&load.Batch, "batch", 1, "events per flush")
	flags.IntVar(&load.Embeddings, "embeddings", 1, "vectors of an answer to an embeddings request, always lists of numbers")
	flags.IntVar(&load.Dimensions, "dimensions", 8, "numbers of a vector, at most 4096")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !slices.Contains(fakellm.Kinds(), *kind) {
		return fmt.Errorf("-kind %s: must be one of %s", *kind, kinds)
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Println("http://" + ln.Addr().String())
	if *steered {
		return serve(ctx, ln, printRequests(os.Stdout, fakellm.New(*kind, fakellm.Models(*model), fakellm.Steered())))
	}
	return serve(ctx, ln, fakellm.New(*kind, fakellm.Models(*model), fakellm.Benchmark(load)))
}

// printRequests prints which requests arrive, and which are abandoned: the client left before it had the whole answer.
func printRequests(to io.Writer, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(to, "received", r.Method, r.URL.Path)
		defer func() {
			if r.Context().Err() != nil {
				_, _ = fmt.Fprintln(to, "abandoned", r.Method, r.URL.Path)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
