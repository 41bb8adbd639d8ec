package llmproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.etcd.io/bbolt"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
)

// Caddy is killed 50 times while commands change keys and clients send requests. No key is lost, the ledger is never corrupt, and
// at most one second of usage is lost.
func TestKilledCaddyKeepsItsState(t *testing.T) {
	for name, store := range map[string]string{"keys in the ledger": "require_key", "keys in a file": "keys_file FOLDER/keys.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChild(t, store)
			c.start()
			for i := range 25 {
				life := rand.N(250 * time.Millisecond)
				if i%5 == 4 { // long enough that some requests must not be lost
					life = 1200*time.Millisecond + rand.N(600*time.Millisecond)
				}
				c.useAndKill(life)
				c.checkLedgerFile()
				c.start()
				c.checkKeys()
				c.checkUsage()
			}
			for name, secret := range c.secrets {
				if !c.get(c.url+"/v1/models", secret, nil) {
					t.Errorf("key %s is not valid any more", name)
				}
			}
			for name, secret := range c.revoked {
				if c.get(c.url+"/v1/models", secret, nil) {
					t.Errorf("key %s is valid, but was revoked", name)
				}
			}
			if err := c.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			<-c.exited
			t.Logf("kept %d requests, $%d of the budget, %d keys and %d revocations; the slowest change took %s", c.requests, c.spent, len(c.secrets), len(c.revoked), c.slowest)
			if c.requests == 0 || len(c.secrets) == 0 || len(c.revoked) == 0 {
				t.Error("each Caddy was killed before it did anything")
			}
		})
	}
}

// childConfig is the environment variable that makes the test program a Caddy. Its value is the path of a Caddyfile.
const childConfig = "LLM_PROXY_TEST_CADDYFILE"

// runChild runs Caddy instead of the tests.
func runChild(caddyfile string) {
	os.Args = []string{"caddy", "run", "--adapter", "caddyfile", "--config", caddyfile}
	caddycmd.Main()
}

// A child is a Caddy that is killed and started again with the same data directory.
type child struct {
	*testing.T
	folder, url, admin string
	cmd                *exec.Cmd
	output             strings.Builder
	exited             chan struct{}

	secrets map[string]string // of the keys that exist, by name
	revoked map[string]string // the last secrets of revoked keys
	pending string            // the command without an answer when Caddy was killed, and its key
	began   time.Time         // when the last command began
	slowest time.Duration     // command, including pending ones
	served  []time.Time       // when requests were answered since the last start
	killed  time.Time

	requests, spent int64 // in the ledger and of the budget after the last start
}

// maxReserved is what a request reserves of the budget in dollars, at most. It uses one dollar.
const maxReserved = 20

