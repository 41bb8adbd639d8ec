package llmproxy

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

const keyedSite = `	llm_dashboard
	llm_proxy {
		upstream u echo
		rate_limit 5/m
		key ops secret-ops {
			admin
		}
		key alice secret-alice
		key bob secret-bob
		require_key
	}`

func bearer(secret string) []string {
	if secret == "" {
		return nil
	}
	return []string{"Authorization", "Bearer " + secret}
}

// The page and its files are the same for everybody, and may load nothing else.
func TestDashboardFiles(t *testing.T) {
	url := run(t, keyedSite+"\n\trespond \"next handler\" 418")
	for _, test := range []struct {
		path, contentType string
		status            int
	}{
		{"/dashboard/", "text/html; charset=utf-8", 200},
		{"/dashboard/main.js", "text/javascript; charset=utf-8", 200},
		{"/dashboard/style.css", "text/css; charset=utf-8", 200},
		{"/dashboard/icon.svg", "image/svg+xml", 200},
		{"/dashboard/none.js", "text/plain; charset=utf-8", 404},
		{"/dashboards", "", 418},
		{"/", "", 418},
	} {
		res := send(t, newRequest(t, http.MethodGet, url+test.path, ""))
		if got := res.Header.Get("Content-Type"); res.StatusCode != test.status || test.contentType != "" && got != test.contentType {
			t.Errorf("%s: %d %s", test.path, res.StatusCode, got)
		}
		if csp := res.Header.Get("Content-Security-Policy"); (csp != "") != (test.status != 418) || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %q", test.path, csp)
		}
	}
	res := send(t, newRequest(t, http.MethodGet, url+"/dashboard/main.js", ""))
	again := newRequest(t, http.MethodGet, url+"/dashboard/main.js", "", "If-None-Match", res.Header.Get("Etag"))
	if res := send(t, again); res.StatusCode != http.StatusNotModified {
		t.Errorf("with its tag: %d", res.StatusCode)
	}
	if res := send(t, newRequest(t, http.MethodGet, url+"/dashboard", "")); res.StatusCode != http.StatusOK || !strings.HasSuffix(res.Request.URL.Path, "/dashboard/") {
		t.Errorf("without the slash: %d at %s", res.StatusCode, res.Request.URL)
	}
}

// me returns what the dashboard knows of a visitor.
func me(t *testing.T, url string, header ...string) (status int, v struct {
	Name, Sees string
	Admin      bool
	HasKey     bool `json:"has_key"`
	Error      struct{ Message string }
}) {
	t.Helper()
	code, body := get(t, url+"/dashboard/data/me", header...)
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err, body)
	}
	return code, v
}

