package llmproxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"                // basic_auth
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth" // forward_auth
)

func TestUsersOfAnotherHandler(t *testing.T) {
	caddyfile, url := site(t, `	route {
		map {path} {http.auth.user.id} {
			default carol
		}
		llm_proxy {
			upstream u echo
			user carol
		}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if got := status(t, url, ""); got != 200 {
		t.Errorf("carol: status %d", got)
	}
}

// The user is whom Caddy's basic_auth has made sure of.
func TestUsersOfBasicAuth(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	const hash = "$2a$10$wVb/JSCAHHsAGjbMiA9KLukyWwr48UGyAguTXTxJPuTKrglyDEy9S" // of "word", at a low cost
	caddyfile, url := site(t, "\tbasic_auth {\n\t\tcarol "+hash+"\n\t\tdave "+hash+"\n\t}\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel x u\n\t\tuser carol {\n\t\t\trate 1/d\n\t\t}\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		user, word string
		status     int
	}{{"carol", "word", 200}, {"carol", "wrong", 401}, {"dave", "word", 401}, {"carol", "word", 429}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"x","messages":[{"role":"user","content":"Hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(test.user, test.word)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != test.status {
			t.Errorf("%d: %s: status %d, want %d", i, test.user, res.StatusCode, test.status)
		}
	}
}

// The user is whom the service behind forward_auth names in a header, and nobody whom the client does.
func TestUsersOfForwardAuth(t *testing.T) {
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("session"); err == nil {
			w.Header().Set("Remote-User", cookie.Value)
		}
	}))
	defer authority.Close()
	caddyfile, url := site(t, "\tforward_auth "+authority.Listener.Addr().String()+` {
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
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for session, want := range map[string]int{"carol": 200, "dave": 401, "": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Remote-User", "carol")
		if session != "" {
			req.AddCookie(&http.Cookie{Name: "session", Value: session})
		}
		res := send(t, req)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q: status %d, want %d", session, res.StatusCode, want)
		}
	}
}
