package llmproxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

func TestUseOfARecord(t *testing.T) {
	at := time.Date(2026, 11, 25, 23, 59, 59, 0, time.UTC)
	answered := exchange.Record{Started: at, Duration: 2 * time.Second, Caller: exchange.Caller{Key: "alice"}, Asked: exchange.Asked{Model: "local"}, Answer: exchange.Answer{Target: "gpu/llama", FirstContent: time.Second, Usage: wire.Usage{Input: 10, Output: 5, Cached: 4, Reasoning: 3}, HasUsage: true, Attempts: make([]exchange.Attempt, 1)}, Routing: exchange.Routing{Rule: "local", Route: "local"}}
	want := ledger.Use{Key: "alice", Model: "local", Target: "gpu/llama", At: at.Add(2 * time.Second), Requests: 1, Input: 10, Output: 5, Cached: 4}
	for _, test := range []struct {
		name   string
		change func(*exchange.Record)
		want   func(*ledger.Use)
	}{
		{"a price", func(r *exchange.Record) { r.Cost, r.HasCost, r.Saved = 0.5, true, 0.25 }, func(u *ledger.Use) { u.USD, u.Saved = 0.5, 0.25 }},
		{"no price", func(*exchange.Record) {}, func(u *ledger.Use) { u.Unpriced = 1 }},
		{"spilled", func(r *exchange.Record) { r.Route = "spill" }, func(u *ledger.Use) { u.Spilled, u.Unpriced = 1, 1 }},
		{"fell back", func(r *exchange.Record) { r.Route = "fallback:failed" }, func(u *ledger.Use) { u.Spilled, u.Unpriced = 1, 1 }},
		{"a model named spill", func(r *exchange.Record) { r.Rule, r.Route = "spill", "spill" }, func(u *ledger.Use) { u.Unpriced = 1 }},
		{"from the cache", func(r *exchange.Record) { r.Cache, r.Attempts, r.Usage = "hit", nil, wire.Usage{} }, func(u *ledger.Use) { u.Input, u.Output, u.Cached = 0, 0, 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec, want := answered, want
			test.change(&rec)
			test.want(&want)
			got, ok := use(&rec)
			if diff := cmp.Diff(want, got); diff != "" || !ok {
				t.Error(ok, diff)
			}
		})
	}
	if u, ok := use(&exchange.Record{Status: http.StatusNotFound, Asked: exchange.Asked{Model: "nope"}}); ok {
		t.Errorf("a request that was refused used %v", u)
	}
}

func BenchmarkUse(b *testing.B) {
	l := ledger.New(ledger.Config{Path: filepath.Join(b.TempDir(), "ledger.db")})
	defer l.Close()
	h := &Handler{used: l}
	rec := &exchange.Record{Started: time.Now(), Asked: exchange.Asked{Model: "local"}, Answer: exchange.Answer{Target: "gpu/llama", FirstContent: 1, Usage: wire.Usage{Input: 10}, HasUsage: true}}
	b.ReportAllocs()
	for b.Loop() {
		h.underWay.enter()
		if u, ok := use(rec); ok {
			h.used.Add(u)
		}
		h.underWay.leave()
	}
}

// adminGet asks the admin API as Caddy would.
func adminGet(t *testing.T, uri, accept string) (status int, body string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, uri, nil)
	req.Header.Set("Accept", accept)
	for _, route := range (adminAPI{}).Routes() {
		if route.Pattern != req.URL.Path {
			continue
		}
		w := httptest.NewRecorder()
		if err := route.Handler.ServeHTTP(w, req); err != nil {
			return err.(caddy.APIError).HTTPStatus, err.Error()
		}
		return w.Code, w.Body.String()
	}
	t.Fatalf("no route for %s", uri)
	return 0, ""
}

// used is what the admin API says was used, by model.
func used(t *testing.T) map[string]int64 {
	t.Helper()
	status, body := adminGet(t, "/llm_proxy/usage?by=model", "")
	var answer usageAnswer
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(status, body, err)
	}
	requests := map[string]int64{}
	for _, row := range answer.Rows {
		requests[row.Model] = row.Requests
	}
	return requests
}

const echo = "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t}"

