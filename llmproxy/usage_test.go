package llmproxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
)

// adminGet asks the admin API as Caddy would.
func adminGet(t *testing.T, uri, accept string) (status int, body string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, uri, nil)
	req.Header.Set("Accept", accept)
	for _, route := range (admin.API{}).Routes() {
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
	var answer admin.UsageAnswer
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
		{"unknown parameter", "group=key", "", 400, `unknown parameter "group"; use one of from, to, by, format`},
		{"CSV", "by=model,day", "text/csv", 200,
			"model,day,requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\nm," + today + ",3,3,87,0,0,0,0,0\n"},
		{"CSV by format", "by=&format=csv", "", 200, "requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\n3,3,87,0,0,0,0,0\n"},
		{"JSON by format", "format=json", "text/csv", 200, `"rows":[{`},
		{"unknown dimension", "by=colour", "", 400, `unknown name "colour"; use one of day, key, model, target`},
		{"no date", "from=yesterday", "", 400, `from: invalid day "yesterday"; use a date`},
		{"in the future", "to=-1d", "", 400, `to: invalid day "-1d"; use a date`},
		{"unknown format", "format=xml", "", 400, `unknown format "xml"; use json or csv`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := adminGet(t, "/llm_proxy/usage?"+test.query, test.accept)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
}
