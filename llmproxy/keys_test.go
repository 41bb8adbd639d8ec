package llmproxy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// status asks the site for its models.
func status(t *testing.T, url, secret string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res := send(t, req)
	res.Body.Close()
	return res.StatusCode
}

func TestKeysOfTheConfiguration(t *testing.T) {
	t.Setenv("BOB_KEY", "bobs-secret")
	logFile := filepath.Join(t.TempDir(), "access.log")
	caddyfile, url := site(t, `	log {
		output file `+logFile+`
	}
	llm_proxy {
		upstream u echo
		key alice alices-secret {
			tags team-a
		}
		key bob {env.BOB_KEY}
		key carol sk-{env.BOB_KEY}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{"alices-secret": 200, "bobs-secret": 200, "sk-bobs-secret": 200, "sk-{env.BOB_KEY}": 401, "": 401, "{env.BOB_KEY}": 401} {
		if got := status(t, url, secret); got != want {
			t.Errorf("%q: status %d, want %d", secret, got, want)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"user_id":"alice"`, `"key":"alice","tags":["team-a"]`, `"user_id":"bob"`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("%s is not in the access log: %s", want, log)
		}
	}
	if strings.Contains(string(log), "-secret") {
		t.Error("a key stands in the log")
	}
}

func TestKeysFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one := func(name string) string {
		return `{"name":"` + name + `","secret":"` + keys.Digest("secret-"+name) + `"}`
	}
	write(`{"keys":[` + one("alice") + `]}`)
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tkeys_file "+file+"\n\t\tkey inline secret-inline\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if n := state.KeyStores.References(file); n != 1 {
		t.Fatalf("%d references to the file", n)
	}
	expect := func(when string, want map[string]int) {
		t.Helper()
		for name, code := range want {
			if got := status(t, url, "secret-"+name); got != code {
				t.Errorf("%s: %s: status %d, want %d", when, name, got, code)
			}
		}
	}
	expect("at first", map[string]int{"alice": 200, "inline": 200, "bob": 401})
	v := theStore(t, file)
	write(`{"keys":[` + one("bob") + `]}`)
	v.Refresh()
	expect("after a change", map[string]int{"alice": 401, "inline": 200, "bob": 200})
	write(`{"keys":[` + one("alice"))
	v.Refresh()
	expect("while it is broken", map[string]int{"alice": 401, "inline": 200, "bob": 200})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	v.Refresh()
	expect("while it is gone", map[string]int{"alice": 401, "inline": 200, "bob": 200})
	write("")
	v.Refresh()
	expect("while it is empty", map[string]int{"alice": 401, "inline": 200, "bob": 200})
	write(`{"keys":[` + one("inline") + `]}`)
	v.Refresh()
	expect("while it has a name of the configuration", map[string]int{"inline": 200, "bob": 200})
	if err := v.Change(func(list []*keys.Entry) ([]*keys.Entry, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	expect("when it has no keys", map[string]int{"inline": 200, "bob": 401, "": 401})
}

// A key that the configuration gets while Caddy is down does not shut out those that Caddy keeps.
func TestKeptKeysBesideTheConfiguration(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	directive := func(more string) (caddyfile, url string) {
		return site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n"+more+"\t}")
	}
	caddyfile, _ := directive("")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		if code, answer := callAdmin("POST", "/llm_proxy/keys", `{"name":"`+name+`","secret":"`+keys.Digest("kept-"+name)+`"}`); code != 200 {
			t.Fatal(answer)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	caddyfile, url := directive("\t\tkey alice written-alice\n")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{"kept-alice": 401, "written-alice": 200, "kept-bob": 200} {
		if got := status(t, url, secret); got != want {
			t.Errorf("%s: status %d, want %d", secret, got, want)
		}
	}
	if err := load(t, caddyfile); err == nil || !strings.Contains(err.Error(), `duplicate key "alice"`) {
		t.Errorf("a reload: %v", err)
	}
}

// theStore is a key store that a loaded handler holds.
func theStore(t *testing.T, name string) *keystore.Store {
	t.Helper()
	for _, s := range keystore.All() {
		if s.Name() == name {
			return s
		}
	}
	t.Fatalf("no key store %q", name)
	return nil
}

func TestKeysFileMayComeLater(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tkeys_file "+file+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if got := status(t, url, "x"); got != 401 {
		t.Errorf("without the file: status %d", got)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := load(t, caddyfile); err == nil || !strings.Contains(err.Error(), "invalid key file") {
		t.Errorf("a broken file at the start: %v", err)
	}
}