func TestWhoSeesWhat(t *testing.T) {
	url := run(t, keyedSite)
	for _, test := range []struct {
		secret string
		status int
		sees   string
		admin  bool
	}{{"secret-ops", 200, "all", true}, {"secret-alice", 200, "own", false}, {"", 401, "", false}, {"wrong", 401, "", false}} {
		status, v := me(t, url, bearer(test.secret)...)
		if status != test.status || v.Sees != test.sees || v.Admin != test.admin || v.HasKey != (status == 200) {
			t.Errorf("%q: %d %+v", test.secret, status, v)
		}
		code, _ := get(t, url+"/dashboard/data/keys", bearer(test.secret)...)
		if want := map[bool]int{true: 200, false: 403}[test.admin]; code != want && !(code == 401 && test.status == 401) {
			t.Errorf("%q gets the keys: %d", test.secret, code)
		}
	}
	for range 6 { // looking at the sign-in is no failed attempt
		me(t, url)
	}
	refused := 0
	for range 6 {
		if status, _ := me(t, url, bearer("guess")...); status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 2 {
		t.Errorf("only %d of many guesses were refused because of the rate limit", refused)
	}
	if status, _ := me(t, url, bearer("secret-alice")...); status != 200 {
		t.Errorf("after the guesses, a valid key: %d", status)
	}
}

// Without keys, nobody signs in; the answer says what to do. The options open the page.
func TestDashboardWithoutKeys(t *testing.T) {
	const open = "\n\tllm_proxy {\n\t\tupstream u echo\n\t}"
	t.Run("nothing", func(t *testing.T) {
		url := run(t, "\tllm_dashboard"+open)
		if status, v := me(t, url, bearer("any")...); status != 401 || !strings.Contains(v.Error.Message, "no_sign_in") {
			t.Errorf("%d %+v", status, v)
		}
	})
	t.Run("no_sign_in", func(t *testing.T) {
		url := run(t, "\tllm_dashboard {\n\t\tno_sign_in\n\t}"+open)
		if status, v := me(t, url); status != 200 || v.Sees != "all" || v.Admin || v.HasKey {
			t.Errorf("%d %+v", status, v)
		}
		if code, body := get(t, url+"/dashboard/data/keys"); code != 403 {
			t.Errorf("the keys: %d %s", code, body)
		}
	})
	t.Run("admins", func(t *testing.T) {
		// The user's name is set as basic_auth sets it.
		const users = "\tmap {header.X-Test-User} {http.auth.user.id} {\n\t\tdefault {header.X-Test-User}\n\t}\n"
		url := run(t, users+"\tllm_dashboard {\n\t\tadmins carol\n\t}"+open)
		if status, v := me(t, url, "X-Test-User", "carol"); status != 200 || !v.Admin || v.Name != "carol" {
			t.Errorf("carol: %d %+v", status, v)
		}
		for _, other := range [][]string{{"X-Test-User", "dave"}, nil} {
			if status, v := me(t, url, other...); status != 401 {
				t.Errorf("%v: %d %+v", other, status, v)
			}
		}
		forged := newRequest(t, http.MethodPost, url+"/dashboard/data/keys", `{"name":"x"}`, "X-Test-User", "carol", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		if res := send(t, forged); res.StatusCode != http.StatusForbidden {
			t.Errorf("from another site: %d", res.StatusCode)
		}
	})
}

// follow opens the stream of events and returns a function that waits for an event.
func follow(t *testing.T, url, secret string) func(name string) string {
	t.Helper()
	res := send(t, newRequest(t, http.MethodGet, url+"/dashboard/data/events", "", bearer(secret)...))
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode)
	}
	lines := bufio.NewReader(res.Body)
	return func(name string) string {
		t.Helper()
		for found := false; ; {
			line, err := lines.ReadString('\n')
			if err == io.EOF && name == "the end" {
				return ""
			} else if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok && found {
				return data
			}
			found = line == "event: "+name+"\n"
		}
	}
}

// An admin's page shows every request as it ends, that of another key its own only.
func TestDashboardEvents(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	url := run(t, keyedSite)
	all, own := follow(t, url, "secret-ops"), follow(t, url, "secret-alice")
	for _, who := range []string{"secret-bob", "secret-alice"} {
		if res, body := post(t, url, question("echo", secretPrompt), bearer(who)...); res.StatusCode != 200 {
			t.Fatal(body)
		}
	}
	keysIn := func(next func(string) string, want int) (names string) {
		for n := 0; n < want; {
			data := next("status")
			var s overview.Snapshot
			if err := json.Unmarshal([]byte(data), &s); err != nil {
				t.Fatal(err)
			}
			for _, r := range s.Requests {
				names += r.Key + " "
				n++
			}
			if strings.Contains(data, secretPrompt) {
				t.Error("the prompt is shown")
			}
		}
		return names
	}
	if got := keysIn(all, 2); got != "bob alice " && got != "alice bob " {
		t.Errorf("an admin sees %s", got)
	}
	if got := keysIn(own, 1); got != "alice " {
		t.Errorf("alice sees %s", got)
	}
	for {
		spend := own("spend")
		if strings.Contains(spend, "bob") {
			t.Errorf("alice sees what bob spent: %s", spend)
		}
		if strings.Contains(spend, `"alice"`) {
			break
		}
	}
}