func TestAdminUsage(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	caddyfile, url := site(t, echo)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		text(t, ask(t, url, true))
	}
	today := time.Now().UTC().Format(time.DateOnly)
	const sums = `"requests":3,"input_tokens":3,"output_tokens":87,"cached_tokens":0,"spilled":0,"unpriced":0,"usd":0,"saved_usd":0`
	for _, test := range []struct {
		name, query, accept string
		status              int
		want                string
	}{
		{"as it is", "", "", 200, `"by":["key"],"rows":[{` + sums + "}]}\n"},
		{"by all", "by=day,key,model,target&from=" + today + "&to=0s", "*/*", 200,
			`{"from":"` + today + `","to":"` + today + `","by":["day","key","model","target"],"rows":[{"day":"` + today + `","model":"m","target":"echo/parrot",` + sums + "}]}\n"},
		{"total", "by=", "", 200, `"by":[],"rows":[{` + sums + "}]}\n"},
		{"another time", "to=2d", "", 200, `"rows":[]}`},
		{"backwards", "from=2d&to=3d", "", 400, "is after to"},
		{"unknown parameter", "group=key", "", 400, `"group" is none of the parameters from, to, by, format`},
		{"CSV", "by=model,day", "text/csv", 200,
			"model,day,requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\nm," + today + ",3,3,87,0,0,0,0,0\n"},
		{"CSV by format", "by=&format=csv", "", 200, "requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\n3,3,87,0,0,0,0,0\n"},
		{"JSON by format", "format=json", "text/csv", 200, `"rows":[{`},
		{"unknown dimension", "by=colour", "", 400, `"colour" is none of day, key, model, target`},
		{"no date", "from=yesterday", "", 400, `from: "yesterday" is neither a date`},
		{"in the future", "to=-1d", "", 400, `to: "-1d" is neither a date`},
		{"unknown format", "format=xml", "", 400, `"xml" is neither json nor csv`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := adminGet(t, "/llm_proxy/usage?"+test.query, test.accept)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
}

// What is not known is told as such, and not as zero.
func TestUnknownCostIsNoZero(t *testing.T) {
	rows := usageRows([]ledger.Row{
		{Key: "none", Sums: ledger.Sums{Requests: 2, Unpriced: 2}},
		{Key: "part, half", Sums: ledger.Sums{Requests: 2, Unpriced: 1, USD: 0.5}},
		{Key: "free", Sums: ledger.Sums{Requests: 2}},
	})
	w := httptest.NewRecorder()
	if err := usageCSV(w, []string{"key"}, rows); err != nil {
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
	var told []string
	for _, row := range rows {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		_, usd, _ := strings.Cut(string(text), `"unpriced":`)
		told = append(told, usd)
	}
	if diff := cmp.Diff([]string{`2,"usd":null,"saved_usd":0}`, `1,"usd":0.5,"saved_usd":0}`, `0,"usd":0,"saved_usd":0}`}, told); diff != "" {
		t.Error(diff)
	}
}

func TestUsageCommand(t *testing.T) {
	var asked string
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		if r.URL.Query().Get("format") == "csv" {
			io.WriteString(w, "key,requests\n")
			return
		}
		json.NewEncoder(w).Encode(usageAnswer{By: []string{"key", "model"}, Rows: usageRows([]ledger.Row{
			{Model: "local", Sums: ledger.Sums{Requests: 12, Input: 3, Unpriced: 12}},
			{Key: "alice", Model: "gpt-4o", Sums: ledger.Sums{Requests: 3, Input: 1000, Output: 20, Cached: 5, Spilled: 1, USD: 0.25, Saved: 1}},
			{Key: "bob", Model: "red\x1b[31m", Sums: ledger.Sums{Requests: 2, USD: 0.5, Unpriced: 1}},
		})})
	}))
	defer admin.Close()
	for _, test := range []struct{ name, args, asked, want string }{
		{"table", "--by key,model --from 7d", "/llm_proxy/usage?by=key%2Cmodel&from=7d", `KEY    MODEL        REQUESTS  INPUT  OUTPUT  CACHED  SPILLED  USD                   SAVED
-      local        12        3      0       0       0        unknown               0.0000
alice  gpt-4o       3         1000   20      5       1        0.2500                1.0000
bob    red\x1b[31m  2         0      0       0       0        0.5000 and 1 unknown  0.0000
`},
		{"CSV", "--csv --to 2026-11-25", "/llm_proxy/usage?by=key&format=csv&to=2026-11-25", "key,requests\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			cmd := usageCommand()
			cmd.SetOut(&out)
			cmd.SetArgs(append(strings.Fields(test.args), "--address", strings.TrimPrefix(admin.URL, "http://")))
			if err := cmd.Execute(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" || asked != test.asked {
				t.Error(asked, diff)
			}
		})
	}
}
