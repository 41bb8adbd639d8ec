// Package dashboard tests the live page in Chromium: the Caddy binary with the plugin, and a server that generates when the test lets it.
//
// Chromium and axe are installed by ../install.sh. A message of the console, above all one about the content security policy, fails the
// test.
package dashboard

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium is the browser, whose tabs the tests share. TestMain starts it.
var chromium context.Context

// axe is the source of the checks of accessibility.
var axe string

func TestMain(m *testing.M) {
	flag.Parse()
	path, err := exec.LookPath("chromium")
	if err == nil {
		axe, err = readAxe()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e/dashboard: %v; run e2e/install.sh\n", err)
		os.Exit(1)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("force-color-profile", "srgb"))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(ctx)
	chromium = ctx
	code := 1
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/dashboard: starting Chromium:", err)
	} else {
		code = m.Run()
	}
	closeBrowser()
	stop()
	os.Exit(code)
}

// readAxe reads it from where install.sh puts it.
func readAxe() (string, error) {
	dir := os.Getenv("LLMPROXY_E2E_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "caddy-llmproxy-e2e")
	} else if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", dir) // as the tests of the folder above have it
	}
	text, err := os.ReadFile(filepath.Join(dir, "current", "axe", "axe.min.js"))
	return string(text), err
}

var pictures = flag.String("pictures", "", "the folder for the screenshots (default: a temporary one)")

// The secrets of the keys.
const (
	ops   = "sk-ops-secret"
	alice = "sk-alice-secret"
	bob   = "sk-bob-secret"
)

// A world is a gateway with the dashboard, and the server behind it.
type world struct {
	url  string
	gpu  *server
	stop func()         // ends Caddy
	run  func()         // and starts it again
	busy sync.WaitGroup // requests in the background
}

func caddyPath() string {
	caddy := os.Getenv("CADDY")
	if caddy == "" {
		caddy = "../bin/caddy"
	}
	if !filepath.IsAbs(caddy) {
		caddy = filepath.Join("..", caddy) // as the tests of the folder above have it
	}
	return caddy
}

// newWorld starts them.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{gpu: newServer(t)}
	port := freePort(t)
	w.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	dir := t.TempDir()
	config := strings.NewReplacer("PORT", fmt.Sprint(port), "GPU", w.gpu.URL, "NOBODY", fmt.Sprintf("http://127.0.0.1:%d", freePort(t))).Replace(caddyfile)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	caddy := caddyPath()
	logs := new(strings.Builder)
	w.run = func() {
		t.Helper()
		cmd := exec.Command(caddy, "run", "--adapter", "caddyfile", "--config", file)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		cmd.Stdout, cmd.Stderr = logs, logs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.stop = func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		}
		w.wait(t, "Caddy to answer", func() bool {
			res, err := http.Get(w.url + "/dashboard/")
			if err != nil {
				return false
			}
			_ = res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", logs)
		}
		for _, secret := range []string{ops, alice, bob, "sk-llm-"} {
			if strings.Contains(logs.String(), secret) {
				t.Errorf("the log contains the secret %s…", secret)
			}
		}
	})
	t.Cleanup(func() { // before Caddy ends
		w.gpu.resume()
		w.busy.Wait()
	})
	w.run()
	return w
}

const caddyfile = `{
	admin off
	persist_config off
	grace_period 1s
}

http://127.0.0.1:PORT {
	log
	llm_dashboard
	llm_proxy {
		upstream gpu openai GPU {
			local
			max_concurrent 3
			queue 16 1m
		}
		upstream openai openai NOBODY {
			api_key unused
		}
		model llama3.2 gpu/llama3.2
		model gpt-4o {
			to openai/gpt-4o
			fallback gpu/llama3.2
		}
		price gpu/llama3.2 20 60
		cache {
			ttl 1h
		}
		key ops ` + ops + ` {
			admin
		}
		key alice ` + alice + ` {
			rate 20000/m
			budget $5/month
		}
		key bob ` + bob + `
	}
}
`

// A server generates like OpenAI's API. While it is paused, its streams stop after the first words.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	paused chan struct{} // nil if it is not paused; closed when it goes on
	pace   time.Duration // between two words
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := new(server)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"llama3.2","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", s.generate)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(s.resume)
	return s
}

const words = "The sky is blue because air scatters the short waves of sunlight more than the long ones. What reaches your eyes from all sides is therefore mostly blue."

