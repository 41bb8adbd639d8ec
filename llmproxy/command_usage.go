package llmproxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func usageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage [--from <day>] [--to <day>] [--by <names>] [--csv]",
		Short: "Shows what was used, by key, model, target or day",
		Long:  "Shows what was used, as the running Caddy knows it. Days are those of UTC, written 2006-01-02, or as a time ago: 7d.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return runUsage(fl, cmd.OutOrStdout()) })
	cmd.Flags().String("from", "", "The first day (default 30 days before the last one)")
	cmd.Flags().String("to", "", "The last day (default today)")
	cmd.Flags().String("by", "key", "What rows are told apart by: any of day, key, model, target, with commas between them")
	cmd.Flags().Bool("csv", false, "Write CSV")
	adminFlags(cmd)
	return cmd
}

func runUsage(fl caddycmd.Flags, out io.Writer) (int, error) {
	asked := url.Values{"by": {fl.String("by")}}
	for _, name := range []string{"from", "to"} {
		if value := fl.String(name); value != "" {
			asked.Set(name, value)
		}
	}
	if fl.Bool("csv") {
		asked.Set("format", "csv")
	}
	res, err := askAdmin(fl, http.MethodGet, "/llm_proxy/usage?"+asked.Encode(), nil)
	if err != nil {
		return failed(err)
	}
	defer res.Body.Close()
	if fl.Bool("csv") {
		_, err = io.Copy(out, res.Body)
	} else {
		err = printUsage(out, res.Body)
	}
	if err != nil {
		return failed(fmt.Errorf("reading the answer: %w", err))
	}
	return caddy.ExitCodeSuccess, nil
}

// printUsage prints an answer as a table.
func printUsage(to io.Writer, answer io.Reader) error {
	var used usageAnswer
	if err := json.NewDecoder(answer).Decode(&used); err != nil {
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.ToUpper(strings.Join(append(used.By, "requests", "input", "output", "cached", "spilled", "usd", "saved"), "\t")))
	for _, row := range used.Rows {
		for _, name := range used.By {
			fmt.Fprint(table, cell(row.Name(name)), "\t")
		}
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n", row.Requests, row.Input, row.Output, row.Cached, row.Spilled, dollars(row), amount(row.Saved))
	}
	return table.Flush()
}

// cell keeps a terminal from obeying a name: clients make up names of models.
func cell(name string) string {
	if name == "" {
		return "-"
	}
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}

// dollars says what is not known, too.
func dollars(row usageRow) string {
	switch {
	case row.USD == nil:
		return "unknown"
	case row.Unpriced > 0:
		return fmt.Sprintf("%s and %d unknown", amount(*row.USD), row.Unpriced)
	}
	return amount(*row.USD)
}

func amount(usd float64) string { return strconv.FormatFloat(usd, 'f', 4, 64) }