// An admin creates a key, which can sign in at once, rotates it and revokes it, which ends the pages that it has opened.
func TestDashboardKeys(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	url := run(t, keyedSite)
	call := func(method, path, body, secret string) (int, string) {
		res := send(t, newRequest(t, method, url+"/dashboard/data/keys"+path, body, bearer(secret)...))
		return res.StatusCode, text(t, res)
	}
	created := func(method, path, body string) string {
		t.Helper()
		code, answer := call(method, path, body, "secret-ops")
		var key struct {
			Plain string `json:"plain_secret"`
		}
		if err := json.Unmarshal([]byte(answer), &key); err != nil || code != 200 || key.Plain == "" {
			t.Fatal(code, answer)
		}
		return key.Plain
	}
	first := created("POST", "", `{"name":"carol","rate":["60/m"]}`)
	if status, v := me(t, url, bearer(first)...); status != 200 || v.Name != "carol" {
		t.Errorf("the new key: %d %+v", status, v)
	}
	if code, _ := call("DELETE", "/carol", "", first); code != 403 {
		t.Errorf("carol revokes a key: %d", code)
	}
	second := created("POST", "/carol/rotate", "")
	if status, _ := me(t, url, bearer(first)...); status != 401 {
		t.Errorf("the old secret: %d", status)
	}
	next := follow(t, url, second)
	next("status")
	if code, list := call("GET", "", "", "secret-ops"); code != 200 || !strings.Contains(list, "carol") || strings.Contains(list, "sha256") {
		t.Errorf("the list: %d %s", code, list)
	}
	if code, answer := call("POST", "", `{"name":"no spaces"}`, "secret-ops"); code != 400 || !strings.Contains(answer, `"message"`) {
		t.Errorf("an invalid name: %d %s", code, answer)
	}
	if code, answer := call("DELETE", "/carol", "", "secret-ops"); code != 200 {
		t.Errorf("revoking: %d %s", code, answer)
	}
	next("signed_out")
	next("the end")
}

// A page that is open does not keep Caddy from ending, or an old configuration alive.
func TestDashboardEndsWithItsConfiguration(t *testing.T) {
	caddyfile, url := site(t, keyedSite)
	if err := load(t, strings.Replace(caddyfile, "grace_period 2s", "grace_period 1m", 1)); err != nil {
		t.Fatal(err)
	}
	next := follow(t, url, "secret-ops")
	next("status")
	stop(t)
	next("the end")
}

// Where the page is can be written in each of the ways in which Caddy writes paths.
func TestDashboardPaths(t *testing.T) {
	for line, path := range map[string]string{
		"llm_dashboard": "/dashboard/", "llm_dashboard /status": "/status/", "llm_dashboard /status/*": "/status/", "llm_dashboard /a/b*": "/a/b/",
		"llm_dashboard *": "/dashboard/", "@here path /dashboard/*\n\tllm_dashboard @here": "/dashboard/",
		"handle_path /ops/* {\n\t\tllm_dashboard\n\t}": "/ops/dashboard/",
	} {
		t.Run(line, func(t *testing.T) {
			url := run(t, "\t"+line)
			if code, body := get(t, url+path); code != 200 || !strings.Contains(body, "main.js") {
				t.Errorf("%d %s", code, body)
			}
			res := send(t, newRequest(t, http.MethodGet, url+strings.TrimSuffix(path, "/"), ""))
			if got := res.Request.URL.Path; !strings.HasPrefix(line, "@") && got != path {
				t.Errorf("without the slash, it is at %s", got)
			}
		})
	}
}

func TestDashboardMistakes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"llm_dashboard a":                       "use one path",
		"llm_dashboard /a /b":                   "use one path",
		"llm_dashboard /a?b":                    "path: invalid path",
		"llm_dashboard {\n\t\tapi\n\t}":         "api: missing value",
		"llm_dashboard {\n\t\tadmin carol\n\t}": "unknown subdirective \"admin\" of llm_dashboard",
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":8080 {\n\t"+line+"\n}\n"), map[string]any{"filename": "Caddyfile"})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