func newChild(t *testing.T, store string) *child {
	c := &child{T: t, folder: t.TempDir(), secrets: map[string]string{}, revoked: map[string]string{}}
	c.url, c.admin = "http://"+freeport.Address(t), freeport.Address(t)
	caddyfile := "{\n\tadmin " + c.admin + "\n\tpersist_config off\n\tauto_https off\n}\n" + c.url + " {\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n" +
		"\t\tprice u/x 1000000 0\n\t\tkey user sk-user {\n\t\t\tbudget $1000000/30d\n\t\t}\n\t\t" + store + "\n\t}\n}\n"
	caddyfile = strings.ReplaceAll(caddyfile, "FOLDER", c.folder)
	if err := os.WriteFile(filepath.Join(c.folder, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// start starts Caddy and waits until it answers.
func (c *child) start() {
	c.Helper()
	c.output.Reset()
	c.cmd, c.exited = exec.Command(os.Args[0]), make(chan struct{})
	c.cmd.Env = append(os.Environ(), childConfig+"="+filepath.Join(c.folder, "Caddyfile"), "XDG_DATA_HOME="+c.folder, "XDG_CONFIG_HOME="+c.folder, "HOME="+c.folder)
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	go func() {
		c.cmd.Wait() //nolint:errcheck // it is killed
		close(c.exited)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !c.get("http://"+c.admin+"/llm_proxy/keys", "", nil) || !c.get(c.url+"/v1/models", "sk-user", nil) {
		select {
		case <-tick.C:
		case <-c.exited:
			c.Fatalf("Caddy exited: %s", c.output.String())
		}
	}
}

// get decodes the answer at a URL. It reports false without one.
func (c *child) get(url, secret string, into any) bool {
	return c.do(http.MethodGet, url, secret, "", into)
}

func (c *child) do(method, url, secret, body string, into any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		c.Error(err)
		return false
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	if into != nil && res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			return false
		}
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK
}

// useAndKill changes keys with commands and sends requests at the same time, and kills Caddy after a while.
func (c *child) useAndKill(after time.Duration) {
	c.served, c.pending = nil, ""
	var clients sync.WaitGroup
	clients.Go(func() {
		for i := 0; c.changeKey(i); i++ {
		}
	})
	clients.Go(func() {
		for c.do(http.MethodPost, c.url+"/v1/chat/completions", "sk-user", question("m", "Hi"), nil) {
			c.served = append(c.served, time.Now())
		}
	})
	life := time.NewTimer(after)
	defer life.Stop()
	<-life.C
	c.killed = time.Now()
	if err := c.cmd.Process.Kill(); err != nil {
		c.Error(err)
	}
	clients.Wait()
	<-c.exited
	if c.pending != "" {
		c.slowest = max(c.slowest, c.killed.Sub(c.began))
	}
	if out := c.output.String(); strings.Contains(out, `"level":"error"`) {
		c.Errorf("Caddy logged an error: %s", out)
	}
}

// changeKey creates a key, rotates it, or revokes every other one, depending on i. It reports false if Caddy does not answer.
func (c *child) changeKey(i int) bool {
	name := fmt.Sprintf("%d-%d", c.cmd.Process.Pid, i/3)
	args := []string{"create", name, "--rate", "60/m", "--running"}
	switch i % 3 {
	case 1:
		args = []string{"rotate", name}
	case 2:
		if i%2 == 0 {
			return true
		}
		args = []string{"revoke", name}
	}
	c.pending, c.began = args[0]+" "+name, time.Now()
	out, err := runCommand(c.T, "llm-key", append(args, "--address", c.admin)...)
	if err != nil {
		return false
	}
	c.pending, c.slowest = "", max(c.slowest, time.Since(c.began))
	if args[0] == "revoke" {
		c.revoked[name] = c.secrets[name]
		delete(c.secrets, name)
		return true
	}
	c.secrets[name] = strings.TrimSpace(out)
	return true
}

func (c *child) checkLedgerFile() {
	c.Helper()
	db, err := bbolt.Open(filepath.Join(c.folder, "caddy", "llm_proxy", "ledger.db"), 0o600, &bbolt.Options{ReadOnly: true})
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.Log("Caddy was killed before it wrote the ledger")
		return
	case err != nil:
		c.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			c.Errorf("the ledger is corrupt: %v", err)
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		c.Error(err)
	}
}

func (c *child) checkKeys() {
	c.Helper()
	var list []admin.Key
	if !c.get("http://"+c.admin+"/llm_proxy/keys", "", &list) {
		c.Fatal("the admin API does not list the keys")
	}
	exists := map[string]bool{}
	for _, k := range list {
		exists[k.Name] = true
		if _, gone := c.revoked[k.Name]; gone {
			c.Errorf("key %s exists, but was revoked", k.Name)
		}
	}
	for name := range c.secrets {
		if !exists[name] && c.pending != "revoke "+name {
			c.Errorf("key %s is lost", name)
		}
	}
	_, name, _ := strings.Cut(c.pending, " ")
	delete(c.secrets, name) // the change may have been made or not
}

// checkUsage checks that usage which was a second old is not lost. If the disk takes longer than half a second for a change, it may
// be older by that time.
func (c *child) checkUsage() {
	c.Helper()
	allowed, safe := max(time.Second, 500*time.Millisecond+2*c.slowest), int64(0)
	for _, at := range c.served {
		if c.killed.Sub(at) > allowed {
			safe++
		}
	}
	served := int64(len(c.served))
	requests, spent := c.countRequests(), c.countSpent()
	if requests < c.requests+safe || requests > c.requests+served+1 {
		c.Errorf("the ledger has %d requests after %d before and %d new ones; %d of these must not be lost", requests, c.requests, served, safe)
	}
	if spent < c.spent+safe || spent > c.spent+served+maxReserved {
		c.Errorf("$%d of the budget are spent after $%d before and $%d new ones; $%d of these must not be lost", spent, c.spent, served, safe)
	}
	c.requests, c.spent = requests, spent
}

// countRequests returns the number of requests in the ledger.
func (c *child) countRequests() int64 {
	c.Helper()
	var answer admin.Usage
	if !c.get("http://"+c.admin+"/llm_proxy/usage", "", &answer) {
		c.Fatal("the admin API does not show the usage")
	}
	for _, row := range answer.Rows {
		if row.Key == "user" {
			return row.Requests
		}
	}
	return 0
}

// countSpent returns how much of the budget is spent, in dollars.
func (c *child) countSpent() int64 {
	c.Helper()
	var answer struct {
		Limits []struct{ Limit, Left float64 }
	}
	if !c.get(c.url+"/llm/usage", "sk-user", &answer) || len(answer.Limits) != 1 {
		c.Fatalf("/llm/usage does not show the budget: %+v", answer)
	}
	return int64(answer.Limits[0].Limit - answer.Limits[0].Left)
}
