package llmproxy

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// logsOf runs a site, calls do, stops Caddy, and returns the access log followed by all logs at level DEBUG.
func logsOf(t *testing.T, inside string, do func(url string)) string {
	t.Helper()
	dir := t.TempDir()
	caddyfile, url := site(t, "\tlog {\n\t\toutput file "+dir+"/access.log\n\t}\n"+inside)
	caddyfile = strings.Replace(caddyfile, "{\n", "{\n\tlog {\n\t\toutput file "+dir+"/debug.log\n\t\tlevel DEBUG\n\t}\n", 1)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	do(url)
	stop(t)
	return read(t, dir+"/access.log") + read(t, dir+"/debug.log")
}

// Text of prompts and answers is not logged, not even where an upstream's error quotes it, unless log_prompts is set.
func TestPromptsAreNotLogged(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	quoting := []byte(`{"error":{"message":"cannot read '` + secretPrompt + `'","type":"bad","code":"unreadable"}}`)
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
				fakellm.RawEvents(`data: `+string(quoting)), fakellm.Raw(http.StatusOK, json, []byte(secretPrompt)), fakellm.Text(secretPrompt),
				fakellm.RawEvents(`data: {"choices":[{"delta":{"content":"`+secretPrompt+`"}}]}`, `data: `+string(quoting)))
			logs := logsOf(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t\t"+test.option+"\n\t}", func(url string) {
				for _, stream := range []bool{false, true, true, false, true, true} {
					say(t, url, "m", stream, 0)
				}
			})
			if got := strings.Contains(logs, "secret"); got != test.want {
				t.Errorf("text is logged: %v\n%s", got, logs)
			}
			if got := strings.Contains(logs, `"prompt":"the secret w"`); got != test.want {
				t.Errorf("the prompt is logged: %v", got)
			}
			if !strings.Contains(logs, `code \"unreadable\"`) && !test.want {
				t.Error("the code of the upstream's error is not logged")
			}
		})
	}
}

// The client and the upstreams get the same request ID, and all log lines about the request contain it.
func TestRequestIDIsInAllLogs(t *testing.T) {
	bad, good := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	bad.Always(fakellm.InternalError())
	good.Always(fakellm.Text("four", "five").Usage(100, 50, 10))
	var id string
	logs := logsOf(t, "\tllm_proxy {\n\t\tupstream bad openai "+bad.URL()+"\n\t\tupstream good openai "+good.URL()+"\n\t\tmodel m {\n\t\t\tto bad/x\n\t\t\tfallback good/y\n\t\t}\n\t\tprice good/y 1 1\n\t}", func(url string) {
		res := ask(t, url, "m", true)
		text(t, res)
		id = res.Header.Get("X-Request-Id")
	})
	for _, fake := range []*fakellm.Server{bad, good} {
		if got := fake.Requests()[0].Header.Get("X-Request-Id"); got != id {
			t.Errorf("the upstream got the ID %q, the client %q", got, id)
		}
	}
	if n := strings.Count(logs, `"id":"`+id+`"`); n != 3 { // access log, failed attempt, end of the request
		t.Errorf("%d lines have the ID: %s", n, logs)
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
	if n := strings.Count(logs, "upstream rejected the API key or does not have the model; check the configuration"); n != 1 {
		t.Errorf("the failure was logged %d times: %s", n, logs)
	}
}

// The access log shows the cost of an answer. The file of prices is read whenever the configuration is loaded.
func TestCostIsLogged(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("a").Usage(1000, 10, 0))
	file := filepath.Join(t.TempDir(), "prices.json")
	for price, want := range map[float64]string{0.5: `"cost_usd":5,`, 0.25: `"cost_usd":2.5,`} {
		prices := fmt.Sprintf(`{"real":{"litellm_provider":"unknown","input_cost_per_token":0,"output_cost_per_token":%v}}`, price)
		if err := os.WriteFile(file, []byte(prices), 0o600); err != nil {
			t.Fatal(err)
		}
		logs := logsOf(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u/real\n\t\tprices "+file+"\n\t}", func(url string) {
			if res := ask(t, url, "m", false); res.StatusCode != 200 {
				t.Fatal(res.Status)
			}
		})
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the access log: %s", want, logs)
		}
	}
}

// The access log shows query strings. A warning appears once, and only for a key that is valid.
func TestKeyInQueryStringIsWarnedOfOnce(t *testing.T) {
	const warning = "a client sends its key in the query string"
	fake := fakellm.Start(t, "openai")
	for query, want := range map[string]int{"?key=sk-alice-real": 1, "?key=something": 0, "?beta=true": 0} {
		logs := logsOf(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tkey alice sk-alice-real\n\t}", func(url string) {
			for range 3 {
				if code, body := get(t, url+"/v1/models"+query); code != http.StatusUnauthorized {
					t.Errorf("%s: status %d: %s", query, code, body)
				}
			}
		})
		if n := strings.Count(logs, warning); n != want {
			t.Errorf("%s: %d warnings, want %d", query, n, want)
		}
	}
}
