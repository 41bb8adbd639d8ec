package llmproxy

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// Questions in other words are found over reloads, count as what they are, and are forgotten with their answers. (The fake's
// first vector of each call is always the same: the second question is like nothing, those after it are like the second.)
func TestSemanticCache(t *testing.T) {
	fake, embedder := fakellm.Start(t, "openai"), fakellm.Start(t, "llamacpp", fakellm.Models("embed"))
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		upstream e llamacpp `+embedder.URL()+`
		model m u/real
		cache similar {
			semantic {
				embed e/embed
			}
		}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	asked := func(question, want string) {
		t.Helper()
		body := `{"model":"m","messages":[{"role":"user","content":"` + question + `"}]}`
		req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res := send(t, req)
		defer res.Body.Close()
		if got := res.Header.Get("X-LLM-Cache"); got != want || (res.Header.Get("X-LLM-Cache-Similarity") == "1.000") != (want == "semantic") {
			t.Errorf("%s: %q, want %q: %v", question, got, want, res.Header)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
	}
	status := func() (of cacheStatus) {
		_, body := adminGet(t, "/llm_proxy/cache", "")
		var list []cacheStatus
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.Name == "similar" {
				of = s
			}
		}
		return of
	}
	kept := func(n int) { // the client has its answer a moment before it is kept
		for status().Questions != n {
		}
	}
	asked("What is the time?", "miss")
	kept(1)
	asked("What is the time, please?", "miss")
	kept(2)
	asked("what is the time please", "semantic")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	asked("tell me what the time is", "semantic")
	if s := status(); s.Similar != 2 || s.Misses != 2 || s.Questions != 4 || s.QuestionBytes == 0 { // with the two that got another's answer
		t.Errorf("%+v", s)
	}
	if status, body := adminPost(t, "/llm_proxy/cache/purge?model=m&name=similar"); status != 200 || !strings.Contains(body, `{"purged":2}`) {
		t.Errorf("%d %s", status, body)
	}
	if s := status(); s.Questions != 0 || s.QuestionBytes != 0 {
		t.Errorf("%+v", s)
	}
	asked("tell me what the time is", "miss")
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

func TestSemanticThatIsWrong(t *testing.T) {
	for name, s := range map[string]*Semantic{
		"no target": {}, "no model": {Embed: "u/"}, "threshold": {Embed: "u/e", Threshold: 2}, "entries": {Embed: "u/e", MaxEntries: -1}, "time": {Embed: "u/e", Timeout: -1},
	} {
		if err := (&Cache{Semantic: s}).check(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	caddyfile, _ := site(t, `	llm_proxy {
		upstream u openai http://127.0.0.1:1
		cache {
			semantic {
				embed other/e
			}
		}
	}`)
	if err := load(t, caddyfile); err == nil || !strings.Contains(err.Error(), `there is no upstream "other"`) {
		t.Errorf("%v", err)
	}
}
