package llmproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// usageDefault is how far back from the last day usage is shown where nothing else is asked for.
const usageDefault = 30 * 24 * time.Hour

// A usageAnswer is what was used in some days, both included, by what the rows are told apart by.
type usageAnswer struct {
	From string     `json:"from"`
	To   string     `json:"to"`
	By   []string   `json:"by"`
	Rows []usageRow `json:"rows"`
}

// A usageRow is a row as it is told: what is not known is null, and not zero.
type usageRow struct {
	ledger.Row
	USD   *float64 `json:"usd"` // null where no request's price is known
	Saved float64  `json:"saved_usd"`
}

func usageRows(rows []ledger.Row) []usageRow {
	told := make([]usageRow, len(rows))
	for i, row := range rows {
		told[i] = usageRow{Row: row, Saved: row.Saved}
		if row.Unpriced == 0 || row.Unpriced < row.Requests {
			told[i].USD = &row.USD
		}
	}
	return told
}

// The parameters that a question for usage may have.
var usageParameters = []string{"from", "to", "by", "format"}

// adminUsage answers GET /llm_proxy/usage?from=&to=&by=&format=.
func adminUsage(w http.ResponseWriter, r *http.Request) error {
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
	return adminJSON(w, usageAnswer{From: dateOf(q.From), To: dateOf(q.To), By: q.By, Rows: usageRows(rows)})
}

func usageQuery(asked url.Values, now time.Time) (q ledger.Query, err error) {
	for name := range asked {
		if !slices.Contains(usageParameters, name) {
			return q, fmt.Errorf("%q is none of the parameters %s", name, strings.Join(usageParameters, ", "))
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
		return q, fmt.Errorf("format: %q is neither json nor csv", format)
	}
	q.By = []string{"key"}
	if asked.Has("by") {
		q.By = strings.FieldsFunc(asked.Get("by"), func(r rune) bool { return r == ',' || r == ' ' })
	}
	for _, by := range q.By {
		if !slices.Contains(ledger.Dimensions(), by) {
			return q, fmt.Errorf("by: %q is none of %s", by, strings.Join(ledger.Dimensions(), ", "))
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
		return time.Time{}, fmt.Errorf("%q is neither a date such as 2006-01-02 nor a time ago such as 7d", text)
	}
	return now.Add(-ago), nil
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// usedOf asks the ledgers of the handlers that run.
func usedOf(q ledger.Query) ([]ledger.Row, error) {
	var all []usageLedger
	ledgers.Range(func(_, value any) bool {
		all = append(all, value.(usageLedger))
		return true
	})
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
func usageCSV(w http.ResponseWriter, by []string, rows []usageRow) error {
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
