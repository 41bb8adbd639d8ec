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
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// defaultPeriod is how long before its last day a query without "from" begins.
const defaultPeriod = 30 * 24 * time.Hour

// A Usage is what was used from one day to another, inclusive, with a row for each combination of the names in By.
type Usage struct {
	From string     `json:"from"`
	To   string     `json:"to"`
	By   []string   `json:"by"`
	Rows []UsageRow `json:"rows"`
}

// A UsageRow is a row of a Usage.
type UsageRow struct {
	ledger.Row
	USD   *float64 `json:"usd"` // null if no request of the row has a known price
	Saved float64  `json:"saved_usd"`
}

func usageRows(rows []ledger.Row) []UsageRow {
	shown := make([]UsageRow, len(rows))
	for i, row := range rows {
		shown[i] = UsageRow{Row: row, Saved: row.Saved}
		if row.Unpriced == 0 || row.Unpriced < row.Requests {
			shown[i].USD = &row.USD
		}
	}
	return shown
}

// showUsage answers GET /llm_proxy/usage?from=&to=&by=&key=&format=.
func showUsage(w http.ResponseWriter, r *http.Request) error {
	parameters := r.URL.Query()
	q, err := usageQuery(parameters, time.Now())
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	rows, err := state.QueryUsage(q)
	if err != nil {
		return apiError(http.StatusServiceUnavailable, fmt.Errorf("reading usage: %w", err))
	}
	if format := parameters.Get("format"); format == "csv" || format == "" && strings.Contains(r.Header.Get("Accept"), "text/csv") {
		return writeUsageCSV(w, q.By, usageRows(rows))
	}
	return writeJSON(w, Usage{From: dateOf(q.From), To: dateOf(q.To), By: q.By, Rows: usageRows(rows)})
}

func usageQuery(parameters url.Values, now time.Time) (q ledger.Query, err error) {
	known := []string{"from", "to", "by", "key", "format"}
	for name := range parameters {
		if !slices.Contains(known, name) {
			return q, fmt.Errorf("unknown parameter %q; use one of %s", name, strings.Join(known, ", "))
		}
	}
	if q.To, err = parseDay(parameters.Get("to"), now, now); err != nil {
		return q, fmt.Errorf("to: %w", err)
	}
	if q.From, err = parseDay(parameters.Get("from"), q.To.Add(-defaultPeriod), now); err != nil {
		return q, fmt.Errorf("from: %w", err)
	}
	if dateOf(q.From) > dateOf(q.To) {
		return q, fmt.Errorf("from %s is after to %s", dateOf(q.From), dateOf(q.To))
	}
	if format := parameters.Get("format"); format != "" && format != "csv" && format != "json" {
		return q, fmt.Errorf("format: unknown format %q; use json or csv", format)
	}
	if q.Key = parameters.Get("key"); q.Key == "" && parameters.Has("key") {
		return q, errors.New("key is empty; write the name of a key or user, or leave it out")
	}
	q.By = []string{"key"}
	if parameters.Has("by") {
		q.By = strings.FieldsFunc(parameters.Get("by"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	for _, by := range q.By {
		if !slices.Contains(ledger.Dimensions(), by) {
			return q, fmt.Errorf("by: unknown name %q; use one of %s", by, strings.Join(ledger.Dimensions(), ", "))
		}
	}
	return q, nil
}

// parseDay parses a date, today or yesterday, or a duration before now.
func parseDay(text string, otherwise, now time.Time) (time.Time, error) {
	switch text {
	case "":
		return otherwise, nil
	case "today":
		return now, nil
	case "yesterday":
		return now.AddDate(0, 0, -1), nil
	}
	if date, err := time.Parse(time.DateOnly, text); err == nil {
		return date, nil
	}
	ago, err := caddy.ParseDuration(text)
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("invalid day %q; use a date such as 2006-01-02, today, yesterday, or a number of days ago such as 7d", text)
	}
	return now.Add(-ago), nil
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func writeUsageCSV(w http.ResponseWriter, by []string, rows []UsageRow) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	out := csv.NewWriter(w)
	header := append(slices.Clone(by), "requests", "input_tokens", "output_tokens", "cached_tokens", "spilled", "unpriced", "usd", "saved_usd")
	out.Write(header) //nolint:errcheck // out.Error returns it
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
		out.Write(line) //nolint:errcheck // out.Error returns it
	}
	out.Flush()
	return out.Error()
}

func usageCommand() *cobra.Command {
	cmd := newCommand(&cobra.Command{
		Use:   "usage [--from <day>] [--to <day>] [--by <names>] [--key <name>] [--csv]",
		Short: "Shows what was used, by key, model, target or day",
		Long:  "Shows what was used, as the running Caddy recorded it. Days are in UTC, written as 2006-01-02, today, yesterday, or a number of days ago such as 7d.",
		Args:  cobra.NoArgs,
	}, runUsage)
	cmd.Flags().String("from", "", "The first day (default 30 days before the last one)")
	cmd.Flags().String("to", "", "The last day (default today)")
	cmd.Flags().String("by", "key", "How to group rows: any of day, key, model and target, separated by commas")
	cmd.Flags().String("key", "", "Show only what this key or user used (default all)")
	cmd.Flags().Bool("csv", false, "Print CSV")
	return cmd
}

func runUsage(fl caddycmd.Flags, out io.Writer) error {
	query := url.Values{"by": {fl.String("by")}}
	for _, name := range []string{"from", "to"} {
		if value := fl.String(name); value != "" {
			query.Set(name, value)
		}
	}
	if fl.Changed("key") { // the server rejects an empty one
		query.Set("key", fl.String("key"))
	}
	if fl.Bool("csv") {
		query.Set("format", "csv")
	}
	res, err := request(fl, http.MethodGet, "/llm_proxy/usage?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if fl.Bool("csv") {
		_, err = io.Copy(out, res.Body)
	} else {
		err = printUsage(out, res.Body)
	}
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// printUsage prints an answer of the admin API as a table.
func printUsage(out io.Writer, answer io.Reader) error {
	var u Usage
	if err := json.NewDecoder(answer).Decode(&u); err != nil {
		return err
	}
	rows := make([][]any, 1, len(u.Rows)+1)
	for _, name := range append(u.By, "requests", "input", "output", "cached", "spilled", "usd", "saved") {
		rows[0] = append(rows[0], strings.ToUpper(name))
	}
	for _, used := range u.Rows {
		var row []any
		for _, name := range u.By {
			row = append(row, used.Name(name))
		}
		rows = append(rows, append(row, used.Requests, used.Input, used.Output, used.Cached, used.Spilled, formatCost(used), formatUSD(used.Saved)))
	}
	return printTable(out, rows)
}

func formatCost(row UsageRow) string {
	switch {
	case row.USD == nil:
		return "unknown"
	case row.Unpriced > 0:
		return fmt.Sprintf("%s and %d unknown", formatUSD(*row.USD), row.Unpriced)
	}
	return formatUSD(*row.USD)
}

func formatUSD(usd float64) string { return strconv.FormatFloat(usd, 'f', 4, 64) }
