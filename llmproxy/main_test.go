package llmproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig" // modules that Caddyfiles of tests need
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
)

// childCommand is the environment variable that makes the test program the command caddy.
const childCommand = "LLM_PROXY_TEST_COMMAND"

// TestMain gives the tests a data directory of their own.
func TestMain(m *testing.M) {
	if caddyfile := os.Getenv(childConfig); caddyfile != "" {
		runChild(caddyfile)
	}
	if os.Getenv(childCommand) != "" {
		os.Args[0] = "caddy"
		caddycmd.Main() // returns after a success
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "llm_proxy-")
	if err == nil {
		err = os.Setenv("XDG_DATA_HOME", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	caddy.ConfigAutosavePath = filepath.Join(dir, "autosave.json") // examples do not say persist_config off
	caddy.RegisterModule(listener{})
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const global = "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 2s\n}\n"

// site returns a Caddyfile with one site on a free port, and its URL.
func site(t *testing.T, inside string) (caddyfile, url string) {
	t.Helper()
	url = "http://" + freeport.Address(t)
	return global + url + " {\n" + inside + "\n}\n", url
}

// load runs a Caddyfile in this process and stops it at the end of the test.
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
	// A replaced server closes its connections, possibly just when the test sends a request on one of them.
	defer http.DefaultClient.CloseIdleConnections()
	return caddy.Load(config, true)
}

// run loads a site and returns its URL.
func run(t *testing.T, inside string) (url string) {
	t.Helper()
	caddyfile, url := site(t, inside)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	return url
}

// stop stops Caddy before the end of the test.
func stop(t *testing.T) {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// question returns the body of a chat request.
func question(model, content string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, model, content)
}

// newRequest returns a request with a header of names and values.
func newRequest(t *testing.T, method, url, body string, header ...string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// send sends a request on a connection of its own, because a reload closes the others. If Caddy's old server accepts the
// connection and closes it unread, it sends the request again, as a client's SDK does.
func send(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	req.Close = true
	for tries := 1; ; tries++ {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			t.Cleanup(func() { res.Body.Close() })
			return res
		}
		lost := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		if !lost || tries == 3 {
			t.Fatal(err)
		}
		if req.Body, err = req.GetBody(); err != nil {
			t.Fatal(err)
		}
	}
}

// text reads the body of a response.
func text(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// get returns the status and the body of a page.
func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	res := send(t, newRequest(t, http.MethodGet, url, "", header...))
	return res.StatusCode, text(t, res)
}

// status returns the status of a request for the models, with a key or without.
func status(t *testing.T, url, secret string) int {
	t.Helper()
	var header []string
	if secret != "" {
		header = []string{"Authorization", "Bearer " + secret}
	}
	code, _ := get(t, url+"/v1/models", header...)
	return code
}

// post sends a chat request and reads the answer.
func post(t *testing.T, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	res := send(t, newRequest(t, http.MethodPost, url+"/v1/chat/completions", body, header...))
	return res, text(t, res)
}

// ask sends a chat request to a model and returns the answer unread.
func ask(t *testing.T, url, model string, stream bool) *http.Response {
	t.Helper()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hi"}],"stream":%v}`, model, stream)
	return send(t, newRequest(t, http.MethodPost, url+"/v1/chat/completions", body))
}

// tryToPost sends a chat request that may fail. With leaveAfter, the client disconnects after that many lines of the answer.
func tryToPost(url, body string, leaveAfter int) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for range leaveAfter {
		if _, err := lines.ReadString('\n'); err != nil {
			return res.StatusCode, err
		}
	}
	if leaveAfter == 0 {
		_, err = io.Copy(io.Discard, lines)
	}
	return res.StatusCode, err
}

// secretPrompt must not be logged.
const secretPrompt = "the secret word"

// say sends secretPrompt to a model. The answer may break off.
func say(t *testing.T, url, model string, stream bool, leaveAfter int) {
	t.Helper()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"stream":%v}`, model, secretPrompt, stream)
	if status, err := tryToPost(url, body, leaveAfter); status == 0 || err != nil && leaveAfter > 0 {
		t.Fatal(status, err)
	}
}

// read returns the content of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventually waits for something that happens in the background.
func eventually(t *testing.T, problem string, over func() bool) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !over() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("%s, after a minute", problem)
		}
	}
}