func (s *server) generate(w http.ResponseWriter, r *http.Request) {
	var request struct{ Stream bool }
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &request) != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":99}`, len(body)/4, len(strings.Fields(words)))
	if !request.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Blue."},"finish_reason":"stop"}],`+usage+`}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(data string) {
		_, _ = fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"model\":\"llama3.2\",%s}\n\n", data)
		w.(http.Flusher).Flush()
	}
	s.mu.Lock()
	paused, pace := s.paused, s.pace
	s.mu.Unlock()
	time.Sleep(4 * pace) // a model reads the prompt first
	for i, word := range strings.SplitAfter(words, " ") {
		if i == 3 && paused != nil {
			select {
			case <-paused:
			case <-r.Context().Done():
				return
			}
		}
		time.Sleep(pace) // so that the browser can see the answer arrive
		text, _ := json.Marshal(word)
		send(fmt.Sprintf(`"choices":[{"index":0,"delta":{"content":%s}}]`, text))
	}
	send(`"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],` + usage)
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// slow makes it generate as slowly as a model does.
func (s *server) slow(pace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace = pace
}

func (s *server) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = make(chan struct{})
}

func (s *server) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil {
		close(s.paused)
		s.paused = nil
	}
}

// ask sends a chat and reads the answer.
func (w *world) ask(secret, model, prompt string, stream bool) (status int, err error) {
	body := fmt.Sprintf(`{"model":%q,"stream":%v,"messages":[{"role":"user","content":%q}]}`, model, stream, prompt)
	req, err := http.NewRequest(http.MethodPost, w.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// mustAsk is ask for a chat that is answered.
func (w *world) mustAsk(t *testing.T, secret, model, prompt string) {
	t.Helper()
	if status, err := w.ask(secret, model, prompt, true); status != http.StatusOK || err != nil {
		t.Errorf("%s: status %d, %v", prompt, status, err)
	}
}

// later sends a chat in the background.
func (w *world) later(t *testing.T, secret, model, prompt string) {
	t.Helper()
	w.busy.Go(func() { w.mustAsk(t, secret, model, prompt) })
}

// wait polls until something is so.
func (w *world) wait(t *testing.T, what string, over func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !over() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// freePort returns a port that nothing listens on. It is below those that systems assign to clients, so that no connection gets it before it
// is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 12_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("found no free port")
	return 0
}

// A page is the dashboard in a browser's tab.
type page struct {
	*world
	t    *testing.T
	ctx  context.Context
	said atomic.Bool // the console has said what it may say
}

// open opens the dashboard in a new tab. What the console says is an error of the test, except for what may be said.
func (w *world) open(t *testing.T, may ...string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	p := &page{world: w, t: t, ctx: ctx}
	complain := func(text string) {
		for _, expected := range may {
			if strings.Contains(text, expected) {
				p.said.Store(true)
				return
			}
		}
		t.Errorf("the console says: %s", text)
	}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			complain(e.Entry.Text + " " + e.Entry.URL)
		case *runtime.EventConsoleAPICalled:
			complain(fmt.Sprintf("%s %s", e.Type, e.Args[0].Value))
		case *runtime.EventExceptionThrown:
			complain(e.ExceptionDetails.Text + " " + e.ExceptionDetails.Exception.Description)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(p, log.Enable, cdp.Empty{})
	call(p, runtime.Enable, cdp.Empty{})
	p.theme("light")
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(w.url+"/dashboard/"))
	return p
}

// call sends a command to the browser.
func call[P, R any](p *page, command cdp.Command[P, R], parameters P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, parameters)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// click clicks on an element, type types into one.
func (p *page) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (p *page) write(selector, text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// signIn signs in with a key.
func (p *page) signIn(secret string) *page {
	p.t.Helper()
	p.write("#secret", secret)
	p.click("#sign-in-form button")
	p.until(`document.getElementById("live").textContent === "live"`)
	return p
}

// eval returns the value of an expression on the page.
func eval[V any](p *page, expression string) V {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[V](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression is true on the page.
func (p *page) until(expression string) {
	p.t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](p, expression) {
		select {
		case <-tick.C:
		case <-limit:
			p.t.Fatalf("waited in vain for %s; the page is\n%s", expression, eval[string](p, `document.body.innerText`))
		}
	}
}

// show goes to a part of the page.
func (p *page) show(name string) {
	p.t.Helper()
	p.until(`(location.hash = "` + name + `", !document.getElementById("` + name + `").hidden)`)
}

// text returns what is written in an element.
func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`document.querySelector(%q).innerText`, selector))
}

// accessible lets axe check the page as it is.
func (p *page) accessible(what string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`if (!window.axe) {` + axe + `}`))
	p.do(chromedp.Evaluate[chromedp.Void](`axeDone = null; axe.run().then((found) => { axeDone = JSON.stringify(found.violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html + " " + n.failureSummary)])); })`))
	p.until(`axeDone !== null`)
	var violations [][]any
	if err := json.Unmarshal([]byte(eval[string](p, `axeDone`)), &violations); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range violations {
		p.t.Errorf("%s: %v", what, v)
	}
}

// picture saves a screenshot.
func (p *page) picture(name string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	folder := *pictures
	if folder == "" {
		folder = p.t.TempDir()
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// theme switches the browser to dark or light.
func (p *page) theme(name string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}
