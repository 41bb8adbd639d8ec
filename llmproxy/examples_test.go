package llmproxy

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// testKey is a key of every example that requires one.
const testKey = "sk-llm-test"

// setSecrets sets the variables from which examples and documentation take keys. No two keys of clients are the same.
func setSecrets(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_API_KEY", "ALICE_KEY", "OPS_KEY", "OPEN_WEBUI_KEY", "WARD_KEY", "OFFICE_KEY", "NIGHTLY_KEY",
	} {
		t.Setenv(name, "sk-test-"+name)
	}
}

// runExample loads the Caddyfile of an example, whose placeholders get the values of env, and returns the URL of its site.
func runExample(t *testing.T, name string, env map[string]string) (url string) {
	t.Helper()
	url = "http://" + freeport.Address(t)
	setSecrets(t)
	t.Setenv("SITE_ADDRESS", url)
	for key, value := range env {
		t.Setenv(key, value)
	}
	caddyfile := strings.Replace(read(t, "../examples/"+name+"/Caddyfile"), "{\n", "{\n\tadmin off\n\tpersist_config off\n", 1)
	caddyfile = strings.Replace(caddyfile, "require_key\n", "require_key\n\t\tkey test "+testKey+"\n", 1)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	return url
}

// An exampleCase is a request to an example, and what it must lead to.
type exampleCase struct {
	name, body string
	header     []string
	status     int
	target     string
}

// check sends the request with the test key, unless it has another one.
func (c exampleCase) check(t *testing.T, url string) {
	t.Helper()
	res, body := post(t, url, c.body, append([]string{"Authorization", "Bearer " + testKey}, c.header...)...)
	if got := res.Header.Get("X-LLM-Target"); res.StatusCode != c.status || got != c.target {
		t.Errorf("%s: status %d, target %q, want %d, %q; route %q, attempts %q: %s", c.name, res.StatusCode, got, c.status, c.target,
			res.Header.Get("X-LLM-Route"), res.Header.Get("X-LLM-Attempts"), body)
	}
}

// Private requests never reach the hosted service: not by model, content, header or key, and not when the GPU fails. Others do.
func TestPrivateExample(t *testing.T) {
	gpu, openai := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	url := runExample(t, "private", map[string]string{"OLLAMA_ADDRESS": gpu.URL(), "OPENAI_ADDRESS": openai.URL(), "WARD_KEY": "sk-ward", "OFFICE_KEY": "sk-office"})
	ward, office := []string{"Authorization", "Bearer sk-ward"}, []string{"Authorization", "Bearer sk-office"}
	private := []exampleCase{
		{"model", question("house", "Hi"), office, 200, "gpu/llama3.1:8b"},
		{"content", question("chat", "The patient has a fever."), office, 200, "gpu/llama3.1:8b"},
		{"header", question("chat", "Hi"), append([]string{"X-Privacy", "local"}, office...), 200, "gpu/llama3.1:8b"},
		{"key", question("chat", "Hi"), ward, 200, "gpu/llama3.1:8b"},
	}
	for _, c := range private {
		c.check(t, url)
	}
	gpu.Always(fakellm.InternalError())
	for _, c := range private {
		if res, body := post(t, url, c.body, c.header...); res.StatusCode < 500 {
			t.Errorf("%s, and the GPU fails: status %d: %s", c.name, res.StatusCode, body)
		}
	}
	exampleCase{"a hosted model by a private key", question("gpt-4o", "Hi"), ward, 403, ""}.check(t, url)
	exampleCase{"a hosted model, private content", question("gpt-4o", "A diagnosis"), office, 403, ""}.check(t, url)
	if n := len(openai.Requests()); n != 0 {
		t.Errorf("%d private requests reached the hosted service", n)
	}
	exampleCase{"not private", question("chat", "Hi"), office, 200, "openai/gpt-4o-mini"}.check(t, url)
}

// One name, and the content decides.
func TestHybridByContentExample(t *testing.T) {
	gpu, openai := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	url := runExample(t, "hybrid-by-content", map[string]string{"OLLAMA_ADDRESS": gpu.URL(), "OPENAI_ADDRESS": openai.URL()})
	const local, hosted = "gpu/llama3.1:8b", "openai/gpt-4o"
	long := strings.Repeat("word ", 4000)
	exampleCase{"short", question("auto", "Hi"), nil, 200, local}.check(t, url)
	exampleCase{"long", question("auto", long), nil, 200, hosted}.check(t, url)
	exampleCase{"tools", `{"model":"auto","tools":[{},{},{}],"messages":[{"role":"user","content":"Hi"}]}`, nil, 200, hosted}.check(t, url)
	exampleCase{"small job", `{"model":"auto","max_tokens":20,"messages":[{"role":"user","content":"Spam?"}]}`, nil, 200, local}.check(t, url)
	exampleCase{"long and private", question("auto", "Our customer. "+long), nil, 200, local}.check(t, url)
	sent := len(openai.Requests())
	gpu.Always(fakellm.InternalError())
	if res, body := post(t, url, question("auto", "The password"), "Authorization", "Bearer "+testKey); res.StatusCode < 500 {
		t.Errorf("private, and the GPU fails: status %d: %s", res.StatusCode, body)
	}
	if n := len(openai.Requests()); n != sent {
		t.Errorf("%d private requests reached the hosted service", n-sent)
	}
	exampleCase{"short, and the GPU fails", question("auto", "Hi"), nil, 200, "openai/gpt-4o-mini"}.check(t, url)
}

