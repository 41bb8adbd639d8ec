package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/check"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/survey"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/tuning"
)

// exitFound is the exit code when the configuration can be loaded and something is wrong with it. It is that of llm-bench, too. Caddy itself
// uses 1 to 3.
const exitFound = exitMissed

// A checker has the flags of llm-check.
type checker struct {
	inspect           Inspector
	machine           survey.Machine
	envFiles          []string
	json, tune        bool
	failOn            string
	vram              string
	bandwidth         int64
	configFile, adapt string
}

// configureCheck returns a function that makes a command llm-check.
func configureCheck(inspect Inspector) func(*cobra.Command) {
	return func(cmd *cobra.Command) {
		c := &checker{inspect: inspect, machine: thisMachine()}
		cmd.Long = "Loads the configuration as Caddy would, without serving, asks all upstreams about themselves, and says what to change: servers that do not answer, keys that are refused, " +
			"models that are missing, slots, context windows and timeouts that do not agree, fallbacks that cannot help, logs that show keys. " +
			"It never makes a server generate or load a model, and never costs money.\n\n" +
			"Exit codes: 0 if nothing was found that --fail-on names, 1 if the configuration cannot be loaded, 4 if something was found."
		cmd.Example = "  caddy llm-check --config /etc/caddy/Caddyfile\n  caddy llm-check --json --fail-on warning\n  caddy llm-check --tune --vram 24GiB"
		cmd.Args = cobra.NoArgs
		fl := cmd.Flags()
		fl.StringVarP(&c.configFile, "config", "c", "", "The configuration file (default Caddyfile in the current directory)")
		fl.StringVarP(&c.adapt, "adapter", "a", "", "The config adapter for this file")
		fl.StringSliceVar(&c.envFiles, "envfile", nil, "A file of environment variables to load, as for caddy run")
		fl.BoolVar(&c.json, "json", false, "Print the report as JSON")
		fl.StringVar(&c.failOn, "fail-on", string(check.Error), "The least severity for exit code 4: error, warning or note")
		fl.BoolVar(&c.tune, "tune", false, "Also propose settings for the local servers, with estimates of their speed")
		fl.StringVar(&c.vram, "vram", "", "With --tune, the memory of the GPU, such as 24GiB (default that of this machine's largest, or 24GiB)")
		fl.Int64Var(&c.bandwidth, "bandwidth", 0, "With --tune, the memory bandwidth of the GPU in GB/s (default that of its model, or 936)")
		cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return c.run(ctx, cmd.OutOrStdout())
		})
	}
}

// thisMachine returns the machine on which the command runs.
func thisMachine() survey.Machine {
	return survey.Machine{Getenv: os.Getenv, Run: func(ctx context.Context, name string, args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, name, args...).Output()
	}}
}

// run checks the configuration, writes the report, and returns the exit code.
func (c *checker) run(ctx context.Context, out io.Writer) (int, error) {
	failOn := check.Severity(c.failOn)
	if !slices.Contains(check.Severities, failOn) {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("--fail-on %s: write error, warning or note", c.failOn)
	}
	gpu, err := c.gpu(ctx)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	for _, name := range c.envFiles {
		if err := loadEnvironment(name); err != nil {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("--envfile %s: %w", name, err)
		}
	}
	var closer state.Closer
	defer closer.Close()
	config, err := loadChecked(c.configFile, c.adapt, &closer, c.inspect)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	config.OllamaParallel = c.machine.OllamaParallel(ctx)
	config.Ask(ctx)
	if err := ctx.Err(); err != nil {
		return caddy.ExitCodeFailedQuit, errors.New("interrupted")
	}
	report := check.NewReport(config, check.Find(config))
	if c.tune {
		report.Tuning = config.Tune(func(own bool) tuning.GPU { return gpu(own) })
	}
	write := report.WriteText
	if c.json {
		write = report.WriteJSON
	}
	if err := write(out); err != nil {
		return caddy.ExitCodeFailedQuit, fmt.Errorf("writing the report: %w", err)
	}
	if n := report.Worst(failOn); n > 0 {
		return exitFound, fmt.Errorf("found %d of severity %s or worse", n, failOn)
	}
	return caddy.ExitCodeSuccess, nil
}

// gpu returns a function that returns the GPU of a server on this machine, or of one elsewhere.
func (c *checker) gpu(ctx context.Context) (func(own bool) tuning.GPU, error) {
	memory, bandwidth := int64(0), c.bandwidth*1e9
	if c.vram != "" {
		n, err := humanize.ParseBytes(c.vram)
		if err != nil || n < 1<<28 || n > 1<<45 {
			return nil, fmt.Errorf("--vram %s: write the memory of the GPU, such as 24GiB", c.vram)
		}
		memory = int64(n)
	}
	if c.bandwidth < 0 || c.bandwidth > 100_000 {
		return nil, fmt.Errorf("--bandwidth %d: write GB/s, such as 936", c.bandwidth)
	}
	if memory > 0 || !c.tune {
		return func(bool) tuning.GPU { return tuning.NewGPU("", memory, bandwidth) }, nil
	}
	var largest survey.GPU
	for _, g := range c.machine.GPUs(ctx) {
		if g.Total > largest.Total {
			largest = g
		}
	}
	return func(own bool) tuning.GPU {
		if !own {
			return tuning.NewGPU("", 0, bandwidth)
		}
		return tuning.NewGPU(largest.Name, int64(largest.Total)<<20, bandwidth)
	}, nil
}

// loadEnvironment sets the variables in a file, unless they are set, as `caddy run --envfile` does. Values may be in quotes.
func loadEnvironment(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxConfig))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export ")
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			return fmt.Errorf("line %d: write KEY=VALUE", n)
		}
		if quote := value[:min(len(value), 1)]; (quote == `"` || quote == "'") && len(value) > 1 && strings.HasSuffix(value, quote) {
			value = value[1 : len(value)-1]
		} else if before, _, comment := strings.Cut(value, "#"); comment {
			value = strings.TrimRight(before, " \t")
		}
		if _, set := os.LookupEnv(key); !set {
			if err := os.Setenv(key, value); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	return lines.Err()
}
