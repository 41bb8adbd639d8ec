package llmproxy

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

func TestKeysOfTheConfiguration(t *testing.T) {
	t.Setenv("BOB_KEY", "bobs-secret")
	logs := logsOf(t, `	llm_proxy {
		upstream u echo
		key alice alices-secret {
			tags team-a
		}
		key bob {env.BOB_KEY}
		key carol sk-{env.BOB_KEY}
	}`, func(url string) {
		for secret, want := range map[string]int{"alices-secret": 200, "bobs-secret": 200, "sk-bobs-secret": 200, "sk-{env.BOB_KEY}": 401, "": 401, "{env.BOB_KEY}": 401} {
			if got := status(t, url, secret); got != want {
				t.Errorf("%q: status %d, want %d", secret, got, want)
			}
		}
	})
	for _, want := range []string{`"user_id":"alice"`, `"key":"alice","tags":["team-a"]`, `"user_id":"bob"`} {
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the access log: %s", want, logs)
		}
	}
	if strings.Contains(logs, "-secret") {
		t.Error("a secret is in the log")
	}
}

// The keys of a file follow its changes. While it is missing or invalid, the previous keys stay valid.
func TestKeysFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name string) string {
		return `{"name":"` + name + `","secret":"` + keys.Digest("secret-"+name) + `"}`
	}
	write(`{"keys":[` + entry("alice") + `]}`)
	url := run(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tkeys_file "+file+"\n\t\tkey inline secret-inline\n\t}")
	if n := state.KeyStores.References(file); n != 1 {
		t.Fatalf("%d handlers use the file", n)
	}
	store := theStore(t, file)
	expect := func(when string, want map[string]int) {
		t.Helper()
		store.Refresh()
		for name, code := range want {
			if got := status(t, url, "secret-"+name); got != code {
				t.Errorf("%s, %s: status %d, want %d", when, name, got, code)
			}
		}
	}
	expect("at first", map[string]int{"alice": 200, "inline": 200, "bob": 401})
	write(`{"keys":[` + entry("bob") + `]}`)
	bobs := map[string]int{"alice": 401, "inline": 200, "bob": 200}
	expect("after a change", bobs)
	write(`{"keys":[` + entry("alice"))
	expect("while the file is truncated", bobs)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("while the file is missing", bobs)
	write("")
	expect("while the file is empty", bobs)
	write(`{"keys":[` + entry("inline") + `]}`)
	expect("while the file has the name of a configured key", bobs)
	if err := store.Change(func([]*keys.Entry) ([]*keys.Entry, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	expect("without keys in the file", map[string]int{"inline": 200, "bob": 401, "": 401})
}

// A keys_file need not exist when Caddy starts, but must not be invalid.
func TestKeysFileAtTheStart(t *testing.T) {
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
	stop(t)
	if err := load(t, caddyfile); err == nil || !strings.Contains(err.Error(), "invalid key file") {
		t.Errorf("with an invalid file: %v", err)
	}
}

// If the configuration gains a key of the same name as a stored one while Caddy is down, the other stored keys stay valid.
func TestStoredKeyConflictsWithConfiguration(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	directive := func(more string) (caddyfile, url string) {
		return site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n"+more+"\t}")
	}
	caddyfile, _ := directive("")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		if code, answer := callAdmin("POST", "/llm_proxy/keys", `{"name":"`+name+`","secret":"`+keys.Digest("stored-"+name)+`"}`); code != 200 {
			t.Fatal(answer)
		}
	}
	stop(t)
	caddyfile, url := directive("\t\tkey alice configured-alice\n")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{"stored-alice": 401, "configured-alice": 200, "stored-bob": 200} {
		if got := status(t, url, secret); got != want {
			t.Errorf("%s: status %d, want %d", secret, got, want)
		}
	}
	if err := load(t, caddyfile); err == nil || !strings.Contains(err.Error(), `duplicate key "alice"`) {
		t.Errorf("a reload: %v", err)
	}
}

// theStore returns the key store of that name, which a loaded handler uses.
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

// Any handler can authenticate a user by setting {http.auth.user.id}.
func TestUserFromAnyHandler(t *testing.T) {
	url := run(t, `	route {
		map {path} {http.auth.user.id} {
			default carol
		}
		llm_proxy {
			upstream u echo
			user carol
		}
	}`)
	if got := status(t, url, ""); got != 200 {
		t.Errorf("status %d", got)
	}
}

func TestUserFromBasicAuth(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	const hash = "$2a$10$wVb/JSCAHHsAGjbMiA9KLukyWwr48UGyAguTXTxJPuTKrglyDEy9S" // of "word", at a low cost
	url := run(t, "\tbasic_auth {\n\t\tcarol "+hash+"\n\t\tdave "+hash+"\n\t}\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel x u\n\t\tuser carol {\n\t\t\trate 1/d\n\t\t}\n\t}")
	for i, test := range []struct {
		user, password string
		status         int
	}{{"carol", "word", 200}, {"carol", "wrong", 401}, {"dave", "word", 401}, {"carol", "word", 429}} {
		req := newRequest(t, http.MethodPost, url+"/v1/chat/completions", question("x", "Hi"))
		req.SetBasicAuth(test.user, test.password)
		if res := send(t, req); res.StatusCode != test.status {
			t.Errorf("request %d, %s: status %d, want %d", i, test.user, res.StatusCode, test.status)
		}
	}
}

// The service behind forward_auth names the user. A client that sends the same header cannot.
func TestUserFromForwardAuth(t *testing.T) {
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("session"); err == nil {
			w.Header().Set("Remote-User", cookie.Value)
		}
	}))
	defer authority.Close()
	url := run(t, "\tforward_auth "+authority.Listener.Addr().String()+` {
		uri /verify
		copy_headers Remote-User
	}
	map {header.Remote-User} {http.auth.user.id} {
		default {header.Remote-User}
	}
	llm_proxy {
		upstream u echo
		user carol
	}`)
	for session, want := range map[string]int{"carol": 200, "dave": 401, "": 401} {
		header := []string{"Remote-User", "carol"}
		if session != "" {
			header = append(header, "Cookie", "session="+session)
		}
		if got, _ := get(t, url+"/v1/models", header...); got != want {
			t.Errorf("session %q: status %d, want %d", session, got, want)
		}
	}
}
