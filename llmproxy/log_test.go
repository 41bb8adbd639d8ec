package llmproxy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// logsOf runs the site with every log at its finest, does something, and gives all that was logged.
func logsOf(t *testing.T, inside string, do func(url string)) string {
	t.Helper()
	dir := t.TempDir()
	caddyfile, url := site(t, "\tlog {\n\t\toutput file "+dir+"/access.log\n\t}\n"+inside)
	caddyfile = strings.Replace(caddyfile, "{\n", "{\n\tlog {\n\t\toutput file "+dir+"/debug.log\n\t\tlevel DEBUG\n\t}\n", 1)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	do(url)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range []string{"access.log", "debug.log"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// What was said stands in no log, not even where an upstream's error quotes it, unless the configuration wants it.
func TestNothingSaidIsLogged(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	quoting := []byte(`{"error":{"message":"cannot read 'the secret word'","type":"bad","code":"unreadable"}}`)
	for _, test := range []struct {
		name, option string
		want         bool
	}{
		{"by default", "", false},
		{"log_prompts", "log_prompts 12", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := fakellm.Start(t, "openai")
			fake.Next(fakellm.Raw(http.StatusBadRequest, json, quoting), fakellm.Raw(http.StatusInternalServerError, json, quoting),
				fakellm.RawEvents(`data: `+string(quoting)), fakellm.Raw(http.StatusOK, json, []byte("the secret word")), fakellm.Text("the secret word"),
				fakellm.RawEvents(`data: {"choices":[{"delta":{"content":"the secret word"}}]}`, `data: `+string(quoting)))
			logs := logsOf(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t\t"+test.option+"\n\t}", func(url string) {
				for _, stream := range []bool{false, true, true, false, true, true} {
					say(t, url, "m", stream, 0)
				}
			})
			if got := strings.Contains(logs, "secret"); got != test.want {
				t.Errorf("what was said is logged: %v\n%s", got, logs)
			}
			if got := strings.Contains(logs, `"prompt":"the secret w"`); got != test.want {
				t.Errorf("the prompt is logged: %v", got)
			}
			if !strings.Contains(logs, `code \"unreadable\"`) && !test.want {
				t.Error("the upstream's code is not logged")
			}
		})
	}
}

// The id that the client got is the one that was sent upstream, and it finds the request in every log.
func TestRequestIsFollowedByItsID(t *testing.T) {
	bad, good := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	bad.Always(fakellm.InternalError())
	good.Always(fakellm.Text("four", "five").Usage(100, 50, 10))
	var id string
	logs := logsOf(t, "\tllm_proxy {\n\t\tupstream bad openai "+bad.URL()+"\n\t\tupstream good openai "+good.URL()+"\n\t\tmodel m {\n\t\t\tto bad/x\n\t\t\tfallback good/y\n\t\t}\n\t\tprice good/y 1 1\n\t}", func(url string) {
		res := ask(t, url, true)
		text(t, res)
		id = res.Header.Get("X-Request-Id")
	})
	for _, fake := range []*fakellm.Server{bad, good} {
		if got := fake.Requests()[0].Header.Get("X-Request-Id"); got != id {
			t.Errorf("the upstream was sent %q, the client got %q", got, id)
		}
	}
	lines := 0
	for line := range strings.Lines(logs) {
		if strings.Contains(line, `"id":"`+id+`"`) {
			lines++
		}
	}
	if lines != 3 { // the access log, the failed attempt, the end
		t.Errorf("%d lines have the id: %s", lines, logs)
	}
	access, _, _ := strings.Cut(logs, "\n")
	for _, want := range []string{`"model":"m"`, `"target":"good/y"`, `"route":"fallback:failed"`, `"verdict":"ok"`, `"ttft":`, `"duration":`, `"queue":`, `"tokens_per_second":`,
		`"chars":8`, `"input_tokens":100`, `"output_tokens":50`, `"cached_tokens":10`, `"estimated":false`, `"cost_usd":0.00015`,
		`"attempts":[{"target":"bad/x","verdict":"failed","status":500,`, `{"target":"good/y","verdict":"ok","status":200,`} {
		if !strings.Contains(access, want) {
			t.Errorf("%s is not in the access log: %s", want, access)
		}
	}
}

func TestFailureIsLoggedOnce(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Unauthorized())
	logs := logsOf(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t}", func(url string) {
		for range 3 {
			say(t, url, "m", false, 0)
		}
	})
	if n := strings.Count(logs, `"level":"warn"`); n < 1 || strings.Count(logs, "check the configuration") != 1 {
		t.Errorf("the failure was not logged once: %s", logs)
	}
}
