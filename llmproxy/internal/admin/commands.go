package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/screen"
)

// Commands returns the commands to register with Caddy. The inspector is for llm-check.
func Commands(inspect Inspector) []caddycmd.Command {
	return []caddycmd.Command{{
		Name: "llm-key", Usage: "<command>", Short: "Manages the API keys of llm_proxy and shows their usage",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(createCommand(), listCommand(), revokeCommand(), rotateCommand(), usageCommand())
		},
	}, {
		Name: "llm-cache", Usage: "<command>", Short: "Shows and purges the response cache of llm_proxy",
		CobraFunc: func(cmd *cobra.Command) { cmd.AddCommand(cacheStatsCommand(), cachePurgeCommand()) },
	}, {
		Name: "llm-status", Usage: "[--json] [--interval <duration>]", Short: "Shows what llm_proxy is doing now: slots, queues, states, traffic, spend and the latest requests",
		CobraFunc: watchCommand,
	}, {
		Name: "llm-bench", Usage: "<url>", Short: "Measures how fast a server generates: throughput, time to first token, inter-token latency",
		CobraFunc: configureBench,
	}, {
		Name: "llm-import", Usage: "<command>", Short: "Writes a Caddyfile: from a configuration of LiteLLM, or for the servers on this machine",
		CobraFunc: configureImport,
	}, {
		Name: "llm-check", Usage: "[--config <path>] [--adapter <name>] [--json] [--tune]", Short: "Compares the configuration with the servers, and says what to change before production",
		CobraFunc: configureCheck(inspect),
	}}
}

// newCommand adds to a command the function that runs it and the flags that locate the admin API.
func newCommand(cmd *cobra.Command, run func(caddycmd.Flags, io.Writer) error) *cobra.Command {
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		if err := run(fl, cmd.OutOrStdout()); err != nil {
			return caddy.ExitCodeFailedQuit, err
		}
		return caddy.ExitCodeSuccess, nil
	})
	cmd.Flags().String("address", "", "The address of the running Caddy's admin API (default $CADDY_ADMIN, or localhost:2019)")
	cmd.Flags().StringP("config", "c", "", "A configuration file from which to read this address")
	cmd.Flags().StringP("adapter", "a", "", "The config adapter for this file")
	return cmd
}

// request sends a request to the admin API of the running Caddy.
func request(fl caddycmd.Flags, method, uri string, body io.Reader) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return nil, err
	}
	res, err := caddycmd.AdminAPIRequest(address, method, uri, nil, body)
	if err != nil {
		return nil, plainError(address, err)
	}
	return res, nil
}

// plainError returns the message in an error of the admin API, which Caddy returns as JSON in the text of an error of its own.
func plainError(address string, err error) error {
	text := err.Error()
	if strings.Contains(text, "connection refused") {
		return fmt.Errorf("no Caddy answers at %s; start it, or give the address of its admin API with --address", address)
	}
	var answer struct {
		Error string `json:"error"`
	}
	if i := strings.IndexByte(text, '{'); i >= 0 && json.Unmarshal([]byte(text[i:]), &answer) == nil && answer.Error != "" {
		return errors.New(answer.Error)
	}
	return err
}