// The hosted service helps out when the GPU fails, for the models that allow it.
func TestHybridExample(t *testing.T) {
	gpu, openai := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	url := runExample(t, "hybrid", map[string]string{"OLLAMA_ADDRESS": gpu.URL(), "OPENAI_ADDRESS": openai.URL()})
	exampleCase{"healthy", question("local", "Hi"), nil, 200, "gpu/llama3.1:8b"}.check(t, url)
	if code, body := get(t, url+"/health/live"); code != 200 {
		t.Errorf("/health/live: status %d: %s", code, body)
	}
	gpu.Always(fakellm.InternalError())
	exampleCase{"failing", question("local", "Hi"), nil, 200, "openai/gpt-4o-mini"}.check(t, url)
	sent := len(openai.Requests())
	if res, body := post(t, url, question("local-only", "Hi"), "Authorization", "Bearer "+testKey); res.StatusCode < 500 {
		t.Errorf("local only, and the GPU fails: status %d: %s", res.StatusCode, body)
	}
	if n := len(openai.Requests()); n != sent {
		t.Error("a request for local-only reached the hosted service")
	}
	exampleCase{"a hosted model", question("gpt-4o", "Hi"), nil, 200, "openai/gpt-4o"}.check(t, url)
}

// Both servers' models are there, and llama.cpp answers if Ollama fails.
func TestLocalOnlyExample(t *testing.T) {
	ollama, llamacpp := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b", "qwen3:4b")), fakellm.Start(t, "llamacpp", fakellm.Models("llama3.1"))
	address := freeport.Address(t)
	_, port, _ := strings.Cut(address, ":")
	runExample(t, "local-only", map[string]string{"OLLAMA_ADDRESS": ollama.URL(), "LLAMACPP_ADDRESS": llamacpp.URL(), "PORT": port})
	url := "http://" + address
	exampleCase{"the model", question("local", "Hi"), nil, 200, "ollama/llama3.1:8b"}.check(t, url)
	exampleCase{"another one", question("qwen3:4b", "Hi"), nil, 200, "ollama/qwen3:4b"}.check(t, url)
	ollama.Always(fakellm.InternalError())
	exampleCase{"Ollama fails", question("local", "Hi"), nil, 200, "llamacpp/llama3.1"}.check(t, url)
}

// The file of keys decides who may use what, and a budget that is used up leaves the models that cost nothing.
func TestTeamExample(t *testing.T) {
	gpu, openai := fakellm.Start(t, "vllm"), fakellm.Start(t, "openai")
	type file struct {
		Keys []map[string]any `json:"keys"`
	}
	var keys file
	if err := json.Unmarshal([]byte(read(t, "../examples/team/llm-keys.json")), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys.Keys {
		key["secret"] = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("sk-"+key["name"].(string))))
	}
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "llm-keys.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	url := runExample(t, "team", map[string]string{"VLLM_ADDRESS": gpu.URL(), "OPENAI_ADDRESS": openai.URL(), "KEYS_FILE": path})
	key := func(name string) []string { return []string{"Authorization", "Bearer sk-" + name} }
	exampleCase{"no such key", question("local", "Hi"), key("mallory"), 401, ""}.check(t, url)
	exampleCase{"alice", question("gpt-4o", "Hi"), key("alice"), 200, "openai/gpt-4o"}.check(t, url)
	exampleCase{"a model that the key may not use", question("gpt-4o", "Hi"), key("nightly-tests"), 403, ""}.check(t, url)
	exampleCase{"its model", question("local", "Hi"), key("nightly-tests"), 200, "gpu/Qwen/Qwen3-8B"}.check(t, url)

	openai.Next(fakellm.Text("dear").Usage(100, 2_000_000, 0)) // 0.60 US dollars for each million
	exampleCase{"the intern", question("gpt-4o-mini", "Hi"), key("intern"), 200, "openai/gpt-4o-mini"}.check(t, url)
	exampleCase{"the budget is used up", question("gpt-4o-mini", "Hi again"), key("intern"), 429, ""}.check(t, url)
	exampleCase{"a model that costs nothing", question("local", "Hi"), key("intern"), 200, "gpu/Qwen/Qwen3-8B"}.check(t, url)
	if code, body := get(t, url+"/llm/usage", key("intern")...); code != 200 || !strings.Contains(body, `"rule":"$1/day"`) {
		t.Errorf("/llm/usage: status %d: %s", code, body)
	}
}

