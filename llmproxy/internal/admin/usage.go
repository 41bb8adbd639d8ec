package admin

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// usageDefault is how far back from the last day usage is shown where nothing else is asked for.
const usageDefault = 30 * 24 * time.Hour

// A UsageAnswer is what was used in some days, both included, by what the rows are told apart by.
type UsageAnswer struct {
	From string     `json:"from"`
	To   string     `json:"to"`
	By   []string   `json:"by"`
	Rows []UsageRow `json:"rows"`
}

// A UsageRow is a row as it is told: what is not known is null, and not zero.
type UsageRow struct {
	ledger.Row
	USD   *float64 `json:"usd"` // null where no request's price is known
	Saved float64  `json:"saved_usd"`
}

func usageRows(rows []ledger.Row) []UsageRow {
	told := make([]UsageRow, len(rows))
	for i, row := range rows {
		told[i] = UsageRow{Row: row, Saved: row.Saved}
		if row.Unpriced == 0 || row.Unpriced < row.Requests {
			told[i].USD = &row.USD
		}
	}
	return told
}

// The parameters that a question for usage may have.
var usageParameters = []string{"from", "to", "by", "format"}

// showUsage answers GET /llm_proxy/usage?from=&to=&by=&format=.
func showUsage(w http.ResponseWriter, r *http.Request) error {
	asked := r.URL.Query()
	q, err := usageQuery(asked, time.Now())
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	rows, err := usedOf(q)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: fmt.Errorf("usage cannot be read: %w", err)}
	}
	if asked.Get("format") == "csv" || asked.Get("format") == "" && strings.Contains(r.Header.Get("Accept"), "text/csv") {
		return usageCSV(w, q.By, usageRows(rows))
	}
	return answerJSON(w, UsageAnswer{From: dateOf(q.From), To: dateOf(q.To), By: q.By, Rows: usageRows(rows)})
}

func usageQuery(asked url.Values, now time.Time) (q ledger.Query, err error) {
	for name := range asked {
		if !slices.Contains(usageParameters, name) {
			return q, fmt.Errorf("unknown parameter %q; use one of %s", name, strings.Join(usageParameters, ", "))
		}
	}
	if q.To, err = usageDay(asked.Get("to"), now, now); err != nil {
		return q, fmt.Errorf("to: %w", err)
	}
	if q.From, err = usageDay(asked.Get("from"), q.To.Add(-usageDefault), now); err != nil {
		return q, fmt.Errorf("from: %w", err)
	}
	if dateOf(q.From) > dateOf(q.To) {
		return q, fmt.Errorf("from %s is after to %s", dateOf(q.From), dateOf(q.To))
	}
	if format := asked.Get("format"); format != "" && format != "csv" && format != "json" {
		return q, fmt.Errorf("format: unknown format %q; use json or csv", format)
	}
	q.By = []string{"key"}
	if asked.Has("by") {
		q.By = strings.FieldsFunc(asked.Get("by"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	for _, by := range q.By {
		if !slices.Contains(ledger.Dimensions(), by) {
			return q, fmt.Errorf("by: unknown name %q; use one of %s", by, strings.Join(ledger.Dimensions(), ", "))
		}
	}
	return q, nil
}

// usageDay reads a date, or how long ago the day was.
func usageDay(text string, otherwise, now time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if date, err := time.Parse(time.DateOnly, text); err == nil {
		return date, nil
	}
	ago, err := caddy.ParseDuration(text)
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("invalid day %q; use a date such as 2006-01-02 or a time ago such as 7d", text)
	}
	return now.Add(-ago), nil
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// usedOf asks the ledgers of the handlers that run.
func usedOf(q ledger.Query) ([]ledger.Row, error) {
	var all []state.UsageLedger
	state.Each(state.Ledgers, func(_ any, l state.UsageLedger) { all = append(all, l) })
	if len(all) == 0 {
		return nil, errors.New("no llm_proxy is configured")
	}
	var answers [][]ledger.Row
	for _, one := range all {
		rows, err := one.Query(q)
		if err != nil {
			return nil, err
		}
		answers = append(answers, rows)
	}
	return ledger.Merge(answers...), nil
}

// usageCSV answers with what the rows are told apart by, and then the sums.
func usageCSV(w http.ResponseWriter, by []string, rows []UsageRow) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	out := csv.NewWriter(w)
	header := append(slices.Clone(by), "requests", "input_tokens", "output_tokens", "cached_tokens", "spilled", "unpriced", "usd", "saved_usd")
	out.Write(header) //nolint:errcheck // Error tells, below
	for _, row := range rows {
		line := make([]string, 0, len(header))
		for _, name := range by {
			line = append(line, row.Name(name))
		}
		for _, n := range []int64{row.Requests, row.Input, row.Output, row.Cached, row.Spilled, row.Unpriced} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		for _, usd := range []*float64{row.USD, &row.Saved} {
			if usd == nil {
				line = append(line, "")
				continue
			}
			line = append(line, strconv.FormatFloat(*usd, 'f', -1, 64))
		}
		out.Write(line) //nolint:errcheck // Error tells, below
	}
	out.Flush()
	return out.Error()
}

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
	var used UsageAnswer
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
func dollars(row UsageRow) string {
	switch {
	case row.USD == nil:
		return "unknown"
	case row.Unpriced > 0:
		return fmt.Sprintf("%s and %d unknown", amount(*row.USD), row.Unpriced)
	}
	return amount(*row.USD)
}

func amount(usd float64) string { return strconv.FormatFloat(usd, 'f', 4, 64) }
