package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An unknown cost is null or empty, not zero.
func TestUnknownCostIsNotZero(t *testing.T) {
	rows := usageRows([]ledger.Row{
		{Key: "none", Sums: ledger.Sums{Requests: 2, Unpriced: 2}},
		{Key: "part, half", Sums: ledger.Sums{Requests: 2, Unpriced: 1, USD: 0.5}},
		{Key: "free", Sums: ledger.Sums{Requests: 2}},
	})
	w := httptest.NewRecorder()
	if err := writeUsageCSV(w, []string{"key"}, rows); err != nil {
		t.Fatal(err)
	}
	const table = `key,requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd
none,2,0,0,0,0,2,,0
"part, half",2,0,0,0,0,1,0.5,0
free,2,0,0,0,0,0,0,0
`
	if diff := cmp.Diff(table, w.Body.String()); diff != "" {
		t.Error(diff)
	}
	var got []string
	for _, row := range rows {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		_, usd, _ := strings.Cut(string(text), `"unpriced":`)
		got = append(got, usd)
	}
	if diff := cmp.Diff([]string{`2,"usd":null,"saved_usd":0}`, `1,"usd":0.5,"saved_usd":0}`, `0,"usd":0,"saved_usd":0}`}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseDay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"": "2026-02-01", "today": "2026-03-01", "yesterday": "2026-02-28", "7d": "2026-02-22", "0s": "2026-03-01", "24h": "2026-02-28", "2025-12-31": "2025-12-31",
		"tomorrow": "", "Yesterday": "", "-1d": "", "31.12.2025": "", "2025-13-01": "", "7": "",
	} {
		got, err := parseDay(text, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), now)
		if (err != nil) != (want == "") || err == nil && dateOf(got) != want {
			t.Errorf("%q: %s, %v; want %q", text, got, err, want)
		}
	}
}

// Errors of the admin API are shown as a sentence, not as JSON.
func TestErrorsOfCommands(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/llm_proxy/cache") {
			http.NotFound(w, r) // another Caddy, without the plugin
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"from: invalid day \"soon\""}`+"\n")
	}))
	address := strings.TrimPrefix(server.URL, "http://")
	run := func(cmd *cobra.Command, args ...string) string {
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(args, "--address", address))
		err := cmd.Execute()
		if err == nil {
			t.Fatal("no error")
		}
		return err.Error()
	}
	if got := run(usageCommand()); got != `from: invalid day "soon"` {
		t.Errorf("got %s", got)
	}
	if got := run(cacheStatsCommand()); got != "caddy responded with error: HTTP 404: 404 page not found\n" {
		t.Errorf("got %s", got)
	}
	server.Close()
	if got := run(usageCommand()); got != "no Caddy answers at "+address+"; start it, or give the address of its admin API with --address" {
		t.Errorf("got %s", got)
	}
}

func TestUsageCommand(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		if r.URL.Query().Get("format") == "csv" {
			io.WriteString(w, "key,requests\n")
			return
		}
		json.NewEncoder(w).Encode(Usage{By: []string{"key", "model"}, Rows: usageRows([]ledger.Row{
			{Model: "local", Sums: ledger.Sums{Requests: 12, Usage: tokens.Usage{Input: 3}, Unpriced: 12}},
			{Key: "alice", Model: "gpt-4o", Sums: ledger.Sums{Requests: 3, Usage: tokens.Usage{Input: 1000, Output: 20, Cached: 5}, Spilled: 1, USD: 0.25, Saved: 1}},
			{Key: "bob", Model: "red\x1b[31m", Sums: ledger.Sums{Requests: 2, USD: 0.5, Unpriced: 1}},
		})})
	}))
	defer server.Close()
	for _, test := range []struct{ name, args, asked, want string }{
		{"table", "--by key,model --from 7d", "/llm_proxy/usage?by=key%2Cmodel&from=7d", `KEY    MODEL        REQUESTS  INPUT  OUTPUT  CACHED  SPILLED  USD                   SAVED
-      local        12        3      0       0       0        unknown               0.0000
alice  gpt-4o       3         1000   20      5       1        0.2500                1.0000
bob    red\x1b[31m  2         0      0       0       0        0.5000 and 1 unknown  0.0000
`},
		{"of one key", "--key alice --from yesterday", "/llm_proxy/usage?by=key&from=yesterday&key=alice", ""},
		{"CSV", "--csv --to 2026-11-25", "/llm_proxy/usage?by=key&format=csv&to=2026-11-25", "key,requests\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			cmd := usageCommand()
			cmd.SetOut(&out)
			cmd.SetArgs(append(strings.Fields(test.args), "--address", strings.TrimPrefix(server.URL, "http://")))
			if err := cmd.Execute(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); test.want != "" && diff != "" || asked != test.asked {
				t.Error(asked, diff)
			}
		})
	}
}
