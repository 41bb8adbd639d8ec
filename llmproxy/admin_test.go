package llmproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// adminAPI serves the plugin's part of the admin API as Caddy's admin endpoint does.
func adminAPI() http.Handler {
	mux := http.NewServeMux()
	for _, route := range (admin.API{}).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			err := route.Handler.ServeHTTP(w, r)
			var apiErr caddy.APIError
			if errors.As(err, &apiErr) {
				http.Error(w, apiErr.Err.Error(), apiErr.HTTPStatus)
			} else if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

// callAdmin sends a request to the admin API. Header is pairs of names and values.
func callAdmin(method, uri, body string, header ...string) (status int, answer string) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, uri, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	adminAPI().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// adminServer starts a server of the admin API and returns its address.
func adminServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(adminAPI())
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// runCommand runs a subcommand of caddy and returns its output.
func runCommand(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: name, SilenceUsage: true, SilenceErrors: true}
	for _, c := range commands() {
		if c.Name == name {
			c.CobraFunc(root)
		}
	}
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

// Keys can be created, rotated and revoked in the running Caddy and in a file.
func TestKeyCommands(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "keys.json")
	for name, test := range map[string]struct {
		where, create []string
		config        string
	}{
		"running": {where: []string{"--address", adminServer(t)}, create: []string{"--running"}, config: "require_key"},
		"file":    {where: []string{"--keys-file", file}, config: "keys_file " + file},
	} {
		t.Run(name, func(t *testing.T) {
			caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\t"+test.config+"\n\t}")
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) string {
				t.Helper()
				out, err := runCommand(t, "llm-key", append(args, test.where...)...)
				if err != nil {
					t.Fatalf("%v: %v: %s", args, err, out)
				}
				if name == "file" {
					theStore(t, file).Refresh() // as the running Caddy does every second
				}
				return strings.TrimSpace(out)
			}
			first := run(append([]string{"create", "alice", "--rate", "60/m", "--budget", "$20/month", "--concurrent", "2", "--priority", "high"}, test.create...)...)
			if got := status(t, url, first); got != 200 {
				t.Errorf("the new key: status %d", got)
			}
			if list := run("list"); !strings.Contains(list, "alice") || !strings.Contains(list, "60/m $20/month 2 at once") || !strings.Contains(list, "high") || strings.Contains(list, "sha256") || strings.Contains(list, first) {
				t.Errorf("the list is %s", list)
			}
			if out, err := runCommand(t, "llm-key", append(append([]string{"create", "alice"}, test.create...), test.where...)...); err == nil {
				t.Errorf("a second key of the same name was created: %s", out)
			}
			second := run("rotate", "alice")
			if status(t, url, first) != 401 || status(t, url, second) != 200 {
				t.Error("after rotate: the old secret is valid, or the new one is not")
			}
			run("revoke", "alice")
			if got := status(t, url, second); got != 401 {
				t.Errorf("a revoked key: status %d", got)
			}
			if out, err := runCommand(t, "llm-key", append([]string{"revoke", "alice"}, test.where...)...); err == nil {
				t.Errorf("a key was revoked twice: %s", out)
			}
		})
	}
}

// The line that create prints can be used in a Caddyfile.
func TestCreatePrintsACaddyfileLine(t *testing.T) {
	out, err := runCommand(t, "llm-key", "create", "alice", "--models", "auto", "--concurrent", "2", "--tags", "a,team b,{c}", "--expires", "2999-12-31", "--local-only", "--priority", "low", "--admin", "--tokens", "1M/d")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(out, "\n\n\t")
	secret, rest, _ := strings.Cut(rest, "\n")
	at := strings.Index(rest, "\tkey alice")
	if at < 0 {
		t.Fatalf("no line in %s", out)
	}
	if !strings.Contains(rest[at:], "\t\tpriority low\n") {
		t.Errorf("the priority is not in %s", rest[at:])
	}
	if !strings.Contains(rest[at:], "\t\tadmin\n") {
		t.Errorf("admin is not in %s", rest[at:])
	}
	if !strings.Contains(rest[at:], "\t\ttags a `team b` `{c}`\n") {
		t.Errorf("the tags are not in %s", rest[at:])
	}
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n"+rest[at:]+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if got := status(t, url, secret); got != 200 {
		t.Errorf("status %d", got)
	}
	list, err := runCommand(t, "llm-key", "list", "--address", adminServer(t))
	if err != nil || strings.Count(list, "alice") != 1 || !strings.Contains(list, "low       1       yes    2999-12-31  configuration\n") || strings.Contains(list, "sha256") {
		t.Errorf("%v: the list is %s", err, list)
	}
	for _, args := range [][]string{
		{"create"}, {"create", "bob", "--rate", "fast"}, {"create", "bob", "--priority", "critical"}, {"create", "two words"}, {"rotate"},
		{"create", "bob", "--rate", "1/m,2/m"}, {"create", "bob", "--expires", "2020-01-01"},
		{"create", "bob", "--running", "--keys-file", "x.json"}, {"list", "--keys-file", "x.json"},
	} {
		if out, err := runCommand(t, "llm-key", args...); err == nil {
			t.Errorf("%v was accepted: %s", args, out)
		}
	}
}

