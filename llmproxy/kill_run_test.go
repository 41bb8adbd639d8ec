package llmproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// childConfig is set for the Caddy that is to be killed: its Caddyfile.
const childConfig = "LLM_PROXY_TEST_CADDYFILE"

// runChild makes this process a Caddy.
func runChild(caddyfile string) {
	os.Args = []string{"caddy", "run", "--adapter", "caddyfile", "--config", caddyfile}
	caddycmd.Main()
}

// A doomed Caddy is killed again and again, and started again on what it has left behind.
type doomed struct {
	*testing.T
	folder, url, admin string
	cmd                *exec.Cmd
	output             strings.Builder
	ended              chan struct{}

	secrets map[string]string // of the keys that are there, by their names: the command has said so
	revoked map[string]string // of those that are not any more
	unsaid  string            // the command that was not answered when the process died, and its key
	asking  time.Time         // when it was given
	slowest time.Duration     // change, the one that was not answered included
	served  []time.Time       // the requests of this life
	killed  time.Time
	before  int64 // those of the lives before, as the ledger has them
	spent   int64 // of the budget
}

// reserved is what a request reserves of the budget at most, and uses one of.
const reserved = 20

func newDoomed(t *testing.T, kept string) *doomed {
	d := &doomed{T: t, folder: t.TempDir(), secrets: map[string]string{}, revoked: map[string]string{}}
	d.url, d.admin = "http://"+freeAddress(t), freeAddress(t)
	caddyfile := "{\n\tadmin " + d.admin + "\n\tpersist_config off\n\tauto_https off\n}\n" + d.url + " {\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n" +
		"\t\tprice u/x 1000000 0\n\t\tkey user sk-user {\n\t\t\tbudget $1000000/30d\n\t\t}\n\t\t" + kept + "\n\t}\n}\n"
	caddyfile = strings.ReplaceAll(caddyfile, "FOLDER", d.folder)
	if err := os.WriteFile(filepath.Join(d.folder, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// start runs it until it answers.
func (d *doomed) start() {
	d.output.Reset()
	d.cmd, d.ended = exec.Command(os.Args[0]), make(chan struct{})
	d.cmd.Env = append(os.Environ(), childConfig+"="+filepath.Join(d.folder, "Caddyfile"), "XDG_DATA_HOME="+d.folder, "XDG_CONFIG_HOME="+d.folder, "HOME="+d.folder)
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	if err := d.cmd.Start(); err != nil {
		d.Fatal(err)
	}
	go func() {
		d.cmd.Wait() //nolint:errcheck // it is killed
		close(d.ended)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !d.asked("http://"+d.admin+"/llm_proxy/keys", "", nil) || !d.asked(d.url+"/v1/models", "sk-user", nil) {
		select {
		case <-tick.C:
		case <-d.ended:
			d.Fatalf("Caddy ended by itself: %s", d.output.String())
		}
	}
}

// asked gets what is at a URL; false if it is not there.
func (d *doomed) asked(url, secret string, into any) bool {
	return d.does(http.MethodGet, url, secret, "", into)
}

func (d *doomed) does(method, url, secret, body string, into any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		d.Error(err)
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

// live changes keys at the command line and sends requests at the same time, until the process is killed.
func (d *doomed) live(after time.Duration) {
	d.served, d.unsaid = nil, ""
	var clients sync.WaitGroup
	clients.Go(func() {
		for i := 0; d.changeKey(i); i++ {
		}
	})
	clients.Go(func() {
		for d.does(http.MethodPost, d.url+"/v1/chat/completions", "sk-user", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, nil) {
			d.served = append(d.served, time.Now())
		}
	})
	life := time.NewTimer(after)
	defer life.Stop()
	<-life.C
	d.killed = time.Now()
	if err := d.cmd.Process.Kill(); err != nil {
		d.Error(err)
	}
	clients.Wait()
	<-d.ended
	if d.unsaid != "" {
		d.slowest = max(d.slowest, d.killed.Sub(d.asking))
	}
	if out := d.output.String(); strings.Contains(out, `"level":"error"`) {
		d.Errorf("Caddy said: %s", out)
	}
}

// changeKey makes a key, gives it another secret, or revokes it; false when nobody answers any more.
func (d *doomed) changeKey(i int) bool {
	name := fmt.Sprintf("%d-%d", d.cmd.Process.Pid, i/3)
	args := []string{"create", name, "--rate", "60/m", "--running"}
	switch i % 3 {
	case 1:
		args = []string{"rotate", name}
	case 2:
		if i%2 == 0 { // the others stay
			return true
		}
		args = []string{"revoke", name}
	}
	d.unsaid, d.asking = args[0]+" "+name, time.Now()
	out, err := runCommand(d.T, "llm-key", append(args, "--address", d.admin)...)
	if err != nil {
		return false
	}
	d.unsaid, d.slowest = "", max(d.slowest, time.Since(d.asking))
	if args[0] == "revoke" {
		d.revoked[name] = d.secrets[name]
		delete(d.secrets, name)
		return true
	}
	d.secrets[name] = strings.TrimSpace(out)
	return true
}
