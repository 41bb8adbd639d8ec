package llmproxy

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const echo = "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t}"

// All requests are counted during two reloads, and an open stream is counted although a reload removed llm_proxy.
func TestUsageSurvivesReloads(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	release := make(chan struct{})
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	inside := strings.Replace(echo, "model m", "upstream slow openai "+fake.URL()+"\n\t\tmodel slow slow\n\t\tmodel m", 1)
	caddyfile, url := site(t, inside)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	slow := ask(t, url, "slow", true).Body
	if _, err := io.ReadFull(slow, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	const clients, each = 4, 100
	var traffic sync.WaitGroup
	var answered atomic.Int64
	for range clients {
		traffic.Go(func() {
			for range each {
				if tryHello(url) == nil { // a reload resets connections that are about to be accepted
					answered.Add(1)
				}
			}
		})
	}
	first := ledgerInUse(t)
	for i := range 2 {
		if err := load(t, strings.Replace(caddyfile, "model m", fmt.Sprintf("model new%d echo\n\t\tmodel m", i), 1)); err != nil {
			t.Fatal(err)
		}
		if ledgerInUse(t) != first {
			t.Error("a reload opened another ledger")
		}
	}
	traffic.Wait()
	if n := answered.Load(); n < clients*each/2 {
		t.Errorf("only %d requests were answered", n)
	}
	if diff := cmp.Diff(map[string]int64{"m": answered.Load()}, used(t)); diff != "" {
		t.Error(diff)
	}
	if err := load(t, strings.Replace(caddyfile, inside, "\trespond gone", 1)); err != nil {
		t.Fatal(err)
	}
	close(release)
	if _, err := io.Copy(io.Discard, slow); err != nil {
		t.Error(err)
	}
	eventually(t, "the last request does not close the ledger", func() bool {
		l := ledger.New(ledger.Config{Path: ledgerPath()})
		_, err := l.Query(ledger.Query{})
		return l.Close() == nil && err == nil
	})
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"m": answered.Load(), "slow": 1}, used(t)); diff != "" {
		t.Error("after a restart:", diff)
	}
}

// If another process uses the data directory, requests are served, and the admin API says why it cannot show the usage.
func TestLedgerInUseByAnotherProcess(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	another := ledger.New(ledger.Config{Path: ledgerPath()})
	if err := another.SaveNow("keys", "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	url := run(t, echo)
	if err := tryHello(url); err != nil {
		t.Error(err)
	}
	if status, body := callAdmin("GET", "/llm_proxy/usage", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, ledgerPath()+" is in use by another process") {
		t.Errorf("status %d: %s", status, body)
	}
	if err := another.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"m": 1}, used(t)); diff != "" {
		t.Error("after the other process exited:", diff)
	}
	if info, err := os.Stat(ledgerPath()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A second Caddy on one data directory serves the keys of its configuration, and says of others why it cannot know them. When the first
// one has exited, it knows all.
func TestKeysInUseByAnotherProcess(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	another := ledger.New(ledger.Config{Path: ledgerPath()})
	if err := another.SaveNow("keys", "all", []byte(`{"keys":[{"name":"bob","secret":"`+keys.Digest("bobs-secret")+`"}]}`)); err != nil {
		t.Fatal(err)
	}
	logs := logsOf(t, "\tllm_proxy {\n\t\tupstream e echo\n\t\tmodel m e\n\t\tkey alice alices-secret\n\t}", func(url string) {
		if got := status(t, url, "alices-secret"); got != http.StatusOK {
			t.Errorf("the configured key: status %d", got)
		}
		if got := status(t, url, ""); got != http.StatusUnauthorized {
			t.Errorf("no key: status %d", got)
		}
		code, body := get(t, url+"/v1/models", "Authorization", "Bearer bobs-secret")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "cannot read the keys that are stored on its machine") || strings.Contains(body, "shares") {
			t.Errorf("the stored key: status %d: %s", code, body)
		}
		if err := another.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stored key is not known", func() bool { return status(t, url, "bobs-secret") == http.StatusOK })
		if got := status(t, url, "wrong"); got != http.StatusUnauthorized {
			t.Errorf("an unknown key afterwards: status %d", got)
		}
	})
	if n := strings.Count(logs, "cannot read the stored keys; the keys of the configuration are valid"); n != 1 || !strings.Contains(logs, "give each Caddy a data directory of its own") {
		t.Errorf("%d lines in the log say what is wrong: %s", n, logs)
	}
}

// tryHello sends a chat request to the model m.
func tryHello(url string) error {
	status, err := tryToPost(url, question("m", "Hi"), 0)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

func ledgerPath() string { return filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db") }

// ledgerInUse returns the only ledger that handlers use.
func ledgerInUse(t *testing.T) (l *ledger.Ledger) {
	t.Helper()
	if n := state.Ledgers.Len(); n != 1 {
		t.Fatalf("%d ledgers are in use", n)
	}
	state.Each(state.Ledgers, func(_ any, u state.UsageLedger) { l = u.(*ledger.Ledger) })
	return l
}
