package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest/report"
)

// The environment variables with the keys of llm-bench, because the arguments of a command are visible to others.
const (
	benchKey   = "LLM_BENCH_KEY"
	compareKey = "LLM_BENCH_COMPARE_KEY"
)

// exitMissed is the exit code when an objective was missed. Caddy itself uses 1 to 3.
const exitMissed = 4

// openLoopConcurrency is the default limit of requests at once with --rate, where it is only there to protect this machine.
const openLoopConcurrency = 1000

// bench has the flags of llm-bench.
type bench struct {
	dialect, model, key                     string
	compare, compareModel, compareKey       string
	promptFile                              string
	inputTokens, outputTokens               int
	stream                                  bool
	concurrency, requests, warmup           int
	rate                                    float64
	duration, timeout                       time.Duration
	json                                    bool
	html                                    string
	objectives                              []string
	concurrencyIsDefault, requestsIsDefault bool
}

// configureBench makes cmd the command llm-bench.
func configureBench(cmd *cobra.Command) {
	b := new(bench)
	cmd.Long = "Sends requests to any server with OpenAI's, Anthropic's or Ollama's API and reports throughput, time to first token, inter-token latency and errors.\n\n" +
		"Exit codes: 0 if all went well, 3 if no request succeeded, 4 if an objective of --slo was missed."
	cmd.Example = "  caddy llm-bench http://localhost:8080 --requests 100 --concurrency 10\n" +
		"  caddy llm-bench https://llm.example.com --rate 5 --duration 2m --slo ttft_p95=2s --html report.html\n" +
		"  caddy llm-bench http://localhost:8080 --compare http://localhost:11434"
	cmd.Args = cobra.ExactArgs(1)
	fl := cmd.Flags()
	fl.StringVar(&b.dialect, "dialect", string(loadtest.OpenAI), "The API to use: openai, anthropic or ollama")
	fl.StringVar(&b.model, "model", "", "The model (default the first that the server lists)")
	fl.StringVar(&b.key, "key", "", "The API key (default $"+benchKey+", which other users of this machine cannot see)")
	fl.IntVar(&b.concurrency, "concurrency", 10, "Requests at once; with --rate their limit (default then "+fmt.Sprint(openLoopConcurrency)+")")
	fl.IntVar(&b.requests, "requests", 100, "Requests to send; no limit if only --duration is given")
	fl.Float64Var(&b.rate, "rate", 0, "Requests per second on average, whether or not the server keeps up (default: the next is sent when an answer ends)")
	fl.DurationVar(&b.duration, "duration", 0, "How long to send requests")
	fl.StringVar(&b.promptFile, "prompt-file", "", "A file with a prompt on each line: a text, or JSON with \"prompt\" or \"messages\" (default: made-up texts)")
	fl.IntVar(&b.inputTokens, "input-tokens", 256, "About how many tokens made-up prompts have")
	fl.IntVar(&b.outputTokens, "output-tokens", 128, "The most tokens of an answer; 0 leaves it to the server")
	fl.BoolVar(&b.stream, "stream", true, "Ask for streams")
	fl.IntVar(&b.warmup, "warmup", 1, "Requests before the measurement, which do not count")
	fl.DurationVar(&b.timeout, "timeout", 10*time.Minute, "The longest time that a request may take")
	fl.StringVar(&b.compare, "compare", "", "The address of another server to measure afterwards, with as many requests")
	fl.StringVar(&b.compareModel, "compare-model", "", "The model of the other server (default the same, if it lists it)")
	fl.StringVar(&b.compareKey, "compare-key", "", "The API key of the other server (default $"+compareKey+")")
	fl.BoolVar(&b.json, "json", false, "Print the results as JSON")
	fl.StringVar(&b.html, "html", "", "Write a report with charts to this file")
	fl.StringArrayVar(&b.objectives, "slo", nil, "An objective, such as ttft_p95=2s, itl_p99=100ms, error_rate=1% or output_tokens_per_second=500; may be given again")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(flags caddycmd.Flags) (int, error) {
		b.concurrencyIsDefault, b.requestsIsDefault = !fl.Changed("concurrency"), !fl.Changed("requests")
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)() // a second signal ends the process
		return b.run(ctx, flags.Arg(0), cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
}

// run measures one server, or two, and returns the exit code.
func (b *bench) run(ctx context.Context, address string, out, progress io.Writer) (int, error) {
	slos, err := parseSLOs(b.objectives)
	if err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	page, err := newPage(b.html)
	if err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	defer page.discard()
	runs, err := b.options(ctx, address)
	if err != nil {
		return caddy.ExitCodeFailedQuit, err
	}
	var rep report.Report
	for _, o := range runs {
		result, err := b.measure(ctx, o, progress)
		if err != nil {
			return caddy.ExitCodeFailedQuit, err
		}
		rep.Results = append(rep.Results, result)
		if result.Interrupted {
			break
		}
	}
	var missed []string
	for _, s := range slos {
		s = s.Evaluate(rep.Results[0])
		rep.SLOs = append(rep.SLOs, s)
		if !s.Met {
			missed = append(missed, fmt.Sprintf("%s (%s)", s.Text, s.Got))
		}
	}
	write := rep.WriteText
	if b.json {
		write = rep.WriteJSON
	}
	err = write(out)
	if err == nil {
		err = page.write(rep)
	}
	if err != nil {
		return caddy.ExitCodeFailedQuit, fmt.Errorf("writing the report: %w", err)
	}
	switch {
	case rep.Results[0].Succeeded == 0:
		return caddy.ExitCodeFailedQuit, errors.New("no request succeeded")
	case len(missed) > 0:
		return exitMissed, fmt.Errorf("objectives missed: %s", strings.Join(missed, ", "))
	}
	return caddy.ExitCodeSuccess, nil
}

func parseSLOs(texts []string) (slos []loadtest.SLO, err error) {
	for _, text := range texts {
		s, err := loadtest.ParseSLO(text)
		if err != nil {
			return nil, err
		}
		slos = append(slos, s)
	}
	return slos, nil
}

// options returns what to send to each server. All get the same load, but never the same made-up prompts: the second server may share a
// cache with the first.
func (b *bench) options(ctx context.Context, address string) ([]loadtest.Options, error) {
	o := loadtest.Options{
		OutputTokens: b.outputTokens, Stream: b.stream, Concurrency: b.concurrency, Rate: b.rate, Requests: b.requests, Duration: b.duration,
		Timeout: b.timeout, Warmup: b.warmup, Seed: rand.Uint64(),
	}
	if b.concurrencyIsDefault && b.rate > 0 {
		o.Concurrency = openLoopConcurrency
	}
	if b.requestsIsDefault && b.duration > 0 {
		o.Requests = 0
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	read, err := b.prompts()
	if err != nil {
		return nil, err
	}
	one := loadtest.Target{URL: address, Dialect: loadtest.Dialect(b.dialect), Model: b.model, Key: cmp.Or(b.key, os.Getenv(benchKey))}
	if one, err = one.Find(ctx); err != nil {
		return nil, err
	}
	targets := []loadtest.Target{one}
	if b.compare != "" {
		two := loadtest.Target{URL: b.compare, Dialect: one.Dialect, Model: b.compareModel, Key: cmp.Or(b.compareKey, os.Getenv(compareKey))}
		if two, err = two.FindLike(ctx, one.Model); err != nil {
			return nil, err
		}
		targets = append(targets, two)
	}
	var runs []loadtest.Options
	for _, target := range targets {
		o.Target, o.Prompts = target, read
		if read == nil {
			o.Prompts = loadtest.MakeUp(b.inputTokens, rand.Uint64())
		}
		runs = append(runs, o)
	}
	return runs, nil
}

// prompts reads the file of prompts, if there is one.
func (b *bench) prompts() (*loadtest.Prompts, error) {
	if b.promptFile == "" {
		return nil, nil
	}
	f, err := os.Open(b.promptFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := loadtest.ReadPrompts(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.promptFile, err)
	}
	return p, nil
}

// measure runs one load test and shows how far it is.
func (b *bench) measure(ctx context.Context, o loadtest.Options, progress io.Writer) (*loadtest.Result, error) {
	if f, ok := progress.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := newProgress(o, f)
		defer bar.Exit()
		defer bar.Clear()
		o.Progress = func(p loadtest.Progress) { showProgress(bar, o, p) }
	}
	result, err := loadtest.Run(ctx, o)
	var failure *loadtest.Failure
	if !errors.As(err, &failure) {
		return result, err
	}
	err = fmt.Errorf("%s: the request before the measurement failed: %w", o.Target.URL, err)
	if failure.Status == http.StatusNotFound || failure.Status == http.StatusBadRequest {
		if models, listErr := o.Target.Models(ctx); listErr == nil && len(models) > 0 {
			err = fmt.Errorf("%w; the server lists the models %s", err, loadtest.Printable(strings.Join(models, ", ")))
		}
	}
	return nil, err
}

func newProgress(o loadtest.Options, to io.Writer) *progressbar.ProgressBar {
	options := []progressbar.Option{
		progressbar.OptionSetWriter(to), progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(true), progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetRenderBlankState(true),
	}
	if o.Requests > 0 {
		return progressbar.NewOptions(o.Requests, append(options, progressbar.OptionShowCount())...)
	}
	return progressbar.NewOptions64(o.Duration.Milliseconds(), options...)
}

func showProgress(bar *progressbar.ProgressBar, o loadtest.Options, p loadtest.Progress) {
	if p.WarmingUp {
		bar.Describe("warming up " + o.Target.URL)
		return
	}
	bar.Describe(fmt.Sprintf("%s  %d in flight, %d failed, %.0f tokens/s", o.Target.URL, p.InFlight, p.Failed, p.TokensPerSecond))
	done := int64(p.Done)
	if o.Requests == 0 {
		done = min(p.Elapsed, o.Duration).Milliseconds()
	}
	_ = bar.Set64(done) // fails only past the end
}

// A page is the file of an HTML report. It is made before the run, so that a folder that does not exist costs no results, and gets its name at
// the end, so that a run that fails does not destroy the previous report.
type page struct {
	path string
	file *os.File
}

func newPage(path string) (*page, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".llm-bench-*.html")
	if err != nil {
		return nil, fmt.Errorf("creating the report: %w", err)
	}
	return &page{path, f}, nil
}

func (p *page) write(rep report.Report) error {
	if p == nil {
		return nil
	}
	if err := rep.WriteHTML(p.file); err != nil {
		return err
	}
	if err := p.file.Chmod(0o644); err != nil { // os.CreateTemp makes files private
		return err
	}
	if err := p.file.Close(); err != nil {
		return err
	}
	return os.Rename(p.file.Name(), p.path)
}

// discard removes the file if it did not get its name.
func (p *page) discard() {
	if p != nil {
		_ = p.file.Close()
		_ = os.Remove(p.file.Name())
	}
}
