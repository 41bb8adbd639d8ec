// Command bench measures what llm_proxy costs beside Caddy's own reverse_proxy: the same binary, the same upstream, the same
// requests, on loopback and turn by turn. README.md says how to read it.
//
// It decides what is measured and which bars hold; it never measures from inside: the proxies are processes of their own,
// seen through /proc as an operator sees them. It stands on the standard library alone and imports nothing of the project.
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

// longest is when a run is given up as stuck.
const longest = 15 * time.Minute

// memoryPasses are enough where memory is measured, which varies little.
const memoryPasses = 3

type bench struct {
	servers  servers
	only     *regexp.Regexp
	passes   int
	duration time.Duration
	check    bool
	out      string
}

func main() {
	b, err := flags()
	if err == nil {
		err = b.main()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func flags() (*bench, error) {
	b := &bench{}
	flag.StringVar(&b.servers.caddy, "caddy", "bin/caddy", "Caddy with llm_proxy")
	flag.StringVar(&b.servers.fakellm, "fakellm", "bin/fakellm", "the upstream")
	flag.BoolVar(&b.servers.noise, "noise", false, "measure reverse_proxy against itself, to see what a difference means")
	flag.StringVar(&b.servers.profiles, "profile", "", "write CPU profiles of the proxies to this directory; what is measured then carries their cost")
	flag.BoolVar(&b.check, "check", false, "exit with 1 when a bar is missed")
	flag.IntVar(&b.passes, "passes", 5, "paired passes of each scenario")
	flag.DurationVar(&b.duration, "duration", 1500*time.Millisecond, "length of a pass that is not paced by the upstream")
	flag.StringVar(&b.out, "o", "bin/bench.json", "the results file")
	only := flag.String("scenario", "", "run only the scenarios whose names match this regular expression")
	quick := flag.Bool("short", false, "a quick look: 2 passes of 0.5 s")
	flag.Parse()
	if *quick {
		b.passes, b.duration = 2, 500*time.Millisecond
	}
	if b.passes < 1 || b.duration <= 0 || flag.NArg() > 0 {
		return nil, errors.New("-passes and -duration must be positive, and there are no arguments; see -help")
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
			return nil, fmt.Errorf("%w (make bench builds it)", err)
		}
	}
	return b, nil
}

func (b *bench) main() error {
	// The generator shares the machine with what it measures: memory is cheaper here than another collection.
	debug.SetGCPercent(800)
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "llm-bench-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	b.servers.dir = dir

	r := &report{Begun: time.Now(), Machine: thisMachine(), Noise: b.servers.noise, Passes: b.passes}
	printHead(os.Stdout, r)
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
		return fmt.Errorf("no scenario is called %q", b.only)
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

// run measures one scenario with servers of its own: A B, then B A, and so on, so that what drifts hits both sides alike.
func (b *bench) run(ctx context.Context, sc *scenario) (samples [sides][]sample, err error) {
	defer b.servers.stop()
	b.servers.cache = sc.cache
	if err := b.servers.start(ctx, sc.upstream); err != nil {
		return samples, err
	}
	p := pass{scenario: sc, servers: &b.servers}
	if p.want, err = p.learn(ctx); err != nil {
		return samples, fmt.Errorf("asking the upstream itself: %w", err)
	}
	if err := b.warm(ctx, p); err != nil {
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
			if p.lasting = b.duration; p.side == direct {
				p.lasting /= 2 // it is there for orientation, and no bar hangs on it
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

// warm gives each proxy a pass that does not count: in its first second a process is slower, whichever side it is on.
func (b *bench) warm(ctx context.Context, p pass) error {
	if p.scenario.proxiesOnly {
		return nil // these passes start processes of their own
	}
	p.lasting = b.duration / 2
	for _, p.side = range []side{baseline, ours} {
		if _, err := p.scenario.measure(ctx, &p); err != nil {
			return fmt.Errorf("%s: %w", p.side, err)
		}
	}
	return nil
}

// learn asks the upstream what right answers are.
func (p *pass) learn(ctx context.Context) (*want, error) {
	c, err := dial(ctx, p.servers.running[direct].addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return learn(c, p.scenario.request(p.scenario.size), p.scenario.stream)
}
