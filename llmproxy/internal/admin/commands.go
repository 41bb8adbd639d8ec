package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Commands returns the subcommands of the caddy command.
func Commands() []caddycmd.Command {
	return []caddycmd.Command{{
		Name: "llm-key", Usage: "<command>", Short: "Manages clients' keys of llm_proxy, and shows what was used with them",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(createCommand(), listCommand(), revokeCommand(), rotateCommand(), usageCommand())
		},
	}, {
		Name: "llm-cache", Usage: "<command>", Short: "Shows and purges the response cache of llm_proxy",
		CobraFunc: func(cmd *cobra.Command) { cmd.AddCommand(CacheStatsCommand(), CachePurgeCommand()) },
	}}
}

// adminFlags adds the flags that say where the admin API of the running Caddy is.
func adminFlags(cmd *cobra.Command) {
	cmd.Flags().String("address", "", "The address of the running Caddy's admin API (default localhost:2019, or $CADDY_ADMIN)")
	cmd.Flags().StringP("config", "c", "", "The configuration to take that address from")
	cmd.Flags().StringP("adapter", "a", "", "The adapter of that configuration")
}

// askAdmin sends a request to the running Caddy.
func askAdmin(fl caddycmd.Flags, method, uri string, body io.Reader) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return nil, err
	}
	return caddycmd.AdminAPIRequest(address, method, uri, nil, body)
}

// failed ends a command.
func failed(err error) (int, error) { return caddy.ExitCodeFailedQuit, err }

func createCommand() *cobra.Command {
	e := new(keys.Entry)
	cmd := &cobra.Command{
		Use:   "create <name> [--rate 60/m] [--budget '$20/month'] … [--running | --keys-file <file>]",
		Short: "Creates a key and prints its secret once",
		Long: "Creates a key. Its secret is printed once and stored nowhere. Its digest is printed as a line for the Caddyfile, or stored by the " +
			"running Caddy with --running, or written into a file with --keys-file.",
		Args: cobra.ExactArgs(1),
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&e.Models, "models", nil, "The models that the key may use (default all)")
	fl.StringSliceVar(&e.Rate, "rate", nil, "Requests in a window, such as 60/m")
	fl.StringSliceVar(&e.Tokens, "tokens", nil, "Tokens in a window, such as 100k/m")
	fl.Int64Var(&e.Concurrent, "concurrent", 0, "Requests at the same time")
	fl.StringSliceVar(&e.Budget, "budget", nil, "US dollars in a window, such as $20/month")
	fl.BoolVar(&e.LocalOnly, "local-only", false, "Send its requests to local upstreams only")
	fl.StringVar(&e.Priority, "priority", "", "The priority while waiting for a slot: high, normal or low (default normal)")
	fl.StringVar(&e.Expires, "expires", "", "The last day on which the key is valid, in UTC: 2026-12-31")
	fl.StringSliceVar(&e.Tags, "tags", nil, "Tags for the access log")
	fl.Bool("running", false, "Store the key in the running Caddy")
	keyFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("running", "keys-file")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		e.Name = fl.Arg(0)
		return createKey(fl, cmd.OutOrStdout(), e)
	})
	return cmd
}

func listCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "Lists the keys of the running Caddy, or of a file", Args: cobra.NoArgs}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return listKeys(fl, cmd.OutOrStdout()) })
	keyFlags(cmd)
	return cmd
}

func revokeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke <name>", Short: "Revokes a key at once", Args: cobra.ExactArgs(1)}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		return changeKeys(fl, keystore.Without(fl.Arg(0)), http.MethodDelete, "/"+url.PathEscape(fl.Arg(0)), nil)
	})
	keyFlags(cmd)
	return cmd
}

func rotateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rotate <name>", Short: "Replaces the secret of a key and prints the new one once; the old one is not valid any more", Args: cobra.ExactArgs(1)}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		secret := keys.NewSecret()
		digest := keys.Digest(secret)
		edit := keystore.Rotated(fl.Arg(0), digest, new(keys.Entry))
		code, err := changeKeys(fl, edit, http.MethodPost, "/"+url.PathEscape(fl.Arg(0))+"/rotate", []byte(digest))
		if err == nil {
			fmt.Fprintln(cmd.OutOrStdout(), secret)
		}
		return code, err
	})
	keyFlags(cmd)
	return cmd
}

// keyFlags adds the flags that say where keys are kept.
func keyFlags(cmd *cobra.Command) {
	cmd.Flags().String("keys-file", "", "Use a file of keys instead of the running Caddy")
	cmd.Flags().String("kept-in", "", "Where the running Caddy stores the key, if there is more than one place: see list")
	cmd.MarkFlagsMutuallyExclusive("keys-file", "kept-in")
	adminFlags(cmd)
}

