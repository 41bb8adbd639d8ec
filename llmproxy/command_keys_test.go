package llmproxy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// runKeys runs caddy llm-key.
func runKeys(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "llm-key", SilenceUsage: true, SilenceErrors: true}
	for _, c := range admin.Commands() {
		if c.Name == "llm-key" {
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

// adminServer answers as Caddy's admin endpoint does, and gives its address.
func adminServer(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range (admin.API{}).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				code := http.StatusInternalServerError
				if failure, ok := err.(caddy.APIError); ok {
					code = failure.HTTPStatus
				}
				http.Error(w, err.Error(), code)
			}
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// The life of a key, in the running Caddy and in a file.
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
				out, err := runKeys(t, append(args, test.where...)...)
				if err != nil {
					t.Fatalf("%v: %v: %s", args, err, out)
				}
				if name == "file" {
					theStore(t, file).Refresh() // what the running Caddy does every two seconds
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
			if out, err := runKeys(t, append(append([]string{"create", "alice"}, test.create...), test.where...)...); err == nil {
				t.Errorf("a key was made twice: %s", out)
			}
			second := run("rotate", "alice")
			if status(t, url, first) != 401 || status(t, url, second) != 200 {
				t.Error("a rotated key: the old secret is good, or the new one is not")
			}
			run("revoke", "alice")
			if got := status(t, url, second); got != 401 {
				t.Errorf("a revoked key: status %d", got)
			}
			if out, err := runKeys(t, append([]string{"revoke", "alice"}, test.where...)...); err == nil {
				t.Errorf("a key that is gone was revoked: %s", out)
			}
		})
	}
}

// What create prints is a line that loads, for a secret that is good.
func TestCreatePrintsALine(t *testing.T) {
	out, err := runKeys(t, "create", "alice", "--models", "auto", "--concurrent", "2", "--tags", "a,team b,{c}", "--expires", "2999-12-31", "--local-only", "--priority", "low", "--tokens", "1M/d")
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
	list, err := runKeys(t, "list", "--address", adminServer(t))
	if err != nil || strings.Count(list, "alice") != 1 || !strings.Contains(list, "low       2999-12-31  configuration\n") || strings.Contains(list, "sha256") {
		t.Errorf("%v: the list is %s", err, list)
	}
	for _, args := range [][]string{
		{"create"}, {"create", "bob", "--rate", "fast"}, {"create", "bob", "--priority", "critical"}, {"create", "two words"}, {"rotate"},
		{"create", "bob", "--rate", "1/m,2/m"}, {"create", "bob", "--expires", "2020-01-01"},
		{"create", "bob", "--running", "--keys-file", "x.json"}, {"list", "--keys-file", "x.json"},
	} {
		if out, err := runKeys(t, args...); err == nil {
			t.Errorf("%v was taken: %s", args, out)
		}
	}
}