// requestJSON sends a request and decodes the answer.
func requestJSON(fl caddycmd.Flags, method, uri string, into any) error {
	res, err := request(fl, method, uri, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// printTable prints rows in columns, without control characters.
func printTable(out io.Writer, rows [][]any) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, value := range row {
			cells[i] = screen.Printable(cmp.Or(fmt.Sprint(value), "-"))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// newKeyCommand adds to a command the flags that select where keys are kept.
func newKeyCommand(cmd *cobra.Command, run func(caddycmd.Flags, io.Writer) error) *cobra.Command {
	newCommand(cmd, run)
	cmd.Flags().String("keys-file", "", "Use this file of keys instead of the running Caddy")
	cmd.Flags().String("kept-in", "", "Where the running Caddy keeps the key, if it keeps keys in more than one place (see list)")
	cmd.MarkFlagsMutuallyExclusive("keys-file", "kept-in")
	return cmd
}

func createCommand() *cobra.Command {
	e := new(keys.Entry)
	cmd := newKeyCommand(&cobra.Command{
		Use:   "create <name> [--rate 60/m] [--budget '$20/month'] … [--running | --keys-file <file>]",
		Short: "Creates a key and prints its secret once",
		Long: "Creates a key and prints its secret, which is not stored anywhere. The digest of the secret is printed as a line for the Caddyfile, " +
			"stored by the running Caddy with --running, or written to a file with --keys-file.",
		Args: cobra.ExactArgs(1),
	}, func(fl caddycmd.Flags, out io.Writer) error {
		e.Name = fl.Arg(0)
		return runCreate(fl, out, e)
	})
	fl := cmd.Flags()
	fl.StringSliceVar(&e.Models, "models", nil, "The models that the key may use (default all)")
	fl.StringSliceVar(&e.Rate, "rate", nil, "Limits on requests, such as 60/m")
	fl.StringSliceVar(&e.Tokens, "tokens", nil, "Limits on tokens, such as 100k/m")
	fl.Int64Var(&e.Concurrent, "concurrent", 0, "Limit on concurrent requests")
	fl.StringSliceVar(&e.Budget, "budget", nil, "Budgets in US dollars, such as $20/month")
	fl.BoolVar(&e.LocalOnly, "local-only", false, "Send its requests to local upstreams only")
	fl.StringVar(&e.Priority, "priority", "", "Priority in the admission queue: high, normal or low (default normal)")
	fl.IntVar(&e.Weight, "weight", 0, "Share of the slots while requests wait, relative to other keys of its priority (default 1)")
	fl.BoolVar(&e.Admin, "admin", false, "Let its owner see everything on the dashboard, and manage keys there")
	fl.StringVar(&e.Expires, "expires", "", "The last day on which the key is valid, in UTC, such as 2026-12-31")
	fl.StringSliceVar(&e.Tags, "tags", nil, "Tags for the access log")
	fl.Bool("running", false, "Store the key in the running Caddy")
	cmd.MarkFlagsMutuallyExclusive("running", "keys-file")
	return cmd
}

func listCommand() *cobra.Command {
	return newKeyCommand(&cobra.Command{Use: "list", Short: "Lists the keys of the running Caddy or of a file", Args: cobra.NoArgs}, runList)
}

func revokeCommand() *cobra.Command {
	return newKeyCommand(&cobra.Command{Use: "revoke <name>", Short: "Revokes a key at once", Args: cobra.ExactArgs(1)}, func(fl caddycmd.Flags, _ io.Writer) error {
		name := fl.Arg(0)
		return runEdit(fl, keystore.Remove(name), http.MethodDelete, "/"+url.PathEscape(name), nil)
	})
}

func rotateCommand() *cobra.Command {
	return newKeyCommand(&cobra.Command{
		Use: "rotate <name>", Short: "Replaces the secret of a key at once and prints the new one", Args: cobra.ExactArgs(1),
	}, func(fl caddycmd.Flags, out io.Writer) error {
		name, secret := fl.Arg(0), keys.NewSecret()
		digest := keys.Digest(secret)
		if err := runEdit(fl, keystore.Rotate(name, digest, new(keys.Entry)), http.MethodPost, "/"+url.PathEscape(name)+"/rotate", []byte(digest)); err != nil {
			return err
		}
		fmt.Fprintln(out, secret)
		return nil
	})
}

// runCreate prints the secret to the terminal. Everything else gets only its digest.
func runCreate(fl caddycmd.Flags, out io.Writer, e *keys.Entry) error {
	secret := keys.NewSecret()
	e.Secret = keys.Digest(secret)
	set, err := keys.Compile([]*keys.Entry{e}, nil)
	if err != nil {
		return err
	}
	if k, _ := set.Find(secret); k.Expired(time.Now()) {
		return fmt.Errorf("expires: %s is in the past", e.Expires)
	}
	if !fl.Bool("running") && fl.String("keys-file") == "" {
		_, err := fmt.Fprintf(out, "The secret, which is not stored anywhere:\n\n\t%s\n\nThe line for the Caddyfile, inside llm_proxy:\n\n%s", secret, caddyfileLine(e))
		return err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := runEdit(fl, keystore.Add(e), http.MethodPost, "", body); err != nil {
		return err
	}
	fmt.Fprintln(out, secret)
	return nil
}

// runEdit applies an edit to the file of keys, or sends the request for it to the running Caddy.
func runEdit(fl caddycmd.Flags, edit keystore.Edit, method, path string, body []byte) error {
	if file := fl.String("keys-file"); file != "" {
		return keystore.NewFile(file).Change(edit)
	}
	uri := "/llm_proxy/keys" + path
	if place := fl.String("kept-in"); place != "" {
		uri += "?kept_in=" + url.QueryEscape(place)
	}
	res, err := request(fl, method, uri, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func runList(fl caddycmd.Flags, out io.Writer) error {
	var list []Key
	if file := fl.String("keys-file"); file != "" {
		store := keystore.NewFile(file)
		if err := store.Read(); err != nil {
			return err
		}
		for _, e := range store.Entries() {
			list = append(list, newKey(file, *e))
		}
	} else if err := requestJSON(fl, http.MethodGet, "/llm_proxy/keys", &list); err != nil {
		return err
	}
	rows := [][]any{{"NAME", "MODELS", "LIMITS", "PRIORITY", "WEIGHT", "ADMIN", "EXPIRES", "KEPT IN"}}
	for _, k := range list {
		limits := slices.Concat(k.Rate, k.Tokens, k.Budget)
		if k.Concurrent > 0 {
			limits = append(limits, fmt.Sprint(k.Concurrent, " at once"))
		}
		rows = append(rows, []any{k.Name, strings.Join(k.Models, " "), strings.Join(limits, " "), cmp.Or(k.Priority, "normal"), cmp.Or(k.Weight, 1), yes(k.Admin), k.Expires, k.KeptIn})
	}
	return printTable(out, rows)
}

// yes returns how a list shows something that is so, or not.
func yes(so bool) string {
	if so {
		return "yes"
	}
	return ""
}

// caddyfileLine returns a key as a line, or a block, of a Caddyfile.
func caddyfileLine(e *keys.Entry) string {
	var b strings.Builder
	add := func(name string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			b.WriteString("\t\t" + name)
			for _, value := range values {
				b.WriteString(" " + caddyfileToken(value))
			}
			b.WriteByte('\n')
		}
	}
	add("models", e.Models...)
	add("rate", e.Rate...)
	add("tokens", e.Tokens...)
	if e.Concurrent > 0 {
		add("concurrent", fmt.Sprint(e.Concurrent))
	}
	add("budget", e.Budget...)
	if e.LocalOnly {
		b.WriteString("\t\tlocal_only\n")
	}
	add("priority", e.Priority)
	if e.Weight > 0 {
		add("weight", fmt.Sprint(e.Weight))
	}
	if e.Admin {
		b.WriteString("\t\tadmin\n")
	}
	add("expires", e.Expires)
	add("tags", e.Tags...)
	if b.Len() == 0 {
		return fmt.Sprintf("\tkey %s %s\n", e.Name, e.Secret)
	}
	return fmt.Sprintf("\tkey %s %s {\n%s\t}\n", e.Name, e.Secret, b.String())
}

// caddyfileToken quotes a value if necessary.
func caddyfileToken(value string) string {
	switch {
	case value != "" && !strings.ContainsAny(value, " \t\r\n\"`{}#"):
		return value
	case !strings.Contains(value, "`"):
		return "`" + value + "`"
	}
	return `"` + strings.ReplaceAll(value, `"`, `\"`) + `"`
}