// People get the web interface on one site; programs and the interface itself the API on the other.
func TestOpenWebUIExample(t *testing.T) {
	interfaceOfPeople := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "web interface "+r.URL.Path) }))
	defer interfaceOfPeople.Close()
	gpu := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b", "llama3.2:1b"))
	chat := "http://" + freeport.Address(t)
	url := runExample(t, "open-webui", map[string]string{
		"CHAT_ADDRESS": chat, "OPEN_WEBUI_ADDRESS": interfaceOfPeople.Listener.Addr().String(), "OLLAMA_ADDRESS": gpu.URL(), "OPEN_WEBUI_KEY": testKey,
	})
	if code, body := get(t, chat+"/api/version"); code != 200 || body != "web interface /api/version" {
		t.Errorf("status %d: %s", code, body)
	}
	if code := status(t, url, ""); code != 401 {
		t.Errorf("without a key: status %d", code)
	}
	exampleCase{"a chat", question("chat", "Hi"), nil, 200, "gpu/llama3.1:8b"}.check(t, url)
	exampleCase{"its title", question("chat", "Hi"), []string{"X-OpenWebUI-Task", "title_generation"}, 200, "gpu/llama3.2:1b"}.check(t, url)
}

// Small jobs and completion are Ollama's, as the settings of VS Code and Continue in the folder ask for them.
func TestVSCodeExample(t *testing.T) {
	gpu, small := fakellm.Start(t, "vllm"), fakellm.Start(t, "ollama", fakellm.Models("qwen3:4b", "qwen2.5-coder:1.5b"))
	url := runExample(t, "vscode", map[string]string{"VLLM_ADDRESS": gpu.URL(), "OLLAMA_ADDRESS": small.URL()})
	var providers []struct {
		Models []struct{ ID, URL string } `json:"models"`
	}
	if err := json.Unmarshal([]byte(read(t, "../examples/vscode/chatLanguageModels.json")), &providers); err != nil {
		t.Fatal(err)
	}
	model := providers[0].Models[0]
	if model.URL != "https://llm.example.com/v1/chat/completions" {
		t.Errorf("the settings have the URL %s", model.URL)
	}
	exampleCase{"chat", question(model.ID, "Hi"), nil, 200, "gpu/Qwen/Qwen3-Coder-30B-A3B-Instruct"}.check(t, url)
	exampleCase{"completion", question("completion", "Hi"), nil, 200, "small/qwen2.5-coder:1.5b"}.check(t, url)
}

// The site answers as before, and has an API besides.
func TestExistingSiteExample(t *testing.T) {
	server := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b"))
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "index.html"), []byte("my home page"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := runExample(t, "existing-site", map[string]string{"SITE_ROOT": root, "LLM_ADDRESS": strings.TrimPrefix(server.URL(), "http://")})
	if code, body := get(t, url+"/"); code != 200 || body != "my home page" {
		t.Errorf("/: status %d: %s", code, body)
	}
	if code, _ := get(t, url+"/missing", "Accept", "text/html"); code != 404 {
		t.Errorf("/missing: status %d", code)
	}
	if code := status(t, url, ""); code != 401 {
		t.Errorf("without a key: status %d", code)
	}
	res, body := post(t, url, question("llama3.1:8b", "Hi"), "Authorization", "Bearer "+testKey)
	if res.StatusCode != 200 || !strings.HasSuffix(res.Header.Get("X-LLM-Target"), "/llama3.1:8b") {
		t.Errorf("status %d, target %q: %s", res.StatusCode, res.Header.Get("X-LLM-Target"), body)
	}
}