// Keys that are created while Caddy runs are valid at once, and after a restart.
func TestAdminKeys(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	post := func(uri, body string) (secret string) {
		t.Helper()
		status, answer := callAdmin("POST", uri, body)
		var k admin.Key
		if err := json.Unmarshal([]byte(answer), &k); err != nil || status != 200 {
			t.Fatalf("status %d: %s", status, answer)
		}
		return k.Plain
	}
	first := post("/llm_proxy/keys", `{"name":"alice","rate":["60/m"]}`)
	if got := status(t, url, first); got != 200 {
		t.Errorf("a new key: status %d", got)
	}
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"twice":         {"POST", "/llm_proxy/keys", `{"name":"alice"}`, 409, `duplicate key "alice"`},
		"no JSON":       {"POST", "/llm_proxy/keys", `{`, 400, "invalid key"},
		"two keys":      {"POST", "/llm_proxy/keys", `{"name":"bob"} {"name":"bert"}`, 400, "unexpected data after the JSON value"},
		"no list":       {"POST", "/llm_proxy/keys", `{"name":"bob","rate":"60/m"}`, 400, "invalid key: rate cannot be of type string"},
		"spelling":      {"POST", "/llm_proxy/keys", `{"name":"bob","rates":["60/m"]}`, 400, `unknown field "rates"`},
		"bad rate":      {"POST", "/llm_proxy/keys", `{"name":"bob","rate":["fast"]}`, 400, `invalid rate "fast"`},
		"bad name":      {"POST", "/llm_proxy/keys", `{"name":"bob smith"}`, 400, "invalid name"},
		"a secret":      {"POST", "/llm_proxy/keys", `{"name":"bob","secret":"hunter2"}`, 400, "sha256:"},
		"unknown":       {"DELETE", "/llm_proxy/keys/nobody", "", 404, `"nobody"`},
		"rotate none":   {"POST", "/llm_proxy/keys/nobody/rotate", "", 404, `"nobody"`},
		"rotate to one": {"POST", "/llm_proxy/keys/alice/rotate", "hunter2", 400, "sha256:"},
		"method":        {"PUT", "/llm_proxy/keys", "", 405, "GET or POST"},
		"elsewhere":     {"POST", "/llm_proxy/keys?kept_in=nowhere", `{"name":"bob"}`, 409, "no site stores keys there"},
	} {
		if code, answer := callAdmin(test.method, test.path, test.body); code != test.status || !strings.Contains(answer, test.want) || strings.Contains(answer, "hunter2") {
			t.Errorf("%s: status %d, want %d: %s", name, code, test.status, answer)
		}
	}
	second := post("/llm_proxy/keys/alice/rotate", "")
	if status(t, url, first) != 401 || status(t, url, second) != 200 {
		t.Error("after rotate: the old secret is valid, or the new one is not")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if got := status(t, url, second); got != 200 {
		t.Errorf("after a restart: status %d", got)
	}
	callAdmin("DELETE", "/llm_proxy/keys/alice", "")
	if got := status(t, url, second); got != 401 {
		t.Errorf("a revoked key: status %d", got)
	}
}

func TestPurge(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		model other u/real
		cache purged
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	fill := func() {
		text(t, ask(t, url, "m", false))
		res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"other","messages":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		text(t, res)
		res.Body.Close()
	}
	entries := func() int {
		_, body := callAdmin("GET", "/llm_proxy/cache", "")
		var list []admin.Cache
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Name == "purged" {
				return c.Entries
			}
		}
		t.Fatal("the cache is not listed: ", body)
		return 0
	}
	for _, test := range []struct {
		name, query string
		status      int
		want        string
		left        int
	}{
		{"a model", "?model=m", 200, `{"purged":1}`, 1},
		{"another model", "?model=x", 200, `{"purged":0}`, 2},
		{"another cache", "?name=x", 200, `{"purged":0}`, 2},
		{"this cache", "?name=purged", 200, `{"purged":2}`, 0},
		{"mistyped", "?modle=m", 400, `unknown parameter "modle"; use name or model`, 2},
		{"an empty variable", "?model=", 400, "model must be given once and must not be empty", 2},
		{"two models", "?model=m&model=x", 400, "model must be given once", 2},
		{"not encoded", "?model=a;b", 400, "reading the query", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			fill()
			for want := 2; entries() != want; { // an answer is stored a moment after the client got it
			}
			status, body := callAdmin("POST", "/llm_proxy/cache/purge"+test.query, "")
			if status != test.status || !strings.Contains(body, test.want) || entries() != test.left {
				t.Errorf("%d %s; %d are left", status, body, entries())
			}
		})
	}
	address := adminServer(t)
	for _, cmd := range []struct{ args, want string }{{"stats", "purged "}, {"purge --model other", "answers purged"}} {
		out, err := runCommand(t, "llm-cache", append(strings.Fields(cmd.args), "--address", address)...)
		if err != nil || !strings.Contains(out, cmd.want) {
			t.Errorf("%s: %v %s", cmd.args, err, out)
		}
	}
	if _, err := runCommand(t, "llm-cache", "purge", "--model", "", "--address", address); err == nil {
		t.Error("an empty model purges everything")
	}
}

