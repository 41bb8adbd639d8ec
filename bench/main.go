// Command bench compares llm_proxy with Caddy's own reverse_proxy: the same binary, the same upstream and the same requests, on
// loopback, in alternation. README.md says how to run it and how to read the results.
//
// It decides what is measured and which bars must hold. It never measures from inside: the proxies are processes of their own,
// observed through /proc as an operator would. It imports only the standard library.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	runTimeout   = 25 * time.Minute
	memoryPasses = 3 // at most, because memory varies little
)

type bench struct {
	servers  servers
	peers    string // directory of other gateways to compare with, instead of running the scenarios
	page     string
	only     *regexp.Regexp
	passes   int
	duration time.Duration
	check    bool
	out      string
}

func main() {
	b, err := parseFlags()
	if err == nil {
		err = b.main()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() (*bench, error) {
	b := &bench{}
	flag.StringVar(&b.servers.caddy, "caddy", "bin/caddy", "Caddy with llm_proxy")
	flag.StringVar(&b.servers.fakellm, "fakellm", "bin/fakellm", "the upstream")
	flag.BoolVar(&b.servers.noise, "noise", false, "compare reverse_proxy with itself, to see how much the results vary on this machine")
	flag.StringVar(&b.servers.profiles, "profile", "", "write CPU and allocation profiles of the proxies to this directory; the results then include the profiler's cost")
	flag.BoolVar(&b.check, "check", false, "exit with status 1 if a bar is missed")
	flag.IntVar(&b.passes, "passes", 5, "paired passes of each scenario")
	flag.DurationVar(&b.duration, "duration", 1500*time.Millisecond, "length of a pass that is not paced by the upstream")
	flag.StringVar(&b.out, "o", "bin/bench.json", "the results file")
	flag.StringVar(&b.peers, "peers", "", "compare with the other gateways in this directory instead; see peers.sh")
	flag.StringVar(&b.page, "page", "", "with -peers: the page whose table is replaced")
	only := flag.String("scenario", "", "run only the scenarios whose names match this regular expression")
	short := flag.Bool("short", false, "a quick look: 2 passes of 0.5 s")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: make bench BENCH='flags', which builds the binaries and runs: go run ./bench flags\n\nScenarios:")
		for _, sc := range scenarios() {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-18s %s\n", sc.name, sc.title)
		}
		fmt.Fprintln(flag.CommandLine.Output(), "\nFlags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *short {
		b.passes, b.duration = 2, 500*time.Millisecond
	}
	if b.passes < 1 || b.duration <= 0 || flag.NArg() > 0 {
		return nil, errors.New("-passes and -duration must be positive, and arguments are not allowed; see -help")
	}
	var err error
	if b.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-scenario: %w", err)
	}
	for _, binary := range []*string{&b.servers.caddy, &b.servers.fakellm} {
		if *binary, err = filepath.Abs(*binary); err != nil {
			return nil, err
		}
		if _, err := os.Stat(*binary); err != nil {
			return nil, fmt.Errorf("%w; run make bench, which builds it", err)
		}
	}
	if dir := b.servers.profiles; dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("-profile: %w", err)
		}
	}
	return b, nil
}

func (b *bench) main() error {
	// The load generator shares the machine with what it measures: spend memory rather than CPU time on garbage collection.
	debug.SetGCPercent(800)
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "llm-bench-")
	if err != nil {
		return fmt.Errorf("creating a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	b.servers.dir = dir

	r := &report{Begun: time.Now(), Machine: thisMachine(), Noise: b.servers.noise, Passes: b.passes}
	r.printHead(os.Stdout)
	if b.peers != "" {
		return b.comparePeers(ctx, r)
	}
	for _, sc := range scenarios() {
		if !b.only.MatchString(sc.name) {
			continue
		}
		samples, err := b.run(ctx, &sc)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		s := newSection(&sc, samples)
		s.print(os.Stdout)
		r.Scenarios = append(r.Scenarios, s)
	}
	return b.finish(r)
}

func (b *bench) finish(r *report) error {
	if len(r.Scenarios) == 0 {
		return fmt.Errorf("no scenario matches %q; see -help", b.only)
	}
	r.Seconds = time.Since(r.Begun).Seconds()
	if err := r.write(b.out); err != nil {
		return err
	}
	met, of := r.printBars(os.Stdout)
	fmt.Printf("\n%d of %d bars met in %.0f s; all figures are in %s\n", met, of, r.Seconds, b.out)
	if b.check && met < of {
		return errors.New("bars were missed")
	}
	return nil
}

// run measures one scenario with servers of its own. The order alternates (A B, then B A), so that drift affects both sides.
func (b *bench) run(ctx context.Context, sc *scenario) (samples [sides][]sample, err error) {
	defer b.servers.stop()
	if err := b.servers.start(ctx, sc); err != nil {
		return samples, err
	}
	p := pass{scenario: sc, servers: &b.servers}
	if err := p.learnAll(ctx); err != nil {
		return samples, err
	}
	if err := b.warmUp(ctx, p); err != nil {
		return samples, fmt.Errorf("warming up: %w", err)
	}
	passes := b.passes
	if sc.proxiesOnly {
		passes = min(passes, memoryPasses)
	}
	for i := range passes {
		order := []side{direct, baseline, ours}
		if i%2 == 1 {
			order = []side{direct, ours, baseline}
		}
		if sc.proxiesOnly {
			order = order[1:]
		}
		for _, p.side = range order {
			if p.duration = b.duration; p.side == direct {
				p.duration /= 2 // for orientation only: no bar depends on it
			}
			s, err := sc.measure(ctx, &p)
			if err != nil {
				return samples, fmt.Errorf("%s, pass %d: %w", p.side, i+1, err)
			}
			samples[p.side] = append(samples[p.side], s)
		}
	}
	return samples, nil
}

// peerWarmUp is how long another gateway is warmed up, because some of them are compiled while they run.
const peerWarmUp = 5 * time.Second

// warmUp runs a pass on each proxy that does not count: a process is slower in its first second.
func (b *bench) warmUp(ctx context.Context, p pass) error {
	if p.scenario.proxiesOnly {
		return nil // these passes start processes of their own
	}
	p.duration = b.duration / 2
	for _, p.side = range []side{baseline, ours} {
		if p.side == ours && b.servers.peer != nil {
			p.duration = peerWarmUp
		}
		if _, err := p.scenario.measure(ctx, &p); err != nil {
			return fmt.Errorf("%s: %w", p.side, err)
		}
	}
	return nil
}
