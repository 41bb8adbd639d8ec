package admin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/litellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/survey"
)

// configureImport adds the commands that write a Caddyfile.
func configureImport(cmd *cobra.Command) {
	cmd.AddCommand(importLiteLLMCommand(), importOllamaCommand(), importDetectCommand())
}

// importLiteLLMCommand returns the command that converts a configuration of LiteLLM.
func importLiteLLMCommand() *cobra.Command {
	var site, output, envFile string
	var report bool
	cmd := &cobra.Command{
		Use:   "litellm <config.yaml>",
		Short: "Converts a configuration of LiteLLM's proxy into a Caddyfile",
		Long: "Converts a configuration of LiteLLM's proxy, with what it includes, into a Caddyfile. What is not carried over, or not exactly, is in the comments " +
			"at the beginning of the Caddyfile and in the messages of this command. Secrets that are written in the YAML are expected in Caddy's environment.",
		Example: "  caddy llm-import litellm config.yaml > Caddyfile\n  caddy llm-import litellm config.yaml --output Caddyfile --env-file llm.env",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			if err := checkNew(output, envFile); err != nil {
				return err
			}
			result, err := litellm.Convert(litellm.Options{File: args[0], Read: readConfig, Site: site})
			if err != nil {
				return err
			}
			if envFile != "" {
				if err := writeSecrets(envFile, result.Secrets); err != nil {
					return err
				}
			}
			explain(cmd.ErrOrStderr(), result, envFile)
			if report {
				return printReport(cmd.OutOrStdout(), result)
			}
			return writeCaddyfile(cmd.OutOrStdout(), output, result.Caddyfile)
		},
	}
	cmd.Flags().StringVar(&site, "site", litellm.DefaultSite, "The address of the site, such as llm.example.com")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write the Caddyfile to this new file instead of standard output")
	cmd.Flags().StringVar(&envFile, "env-file", "", "Write the secrets in the YAML to this new file of environment variables")
	cmd.Flags().BoolVar(&report, "report", false, "Print what became of each key instead of the Caddyfile")
	cmd.MarkFlagsMutuallyExclusive("output", "report")
	return cmd
}

// maxConfig is more than the longest configuration that is read.
const maxConfig = 5 << 20

// readConfig reads a file, up to a size.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxConfig))
}

// writeCaddyfile writes a Caddyfile to a new file or to the standard output.
func writeCaddyfile(out io.Writer, name, caddyfile string) error {
	if name == "" {
		_, err := io.WriteString(out, caddyfile)
		return err
	}
	return writeNew(name, caddyfile, 0o644)
}

// checkNew reports the first file that exists already, so that either all files are written or none.
func checkNew(names ...string) error {
	for _, name := range names {
		if _, err := os.Lstat(name); name != "" && err == nil {
			return fmt.Errorf("%s exists already; remove it, or write another name", name)
		}
	}
	return nil
}

// writeNew writes a file that must not exist yet.
func writeNew(name, content string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

// writeSecrets writes secrets in the format of `caddy run --envfile`, to a file that only its owner can read.
func writeSecrets(name string, secrets []litellm.Secret) error {
	var b strings.Builder
	for _, s := range secrets {
		if strings.ContainsAny(s.Value, "#\r\n") || strings.TrimSpace(s.Value) != s.Value || strings.HasPrefix(s.Value, `"`) || strings.HasPrefix(s.Value, "'") {
			return fmt.Errorf("%s: the value of %s cannot be written to a file of environment variables, which has no form for it; set %s by hand", s.At, s.Key, s.Name)
		}
		fmt.Fprintf(&b, "%s=%s\n", s.Name, s.Value)
	}
	return writeNew(name, b.String(), 0o600)
}

// explain tells a person what the Caddyfile does not have, and what Caddy needs. It never prints a secret.
func explain(out io.Writer, result *litellm.Result, envFile string) {
	for _, part := range []struct {
		grade litellm.Grade
		title string
	}{{litellm.Changed, "Carried over with a difference:"}, {litellm.Ignored, "Not carried over:"}} {
		groups := result.Groups(part.grade)
		if len(groups) == 0 {
			continue
		}
		fmt.Fprintln(out, part.title)
		for _, g := range groups {
			fmt.Fprintln(out, "  "+g.String())
		}
	}
	if len(result.Secrets) == 0 {
		return
	}
	fmt.Fprintln(out, "Secrets that are written in the YAML, and where the Caddyfile expects them:")
	for _, s := range result.Secrets {
		fmt.Fprintf(out, "  %s: %s: set %s in Caddy's environment\n", s.At, s.Key, s.Name)
	}
	if envFile == "" {
		fmt.Fprintln(out, "To write them to a file that only you can read, run this command again with --env-file llm.env, and start Caddy with --envfile llm.env.")
	} else {
		fmt.Fprintf(out, "They are in %s. Start Caddy with --envfile %[1]s.\n", envFile)
	}
}

// printReport prints what became of each key.
func printReport(out io.Writer, result *litellm.Result) error {
	rows := [][]any{{"WHERE", "LITELLM", "HOW", "LLM_PROXY"}}
	for _, k := range result.Keys {
		rows = append(rows, []any{k.At, k.Key, k.Grade, k.Text})
	}
	return printTable(out, rows)
}

// importOllamaCommand returns the command that writes a Caddyfile for an Ollama server.
func importOllamaCommand() *cobra.Command {
	return surveyCommand("ollama [<address>]", "Writes a Caddyfile for this machine's Ollama",
		"Asks Ollama for its models and writes a Caddyfile with comments. The address is that of OLLAMA_HOST, or 127.0.0.1:11434. Nothing is generated.",
		cobra.MaximumNArgs(1), func(m survey.Machine) []string { return []string{m.Ollama()} })
}

// importDetectCommand returns the command that writes a Caddyfile for the servers that answer.
func importDetectCommand() *cobra.Command {
	return surveyCommand("detect [<addresses...>]", "Writes a Caddyfile for the model servers on this machine",
		"Looks for model servers at their usual ports, and for GPUs, and writes a Caddyfile with comments. Nothing is generated.",
		cobra.ArbitraryArgs, survey.Machine.Usual)
}

// surveyCommand returns a command that asks addresses, which are the usual ones unless some are given.
func surveyCommand(use, short, long string, args cobra.PositionalArgs, usual func(survey.Machine) []string) *cobra.Command {
	var site, output string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, addresses []string) error {
			cmd.SilenceUsage = true
			if err := checkNew(output); err != nil {
				return err
			}
			machine := thisMachine()
			if len(addresses) == 0 {
				addresses = usual(machine)
			}
			found, err := machine.Look(cmd.Context(), addresses)
			if err != nil {
				return err
			}
			caddyfile, err := found.Caddyfile(site, cmd.CommandPath())
			if err != nil {
				return err
			}
			return writeCaddyfile(cmd.OutOrStdout(), output, caddyfile)
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "The address of the site, such as llm.example.com (default http://localhost:8080, or the next free port)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write the Caddyfile to this new file instead of standard output")
	return cmd
}