func TestAdminListsQueues(t *testing.T) {
	fake, release := fakellm.Start(t, "vllm"), make(chan struct{})
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+" {\n\t\t\tmax_concurrent 1\n\t\t}\n\t\tkey alice secret-alice {\n\t\t\tpriority high\n\t\t}\n\t\tmodel m u/x\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	send := func(id string) {
		req := newRequest(t, http.MethodPost, url+"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}`)
		req.Header.Set("Authorization", "Bearer secret-alice")
		req.Header.Set("X-Request-Id", id)
		if res, err := http.DefaultClient.Do(req); err != nil {
			t.Error(err)
		} else {
			io.Copy(io.Discard, res.Body) //nolint:errcheck // what matters is that it ends
			res.Body.Close()
		}
	}
	var all sync.WaitGroup
	fake.Next(fakellm.Text("slow").Usage(7, 2, 0).Hold(release))
	all.Go(func() { send("first") })
	fake.Wait(t, 1)
	all.Go(func() { send("second") })
	waited := regexp.MustCompile(`"waited_seconds":[0-9.]+`)
	list := func() string {
		_, list := callAdmin("GET", "/llm_proxy/queues", "")
		return waited.ReplaceAllString(list, `"waited_seconds":0`)
	}
	want := `[{"address":"` + fake.URL() + `/v1","requests":1,"waiting":[{"id":"second","model":"m","key":"alice","priority":"high","position":1,"waited_seconds":0}],"speeds":[]}]` + "\n"
	deadline := time.Now().Add(time.Minute)
	for list() != want && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Error(diff)
	}
	close(release)
	all.Wait()
	if got := list(); !strings.Contains(got, `"requests":0,"waiting":[],"speeds":[{"model":"x","answers":2,"counts":false,"prompt_tokens_per_second":`) {
		t.Errorf("afterwards: %s", got)
	}
}

func TestAdminListsUpstreams(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+" {\n\t\t\tapi_key the-secret\n\t\t}\n\t\tmodel m u/x\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	fake.Always(fakellm.Unauthorized())
	ask(t, url, "m", false)
	_, list := callAdmin("GET", "/llm_proxy/upstreams", "")
	want := `[{"address":"` + fake.URL() + `/v1","state":"up","requests":0,"waiting":0,"strikes":0,"hidden_models":["x"]}]` + "\n"
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if status, answer := callAdmin("DELETE", "/llm_proxy/upstreams", ""); status != 405 || answer != "method DELETE is not allowed; use GET\n" {
		t.Errorf("DELETE: %d %s", status, answer)
	}
}

// used returns the number of requests by model, as the admin API shows it.
func used(t *testing.T) map[string]int64 {
	t.Helper()
	status, body := callAdmin("GET", "/llm_proxy/usage?by=model", "")
	var answer admin.Usage
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(status, body, err)
	}
	requests := map[string]int64{}
	for _, row := range answer.Rows {
		requests[row.Model] = row.Requests
	}
	return requests
}

func TestAdminUsage(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	caddyfile, url := site(t, echo)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		text(t, ask(t, url, "m", true))
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
		{"unknown parameter", "group=key", "", 400, `unknown parameter "group"; use one of from, to, by, key, format`},
		{"CSV", "by=model,day", "text/csv", 200,
			"model,day,requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\nm," + today + ",3,3,87,0,0,0,0,0\n"},
		{"CSV by format", "by=&format=csv", "", 200, "requests,input_tokens,output_tokens,cached_tokens,spilled,unpriced,usd,saved_usd\n3,3,87,0,0,0,0,0\n"},
		{"JSON by format", "format=json", "text/csv", 200, `"rows":[{`},
		{"unknown dimension", "by=colour", "", 400, `unknown name "colour"; use one of day, key, model, target`},
		{"no date", "from=tomorrow", "", 400, `from: invalid day "tomorrow"; use a date`},
		{"yesterday and today", "from=yesterday&to=today", "", 200, `"rows":[{` + sums},
		{"of a key that used nothing", "key=alice", "", 200, `"rows":[]}`},
		{"of no key", "key=", "", 400, "key is empty"},
		{"in the future", "to=-1d", "", 400, `to: invalid day "-1d"; use a date`},
		{"unknown format", "format=xml", "", 400, `unknown format "xml"; use json or csv`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := callAdmin("GET", "/llm_proxy/usage?"+test.query, "", "Accept", test.accept)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
}
