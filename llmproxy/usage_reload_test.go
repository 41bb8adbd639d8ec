package llmproxy

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const echo = "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t}"

// Two reloads under traffic, and one that takes llm_proxy away under an open stream: everything is counted.
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
	slow := openSlow(t, url)
	const clients, each = 4, 100
	var traffic sync.WaitGroup
	var answered atomic.Int64
	for range clients {
		traffic.Go(func() {
			for range each {
				if hello(url) == nil { // connections that are about to be accepted are reset by a reload
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
			t.Error("a reload opened the ledger anew")
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
	if _, err := io.Copy(io.Discard, slow.Body); err != nil {
		t.Error(err)
	}
	waitForClosed(t, filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db"))
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"m": answered.Load(), "slow": 1}, used(t)); diff != "" {
		t.Error("opened again:", diff)
	}
}

// waitForClosed waits until the last request has let go of the ledger.
func waitForClosed(t *testing.T, path string) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l := ledger.New(ledger.Config{Path: path})
		_, err := l.Query(ledger.Query{})
		if closing := l.Close(); err == nil && closing == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("nobody closed the ledger: ", err)
		}
	}
}

// openSlow begins a stream that is held.
func openSlow(t *testing.T, url string) *http.Response {
	t.Helper()
	res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"slow","stream":true,"messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return res
}

// hello asks on a connection of its own: those that are kept see nothing of a reload.
func hello(url string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %w", res.StatusCode, err)
	}
	return nil
}

func inPool() (list []*ledger.Ledger) {
	state.Each(state.Ledgers, func(_ any, l state.UsageLedger) { list = append(list, l.(*ledger.Ledger)) })
	return list
}

func ledgerInUse(t *testing.T) *ledger.Ledger {
	t.Helper()
	list := inPool()
	if len(list) != 1 {
		t.Fatalf("%d ledgers are in use", len(list))
	}
	return list[0]
}

// `caddy validate` leaves nothing behind.
func TestValidatingKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	caddyfile, _ := site(t, echo)
	validate(t, caddyfile)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			t.Errorf("%s was made", path)
		}
		return err
	})
	if err != nil || len(inPool()) != 0 {
		t.Errorf("%v, %d ledgers are in use", err, len(inPool()))
	}
}

// Two Caddys with one data directory: the second one serves, and says why it cannot tell what was used.
func TestAnotherProcessHasTheLedger(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	path := filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db")
	another := ledger.New(ledger.Config{Path: path})
	if err := another.SaveNow("keys", "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	caddyfile, url := site(t, echo)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if err := hello(url); err != nil {
		t.Error(err)
	}
	if status, body := callAdmin("GET", "/llm_proxy/usage", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, path+" is in use by another process") {
		t.Errorf("status %d: %s", status, body)
	}
	if err := another.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"m": 1}, used(t)); diff != "" {
		t.Error("once the other one has ended:", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