// Each machine that fails is replaced by another one.
func TestSeveralBoxesExample(t *testing.T) {
	one, two, desk := fakellm.Start(t, "vllm", fakellm.Models("Qwen/Qwen3-8B")), fakellm.Start(t, "vllm", fakellm.Models("Qwen/Qwen3-8B")), fakellm.Start(t, "ollama", fakellm.Models("qwen3:8b"))
	url := runExample(t, "several-boxes", map[string]string{"RACK_1": one.URL(), "RACK_2": two.URL(), "DESK": desk.URL()})
	const rack = "rack/Qwen/Qwen3-8B"
	exampleCase{"all work", question("qwen", "Hi"), nil, 200, rack}.check(t, url)
	one.Always(fakellm.InternalError())
	for i := range 4 {
		exampleCase{"one fails", question("qwen", fmt.Sprint(i)), nil, 200, rack}.check(t, url)
	}
	two.Always(fakellm.InternalError())
	exampleCase{"both fail", question("qwen", "Hi"), nil, 200, "desk/qwen3:8b"}.check(t, url)
	exampleCase{"a model of the workstation", question("qwen3:8b", "Hi"), nil, 200, "desk/qwen3:8b"}.check(t, url)
}

// A gateway that is about to stop says so to its load balancer, and still serves.
func TestTwoGatewaysExample(t *testing.T) {
	gpu := fakellm.Start(t, "vllm")
	address := freeport.Address(t)
	_, port, _ := strings.Cut(address, ":")
	t.Setenv("PORT", port)
	t.Setenv("VLLM_ADDRESS", gpu.URL())
	caddyfile := strings.Replace(read(t, "../examples/two-gateways/Caddyfile"), "{\n", "{\n\tadmin off\n\tpersist_config off\n", 1)
	caddyfile = strings.NewReplacer("require_key", "key test "+testKey, "\t\tstate {$STATE:redis://127.0.0.1:6379}\n", "", "\t\t\tstore redis\n", "",
		"shutdown_delay 5s", "shutdown_delay 3s").Replace(caddyfile)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	url := "http://" + address
	if code, body := get(t, url+"/health"); code != 200 {
		t.Errorf("/health: status %d: %s", code, body)
	}
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	for code := 200; code != 503; {
		code, _ = get(t, url+"/health")
	}
	exampleCase{"while it stops", question("local", "Hi"), nil, 200, "gpu/Qwen/Qwen3-8B"}.check(t, url)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// People are whom the authority names, programs have keys, and nobody can name themselves.
func TestSSOExample(t *testing.T) {
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("session")
		if err != nil {
			http.Redirect(w, r, "https://auth.example.com/", http.StatusFound)
			return
		}
		w.Header().Set("Remote-User", cookie.Value)
	}))
	defer authority.Close()
	url := runExample(t, "sso", map[string]string{
		"AUTHORITY": authority.Listener.Addr().String(), "OLLAMA_ADDRESS": fakellm.Start(t, "ollama").URL(), "NIGHTLY_KEY": "sk-llm-nightly",
	})
	for _, test := range []struct {
		name   string
		header []string
		status int
	}{
		{"a person who is signed in", []string{"Cookie", "session=carol"}, 200},
		{"a person without a user block", []string{"Cookie", "session=mallory"}, 401},
		{"nobody", nil, 302},
		{"nobody, with a name", []string{"Remote-User", "carol"}, 302},
		{"a person with another one's name", []string{"Cookie", "session=mallory", "Remote-User", "carol"}, 401},
		{"a program", []string{"Authorization", "Bearer sk-llm-nightly"}, 200},
		{"a program with Anthropic's header", []string{"X-Api-Key", "sk-llm-nightly"}, 200},
		{"a wrong key and a name", []string{"Authorization", "Bearer sk-llm-wrong", "Remote-User", "carol"}, 401},
		{"a wrong key in the other header and a name", []string{"X-Api-Key", "sk-llm-wrong", "Remote-User", "carol"}, 401},
	} {
		req := newRequest(t, http.MethodGet, url+"/v1/models", "", test.header...)
		req.Close = true
		res, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d", test.name, res.StatusCode, test.status)
		}
	}
}

// The index names every example.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	index := read(t, "../examples/README.md")
	folders, err := filepath.Glob("../examples/*/README.md")
	if err != nil || len(folders) < 15 {
		t.Fatalf("%d examples, %v", len(folders), err)
	}
	for _, page := range folders {
		if name := filepath.Base(filepath.Dir(page)); !strings.Contains(index, "("+name+"/README.md)") {
			t.Errorf("examples/README.md does not link %s", name)
		}
	}
}

// The page asks for a key; that of ops sees everything, that of alice her own.
func TestDashboardExample(t *testing.T) {
	url := runExample(t, "dashboard", map[string]string{"OLLAMA_ADDRESS": fakellm.Start(t, "ollama").URL(), "OPS_KEY": "sk-ops", "ALICE_KEY": "sk-alice"})
	for secret, want := range map[string]string{"sk-ops": "all", "sk-alice": "own", "change-me-ops": ""} {
		if _, v := me(t, url, bearer(secret)...); v.Sees != want || v.Admin != (want == "all") {
			t.Errorf("%s: %+v", secret, v)
		}
	}
}
