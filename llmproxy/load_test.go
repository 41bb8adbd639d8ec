package llmproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/logging" // the access log's file

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// load runs a Caddyfile in this process and stops it with the test.
func load(t *testing.T, caddyfile string) error {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	// A server that was replaced closes its connections, maybe just when the test sends a request on one of them.
	defer http.DefaultClient.CloseIdleConnections()
	return caddy.Load(config, true)
}

const global = "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 2s\n}\n"

// site gives a Caddyfile with one site on a port that is free, and its URL.
func site(t *testing.T, inside string) (caddyfile, url string) {
	t.Helper()
	url = "http://" + freeAddress(t)
	return global + url + " {\n" + inside + "\n}\n", url
}

// freeAddress is one that nobody listens at, and that nobody is given by chance until somebody does: its port is below those
// that systems hand out.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func ask(t *testing.T, url string, stream bool) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":"Hi"}],"model":"m","stream":%v}`, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res := send(t, req)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// send makes a request that can be made again, on a connection of its own: a reload closes the others. Around a reload Caddy's
// old server may take a connection and close it unread: a client's SDK sends the request again then, and so does this.
func send(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	req.Close = true
	for tries := 1; ; tries++ {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			return res
		}
		lost := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		if !lost || tries == 3 {
			t.Fatal(err)
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestServesAndLogs(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	logFile := filepath.Join(t.TempDir(), "access.log")
	caddyfile, url := site(t, `	log {
		output file `+logFile+`
	}
	llm_proxy {
		upstream u openai `+fake.URL()+` {
			api_key the-secret
		}
		model m u/real
	}
	respond /other "next handler" 418`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if res := ask(t, url, false); res.StatusCode != 200 || res.Header.Get("X-LLM-Target") != "u/real" {
		t.Errorf("status %d, target %q", res.StatusCode, res.Header.Get("X-LLM-Target"))
	}
	if got := text(t, ask(t, url, true)); !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("stream: %s", got)
	}
	res, err := http.Get(url + "/other")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusTeapot {
		t.Errorf("another path: status %d", res.StatusCode)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"llm":{"id":"req_`, `"target":"u/real"`, `"verdict":"ok"`, `"input_tokens":`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("%s is not in the access log: %s", want, log)
		}
	}
	if strings.Contains(string(log), "the-secret") {
		t.Error("the upstream's key stands in the log")
	}
}

// A reload must not touch a stream that is open, and its replica stays counted.
func TestStreamSurvivesReload(t *testing.T) {
	release := make(chan struct{})
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	inside := "\tllm_proxy {\n\t\tupstream u openai " + fake.URL() + "\n\t\tmodel m u\n\t}"
	caddyfile, url := site(t, inside)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	res := ask(t, url, true)
	lines := bufio.NewReader(res.Body)
	if first, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(first, "data: ") {
		t.Fatalf("the stream began with %q, %v", first, err)
	}
	if err := load(t, strings.Replace(caddyfile, "model m u", "model other u\n\t\tmodel m u", 1)); err != nil {
		t.Fatal(err)
	}
	if value := state.Replicas.References(fake.URL() + "/v1"); value != 1 {
		t.Errorf("%d handlers hold the replica after the reload", value)
	}
	close(release)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("after the reload came %q, %v", rest, err)
	}
}

func TestExitEndsStreamsWithAnError(t *testing.T) {
	isExiting = func() bool { return true }
	t.Cleanup(func() { isExiting = caddy.Exiting })
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("one", " two").StallAfter(1))
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	res := ask(t, url, true)
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	if got := text(t, res); !strings.Contains(got, `data: {"error":{"message":"The gateway is shutting down`) || strings.Contains(got, "[DONE]") {
		t.Errorf("the stream was %s", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestLoadErrorsAreUnderstandable(t *testing.T) {
	t.Setenv("EMPTY_KEY", "")
	for _, test := range []struct{ name, inside, want string }{
		{"no address", "upstream u vllm", "missing address; add it"},
		{"unknown kind", "upstream u bedrock", `unknown kind of upstream "bedrock"`},
		{"empty key", "upstream u openai {\n\t\t\tapi_key {env.EMPTY_KEY}\n\t\t}", "api_key is empty"},
		{"unknown upstream", "upstream u openai\n\t\tmodel m v/x", `unknown upstream "v"`},
		{"loop", "upstream u openai\n\t\tmodel a b\n\t\tmodel b a", "a → b → a"},
		{"slash in a name", "upstream a/b openai", "use one without slash"},
		{"weights with another policy", "upstream u openai\n\t\tmodel m {\n\t\t\tto u\n\t\t\tweight 1\n\t\t\tlb_policy first\n\t\t}", "weights need lb_policy weighted"},
		{"no file of prices", "upstream u openai\n\t\tprices /nowhere.json", "reading prices from /nowhere.json: open"},
		{"nothing to compare with", "upstream u openai\n\t\tprice u/* per_hour 1 instead_of gpt-99", `unknown price of "gpt-99"`},
		{"invalid address of Redis", "upstream u openai\n\t\tstate http://:hunter2@localhost", "state: invalid address; use redis://"},
		{"option of Redis", "upstream u openai\n\t\tstate redis://:hunter2@localhost?nonsense=1", "state: invalid address or option"},
		{"loop of routes", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x b\n\t\t\tto u\n\t\t}\n\t\tmodel b {\n\t\t\troute @x a\n\t\t\tto u\n\t\t}", "a → b → a"},
		{"route to nowhere", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x b\n\t\t\tto u\n\t\t}", `unknown upstream "b"`},
		{"route without an end", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t}", "has no target for a request that no route matches"},
		{"expression that is none", "upstream u openai\n\t\t@x expression {llm.tools} >\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t\tto u\n\t\t}", "route @x"},
		{"content that is none", "upstream u openai\n\t\t@x llm content (\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t\tto u\n\t\t}", "missing closing )"},
		{"can and cannot", "upstream u openai {\n\t\t\tcan tools\n\t\t\tcannot tools\n\t\t}", "can tools contradicts cannot tools"},
		{"two rates of one window", "upstream u echo\n\t\tkey a hunter2 {\n\t\t\trate 1/m 2/60s\n\t\t}", `"a": 1/m and 2/m have the same window: keep one, at Caddyfile:`},
		{"two limits of one window", "upstream u echo\n\t\tlimit {\n\t\t\ttokens 1/d\n\t\t\ttokens 2/24h\n\t\t}", "limit: 1/d and 2/d have the same window"},
		{"two rates for addresses", "upstream u echo\n\t\trate_limit 1/m 1/m", "rate_limit: 1/m and 1/m have the same window: keep one, at Caddyfile:"},
		{"end of a key", "upstream u echo\n\t\tuser a {\n\t\t\texpires soon\n\t\t}", `invalid expires "soon"`},
		{"name of a key", "upstream u echo\n\t\tkey ä hunter2", `"ä": invalid name: use 1 to 64 letters, digits and .-_@+, at Caddyfile:`},
		{"password in an address", "upstream u openai http://me:hunter2@localhost", "contains a password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			caddyfile, _ := site(t, "\tllm_proxy {\n\t\t"+test.inside+"\n\t}")
			err := load(t, caddyfile)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// validate does what `caddy validate` does.
func validate(t *testing.T, caddyfile string) {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Fatal(err)
	}
}

// Provisioning, which is all that `caddy validate` does, must dial nobody.
func TestValidatingDialsNobody(t *testing.T) {
	fake := fakellm.Start(t, "ollama")
	caddyfile, _ := site(t, "\tllm_proxy "+fake.Addr())
	validate(t, caddyfile)
	if n := len(fake.Probes()) + len(fake.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestKindIsFoundByAsking(t *testing.T) {
	for _, kind := range []string{"ollama", "vllm", "llamacpp", "openai"} {
		t.Run(kind, func(t *testing.T) {
			fake := fakellm.Start(t, kind, fakellm.Models("m"))
			caddyfile, url := site(t, "\tllm_proxy "+fake.Addr())
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			res := ask(t, url, true)
			if got := text(t, res); res.StatusCode != 200 || !strings.Contains(got, "[DONE]") || res.Header.Get("X-LLM-Route") != "discover" {
				t.Errorf("status %d, route %q: %s", res.StatusCode, res.Header.Get("X-LLM-Route"), got)
			}
		})
	}
}
