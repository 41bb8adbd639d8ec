package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// snapshot returns what the admin API shows now.
func snapshot(t *testing.T) (s overview.Snapshot) {
	t.Helper()
	code, answer := callAdmin("GET", "/llm_proxy/status", "")
	if err := json.Unmarshal([]byte(answer), &s); err != nil || code != http.StatusOK {
		t.Fatal(code, err, answer)
	}
	if strings.Contains(answer, secretPrompt) {
		t.Errorf("the prompt is in %s", answer)
	}
	return s
}

// heldFallback runs a site whose model m falls back to a server that holds its answers until release is closed, because the first one
// fails. The first one is up, so that every request tries it: one that is down would be left out after the first request. The key is
// secret-alice.
func heldFallback(t *testing.T, slots int) (url string, gpu *fakellm.Server, release chan struct{}) {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	gpu, broken := fakellm.Start(t, "vllm"), fakellm.Start(t, "openai")
	broken.Always(fakellm.InternalError())
	release = make(chan struct{})
	gpu.Always(fakellm.Text("Hello", " world").Usage(7, 2, 0).Hold(release))
	url = run(t, fmt.Sprintf(`	llm_proxy {
		upstream broken openai %s
		upstream gpu vllm %s {
			max_concurrent %d
		}
		model m {
			to broken/a
			fallback gpu/b
		}
		price gpu/b 1 2
		key alice secret-alice
	}`, broken.URL(), gpu.URL(), slots))
	return url, gpu, release
}

// The status shows what is in the slots, what waits, and then the requests with their attempts.
func TestStatusOfTheAdminAPI(t *testing.T) {
	url, gpu, release := heldFallback(t, 1)
	answers := make(chan int, 2)
	ask := func() {
		res, _ := post(t, url, question("m", secretPrompt), "Authorization", "Bearer secret-alice")
		answers <- res.StatusCode
	}
	go ask()
	var s overview.Snapshot
	at := func() *overview.Replica { return &s.Upstreams[1].Replicas[0] }
	eventually(t, "no slot is in use", func() bool { s = snapshot(t); return at().InUse == 1 })
	go ask()
	eventually(t, "no request waits", func() bool { s = snapshot(t); return len(at().Queue) == 1 })
	if r := at(); r.Address != gpu.URL() && !strings.HasPrefix(r.Address, gpu.URL()) || r.Slots != 1 || r.State != "up" || len(r.Active) != 1 || r.Active[0].Key != "alice" || r.Active[0].Model != "m" || r.Queue[0].Position != 1 {
		t.Errorf("%+v", *r)
	}
	close(release)
	for range 2 {
		if code := <-answers; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
	eventually(t, "the requests are not there", func() bool { s = snapshot(t); return len(s.Requests) == 2 && len(s.Spend) == 1 })
	if r := at(); r.InUse != 0 || len(r.Active)+len(r.Queue) != 0 {
		t.Errorf("afterwards: %+v", *r)
	}
	got := s.Requests[1]
	if got.Key != "alice" || got.Target != "gpu/b" || got.Route != "fallback:failed" || got.Output != 2 || got.USD == nil || len(got.Attempts) < 2 {
		t.Errorf("%+v", got)
	}
	if first, last := got.Attempts[0], got.Attempts[len(got.Attempts)-1]; first.Target != "broken/a" || first.Verdict != "failed" || first.Status != http.StatusInternalServerError || last.Verdict != "ok" || !strings.HasPrefix(last.Address, gpu.URL()) {
		t.Errorf("%+v", got.Attempts)
	}
	want := []overview.Spend{{Key: "alice", Requests: 2, Input: 14, Output: 4, USD: 22e-6}}
	if diff := cmp.Diff(want, s.Spend); diff != "" {
		t.Error(diff)
	}
}

// A reload keeps the requests, and shows the upstreams of the new configuration only.
func TestStatusAfterAReload(t *testing.T) {
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream old echo\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if res, body := post(t, url, question("echo", "hi")); res.StatusCode != http.StatusOK {
		t.Fatal(body)
	}
	if err := load(t, strings.ReplaceAll(caddyfile, "old", "new")); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t)
	if len(s.Upstreams) != 1 || s.Upstreams[0].Name != "new" || len(s.Requests) != 1 || !strings.HasPrefix(s.Requests[0].Target, "old/") {
		t.Errorf("%+v", s)
	}
	stop(t)
	if s := snapshot(t); len(s.Upstreams) != 0 || len(s.Requests) != 0 {
		t.Errorf("without a configuration: %+v", s)
	}
}