// createKey sends or writes the digest alone: the secret stays here.
func createKey(fl caddycmd.Flags, out io.Writer, e *keys.Entry) (int, error) {
	secret := keys.NewSecret()
	e.Secret = keys.Digest(secret)
	set, err := keys.Compile([]*keys.Entry{e}, nil)
	if err != nil {
		return failed(err)
	}
	if k, _ := set.Find(secret); k.Expired(time.Now()) {
		return failed(fmt.Errorf("expires: %s is in the past", e.Expires))
	}
	if fl.Bool("running") || fl.String("keys-file") != "" {
		body, err := json.Marshal(e)
		if err != nil {
			return failed(err)
		}
		add := func(list []*keys.Entry) ([]*keys.Entry, error) { return append(list, e), nil }
		if code, err := changeKeys(fl, add, http.MethodPost, "", body); err != nil {
			return code, err
		}
		fmt.Fprintln(out, secret)
		return caddy.ExitCodeSuccess, nil
	}
	fmt.Fprintf(out, "The secret, which is stored nowhere:\n\n\t%s\n\nThe line for the Caddyfile, inside llm_proxy:\n\n%s", secret, line(e))
	return caddy.ExitCodeSuccess, nil
}

// line is the key as a Caddyfile has it.
func line(e *keys.Entry) string {
	var b strings.Builder
	say := func(name string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			b.WriteString("\t\t" + name)
			for _, value := range values {
				b.WriteString(" " + word(value))
			}
			b.WriteByte('\n')
		}
	}
	say("models", e.Models...)
	say("rate", e.Rate...)
	say("tokens", e.Tokens...)
	if e.Concurrent > 0 {
		say("concurrent", fmt.Sprint(e.Concurrent))
	}
	say("budget", e.Budget...)
	if e.LocalOnly {
		b.WriteString("\t\tlocal_only\n")
	}
	say("priority", e.Priority)
	say("expires", e.Expires)
	say("tags", e.Tags...)
	if b.Len() == 0 {
		return fmt.Sprintf("\tkey %s %s\n", e.Name, e.Secret)
	}
	return fmt.Sprintf("\tkey %s %s {\n%s\t}\n", e.Name, e.Secret, b.String())
}

// word is a value as a Caddyfile has it.
func word(value string) string {
	switch {
	case value != "" && !strings.ContainsAny(value, " \t\r\n\"`{}#"):
		return value
	case !strings.Contains(value, "`"):
		return "`" + value + "`"
	}
	return `"` + strings.ReplaceAll(value, `"`, `\"`) + `"`
}

// changeKeys edits the file of keys, or asks the running Caddy to do the same.
func changeKeys(fl caddycmd.Flags, edit func([]*keys.Entry) ([]*keys.Entry, error), method, path string, body []byte) (int, error) {
	if name := fl.String("keys-file"); name != "" {
		if err := keystore.NewFile(name).Change(edit); err != nil {
			return failed(err)
		}
		return caddy.ExitCodeSuccess, nil
	}
	res, err := askAdmin(fl, method, keysURI(fl, path), bytes.NewReader(body))
	if err != nil {
		return failed(err)
	}
	res.Body.Close()
	return caddy.ExitCodeSuccess, nil
}

func keysURI(fl caddycmd.Flags, path string) string {
	uri := "/llm_proxy/keys" + path
	if place := fl.String("kept-in"); place != "" {
		uri += "?kept_in=" + url.QueryEscape(place)
	}
	return uri
}

func listKeys(fl caddycmd.Flags, out io.Writer) (int, error) {
	var list []KeyAnswer
	if name := fl.String("keys-file"); name != "" {
		v := keystore.NewFile(name)
		if err := v.Read(); err != nil {
			return failed(err)
		}
		for _, e := range v.Entries() {
			list = append(list, shownKey(name, *e))
		}
	} else {
		res, err := askAdmin(fl, http.MethodGet, "/llm_proxy/keys", nil)
		if err != nil {
			return failed(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			return failed(fmt.Errorf("reading the answer: %w", err))
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tMODELS\tLIMITS\tPRIORITY\tEXPIRES\tKEPT IN")
	for _, k := range list {
		limits := append(append(append([]string{}, k.Rate...), k.Tokens...), k.Budget...)
		if k.Concurrent > 0 {
			limits = append(limits, fmt.Sprint(k.Concurrent, " at once"))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
			k.Name, orDash(strings.Join(k.Models, " ")), orDash(strings.Join(limits, " ")), cmp.Or(k.Priority, "normal"), orDash(k.Expires), k.KeptIn)
	}
	if err := table.Flush(); err != nil {
		return failed(err)
	}
	return caddy.ExitCodeSuccess, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
