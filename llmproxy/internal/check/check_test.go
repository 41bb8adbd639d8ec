package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// The upstreams of a good configuration, as they are configured and as they answer.
var (
	gpuConfig = upstream.Config{Name: "gpu", Kind: upstream.LlamaCpp, MaxConcurrent: 2, Queue: admission.Config{Size: 16, MaxWait: time.Minute}}
	gpuSays   = upstream.Inspection{
		Address: "http://127.0.0.1:8080/v1", Status: 200, Kind: upstream.LlamaCpp, Models: []upstream.Model{{ID: "tiny"}}, Listed: true, OneModel: "tiny", Slots: 2,
		Facts: map[string]upstream.Facts{"tiny": {Window: 16384, Trained: 32768}},
	}
	ollamaConfig = upstream.Config{Name: "ollama", Kind: upstream.Ollama, MaxConcurrent: 1}
	ollamaSays   = upstream.Inspection{
		Address: "http://127.0.0.1:11434/v1", Status: 200, Kind: upstream.Ollama, Models: []upstream.Model{{ID: "llama3.2:latest"}, {ID: "qwen3:8b"}}, Listed: true,
		Facts: map[string]upstream.Facts{"llama3.2": {Window: 16384, Trained: 131072}, "qwen3:8b": {Window: 16384, Trained: 40960}},
	}
	openaiConfig = upstream.Config{Name: "openai", Kind: upstream.OpenAI, APIKey: "sk-secret-of-the-test"}
	openaiSays   = upstream.Inspection{
		Address: "https://api.openai.com/v1", Status: 200, Models: []upstream.Model{{ID: "gpt-4o-mini-2024-07-18"}}, Listed: true,
		Facts: map[string]upstream.Facts{},
	}
)

// A world is a configuration that can be changed before it is checked.
type world struct {
	Config
	server  *Server
	site    *Site
	configs [3]upstream.Config
	says    [3]upstream.Inspection
	built   [3]Upstream
	models  []router.Model
}

// good returns a configuration about which there is nothing to say.
func good() *world {
	w := &world{
		configs: [3]upstream.Config{gpuConfig, ollamaConfig, openaiConfig}, says: [3]upstream.Inspection{gpuSays, ollamaSays, openaiSays},
		models: []router.Model{
			{Name: "local", Pools: pools([]string{"gpu/tiny"}, []string{"openai/gpt-4o-mini"})},
			{Name: "small", Pools: pools([]string{"ollama/llama3.2"}, []string{"gpu/tiny"})},
			{Name: "gpt-*", Pools: pools([]string{"openai"})},
		},
	}
	w.built[2].SendsKey = true
	w.site = &Site{Line: "Caddyfile:3", Keys: true, RateLimit: true, Health: "/health"}
	w.server = &Server{Name: "srv0", Listen: []string{":443"}, Public: true, Logs: []Log{{Name: "log0"}}, Sites: []*Site{w.site}}
	w.Config = Config{Version: "v2.11.9", GracePeriod: 30 * time.Second, Admin: "localhost:2019", Servers: []*Server{w.server}}
	return w
}

func pools(targets ...[]string) (list []router.PoolConfig) {
	for _, t := range targets {
		list = append(list, router.PoolConfig{Targets: t, Policy: router.LeastBusy})
	}
	return list
}

// find builds what the router and upstream make of the configuration, and checks it.
func (w *world) find(t *testing.T) []Finding {
	t.Helper()
	var routes []*router.Upstream
	for i := range w.configs {
		base, err := url.Parse(w.says[i].Address)
		if err != nil {
			t.Fatal(err)
		}
		w.configs[i].Bases = []*url.URL{base}
		u := w.built[i]
		u.Upstream, u.Line, u.Replicas = upstream.New(w.configs[i]), "Caddyfile:4", []*upstream.Inspection{&w.says[i]}
		w.site.Upstreams = append(w.site.Upstreams, &u)
		routes = append(routes, u.Route)
	}
	table, err := router.Compile(routes, w.models)
	if err != nil {
		t.Fatal(err)
	}
	table.Each(func(name string, plan *router.Plan) {
		w.site.Models = append(w.site.Models, Model{Name: name, Line: "Caddyfile:9", Plan: plan})
	})
	return Find(&w.Config)
}

const (
	gpu = iota
	ollama
	openai
)

func TestGoodConfigurationIsClean(t *testing.T) {
	t.Parallel()
	if found := good().find(t); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// A badCase is a change of the good configuration, and what is found then.
type badCase struct {
	name   string
	change func(*world)
	want   Severity
	check  string
	says   string // in the problem or in the fix
}

var cases = []badCase{
	{"old Caddy", func(w *world) { w.Version = "v2.11.6" }, Error, "caddy-version", "Update Caddy to v2.11.7"},
	{"older Caddy", func(w *world) { w.Version = "v2.9.12" }, Error, "caddy-version", "Update"},
	{"unknown Caddy", func(w *world) { w.Version = "" }, Note, "caddy-version", "unknown"},
	{"no grace period", func(w *world) { w.GracePeriod = 0 }, Warning, "grace-period", "no grace_period"},
	{"short grace period", func(w *world) { w.GracePeriod = 2 * time.Second }, Warning, "grace-period", "grace_period 2s is short"},
	{"admin API for all", func(w *world) { w.Admin = ":2019" }, Error, "admin-address", ":2019"},
	{"admin API at an address", func(w *world) { w.Admin = "0.0.0.0:2019" }, Error, "admin-address", "0.0.0.0"},
	{"write timeout", func(w *world) { w.server.WriteTimeout = time.Hour }, Warning, "write-timeout", "cuts every answer"},
	{"short write timeout", func(w *world) { w.server.WriteTimeout = time.Minute }, Error, "write-timeout", "up to 11m before"},
	{"short read timeout", func(w *world) { w.server.ReadTimeout = 10 * time.Second }, Warning, "read-timeout", "10s"},
	{"credentials in the log", func(w *world) { w.server.LogsCredentials = true }, Error, "log-credentials", "log_credentials"},
	{"keys in the log", func(w *world) { w.server.Logs[0].Shown = []string{"X-Api-Key", "Api-Key"} }, Error, "log-keys", "request>headers>X-Api-Key delete"},
	{"keys in the log of errors", func(w *world) { w.server.Logs[0] = Log{Name: "default", Errors: true, Shown: []string{"Api-Key"}} }, Warning, "log-keys", "failed in another handler"},
	{"queries in the log", func(w *world) { w.server.Logs[0].Query = true }, Note, "log-query", "request>uri query"},
	{"no TLS", func(w *world) { w.server.Plain = true }, Note, "no-tls", ":443 without TLS"},
	{"remark", func(w *world) { w.site.Warnings = []Remark{{"key \"a\" has expired; remove it", "Caddyfile:7"}} }, Warning, "configuration", "Remove it."},
	{"no keys, paid", func(w *world) { w.site.Keys = false }, Error, "no-keys", `"openai", at your cost`},
	{"no keys, free", func(w *world) { w.site.Keys = false; w.configs[openai].APIKey = "" }, Warning, "no-keys", "Everybody"},
	{"no rate limit", func(w *world) { w.site.RateLimit = false }, Note, "no-rate-limit", "rate_limit 20/m"},
	{"no health", func(w *world) { w.site.Health = "" }, Note, "no-health", "/health"},
	{"prompts in the log", func(w *world) { w.site.LogPrompts = true }, Warning, "log-prompts", "log_prompts"},
	{"refused", func(w *world) {
		w.says[gpu] = upstream.Inspection{Address: gpuSays.Address, Err: errors.New("listing models: probing 127.0.0.1:8080: dial tcp 127.0.0.1:8080: connect: connection refused")}
	},
		Error, "unreachable", "connection refused; no program listens there"},
	{"refused elsewhere", func(w *world) {
		w.says[gpu] = upstream.Inspection{Address: "http://10.0.0.5:8080/v1", Err: errors.New("probing 10.0.0.5:8080: i/o timeout")}
	}, Error, "unreachable", "firewall"},
	{"asleep", func(w *world) {
		w.configs[gpu].WakeUp = new(upstream.WakeUp)
		w.says[gpu] = upstream.Inspection{Address: gpuSays.Address}
	}, Note, "unreachable", "wakes its machine"},
	{"loading", func(w *world) { w.says[gpu].Loading = true }, Note, "loading", "loading a model"},
	{"wrong key", func(w *world) { w.says[openai].KeyRefused, w.says[openai].Status = true, 401 }, Error, "key-refused", "status 401"},
	{"no key", func(w *world) { w.says[openai].KeyRefused, w.built[openai].SendsKey = true, false }, Error, "key-missing", "wants an API key"},
	{"no key that is needed", func(w *world) { w.built[openai].SendsKey = false }, Error, "key-missing", "{env.OPENAI_API_KEY}"},
	{"not llama.cpp", func(w *world) { w.says[gpu].Kind = upstream.OpenAI }, Warning, "wrong-kind", "does not look like llamacpp"},
	{"another server", func(w *world) { w.says[gpu].Kind = upstream.VLLM }, Warning, "wrong-kind", "Write `vllm` instead of `llamacpp`"},
	{"no list", func(w *world) {
		w.says[gpu].Err, w.says[gpu].Listed = errors.New("listing models: probing x: status 404 for models"), false
	}, Error, "no-models", "status 404"},
	{"no models", func(w *world) { w.says[ollama].Models = nil }, Error, "no-models", "ollama pull MODEL"},
	{"missing model", func(w *world) { w.models[1].Pools[0].Targets[0] = "ollama/mistral" }, Error, "model-missing", "It has llama3.2:latest, qwen3:8b."},
	{"misspelled model", func(w *world) { w.models[1].Pools[0].Targets[0] = "ollama/qwen3:14b" }, Error, "model-missing", "It has qwen3:8b."},
	{"missing model of a service", func(w *world) { w.models[0].Pools[1].Targets[0] = "openai/gpt-5" }, Error, "model-missing", "Correct the name."},
	{"missing warm model", func(w *world) { w.configs[ollama].Warm = []string{"mistral"} }, Error, "model-missing", "`warm` names"},
	{"any name answers", func(w *world) { w.models[0].Pools[0].Targets[0] = "gpu/other" }, Note, "other-model", "--alias other"},
	{"too many slots", func(w *world) { w.configs[gpu].MaxConcurrent = 4 }, Warning, "slots", "--parallel 4"},
	{"unused slots", func(w *world) { w.says[gpu].Slots = 8 }, Note, "slots", "max_concurrent 8"},
	{"slots that Ollama does not say", func(w *world) { w.configs[ollama].MaxConcurrent = 4 }, Note, "slots-unknown", "OLLAMA_NUM_PARALLEL=4"},
	{"more slots than Ollama's", func(w *world) { w.configs[ollama].MaxConcurrent, w.OllamaParallel = 4, 2 }, Warning, "slots", "OLLAMA_NUM_PARALLEL=4"},
	{"more context than there is", func(w *world) { w.configs[gpu].Override.ContextWindow = 32768 }, Error, "context", "--ctx-size 32768"},
	{"unset context", func(w *world) { w.says[ollama].Facts["llama3.2"] = upstream.Facts{Unset: true, Trained: 131072} }, Note, "context", "num_ctx 16384"},
	{"unset context of a model with a small one", func(w *world) { w.says[ollama].Facts["llama3.2"] = upstream.Facts{Unset: true, Trained: 8192} }, Note, "context", "num_ctx 8192"},
	{"unset context of a model that does not say", func(w *world) { w.says[ollama].Facts["llama3.2"] = upstream.Facts{Unset: true} }, Note, "context", "silently. Write"},
	{"small context", func(w *world) { w.says[ollama].Facts["llama3.2"] = upstream.Facts{Window: 4096, Trained: 131072} }, Warning, "context", "4096 tokens"},
	{"small cache", func(w *world) { w.says[gpu].CacheTokens = 8192 }, Note, "cache-size", "8192 tokens"},
	{"smaller fallback", func(w *world) { w.says[gpu].Facts["tiny"] = upstream.Facts{Window: 8192} }, Note, "fallback-context", "8192 tokens, and the target before it one of 16384"},
	{"repeated fallback", func(w *world) { w.models[0].Pools[1].Targets[0] = "gpu/tiny" }, Warning, "dead-fallback", "was tried before"},
	{"fallback that must not be used", func(w *world) { w.models[0].LocalOnly = true }, Warning, "dead-fallback", "must stay local"},
	{"model that must not be used", func(w *world) { w.site.LocalOnly, w.models[0].Pools = true, w.models[0].Pools[:1] }, Error, "dead-fallback", "Write a local target"},
	{"fallback at the same server", func(w *world) { w.models[1].Pools[1].Targets[0] = "ollama/qwen3:8b" }, Note, "same-server", "if that is down"},
	{"hidden model", func(w *world) { w.site.Discover = true; w.models[0].Name = "qwen3:8b" }, Note, "hidden-model", "hides the model qwen3:8b"},
	{"transport without headers", func(w *world) { w.built[gpu].ResponseHeaderTimeout = 30 * time.Second }, Error, "transport-timeout", "first_token_timeout (10m)"},
	{"transport without bytes", func(w *world) { w.built[gpu].ReadTimeout = 30 * time.Second }, Error, "transport-timeout", "idle_timeout (5m)"},
	{"timeout before the first token", func(w *world) { w.configs[gpu].Timers = upstream.Timers{FirstToken: time.Minute, Total: time.Second} }, Warning, "timeouts", "timeout (1s)"},
	{"deadline before the first token", func(w *world) { w.configs[ollama].Timers.FirstToken, w.site.Deadline = 3*time.Minute, 2*time.Minute }, Warning, "timeouts", "deadline (2m)"},
	{"deadline in the queue", func(w *world) { w.site.Deadline = 30 * time.Second }, Warning, "timeouts", "wait for 1m in the queue"},
	{"nothing there", func(w *world) {
		w.site.Optional = true
		w.models = nil
		for i := range w.built {
			w.built[i].Absent = true
		}
	}, Warning, "no-upstream", "llm-import detect"},
}

// Each check has a case.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range Names {
		if !slices.ContainsFunc(cases, func(c badCase) bool { return c.check == name }) {
			t.Errorf("%s has no case", name)
		}
	}
}

// Each check finds what it is for. Each case changes one thing of the good configuration, about which there is nothing to say.
func TestFindings(t *testing.T) {
	t.Parallel()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := good()
			for i := range w.says {
				w.says[i].Facts = map[string]upstream.Facts{}
				for name, about := range [3]upstream.Inspection{gpuSays, ollamaSays, openaiSays}[i].Facts {
					w.says[i].Facts[name] = about
				}
			}
			test.change(w)
			found := w.find(t)
			if !slices.Contains(Names, test.check) {
				t.Errorf("%s is not one of the names", test.check)
			}
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Check == test.check && f.Severity == test.want })
			if i < 0 {
				t.Fatalf("no %s %s: %+v", test.want, test.check, found)
			}
			if f := found[i]; !strings.Contains(f.Problem+" "+f.Fix, test.says) || f.Problem == "" || f.Fix == "" || f.Part == "" {
				t.Errorf("%+v, want %q", f, test.says)
			}
			for _, f := range found {
				if f.Check != test.check {
					t.Errorf("also found: %+v", f)
				}
				if strings.Contains(f.Problem+f.Fix+f.Part, "sk-secret") {
					t.Errorf("shows a key: %+v", f)
				}
			}
		})
	}
}

// A pattern is not hidden by what it leads to, and an absent upstream is not examined.
func TestNoFinding(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"discovered under its own target": func(w *world) {
			w.site.Discover = true
			w.models = append(w.models, router.Model{Name: "qwen3:8b", Pools: pools([]string{"ollama/qwen3:8b"})})
		},
		"Ollama's own context is all that the model has": func(w *world) {
			w.says[ollama].Facts = map[string]upstream.Facts{"llama3.2": {Unset: true, Trained: 4096}}
		},
		"not reached by others": func(w *world) {
			w.server.Public, w.server.Plain, w.site.Keys, w.site.RateLimit = false, true, false, false
		},
		"admin off":                  func(w *world) { w.Admin = "" },
		"admin at a socket":          func(w *world) { w.Admin = "unix//run/caddy.sock" },
		"admin at a loopback":        func(w *world) { w.Admin = "[::1]:2019" },
		"long read timeout":          func(w *world) { w.server.ReadTimeout = 5 * time.Minute },
		"OLLAMA_NUM_PARALLEL agrees": func(w *world) { w.configs[ollama].MaxConcurrent, w.OllamaParallel = 3, 3 },
		"a local server behind openai": func(w *world) {
			w.says[openai].Address, w.says[openai].Kind, w.built[openai].SendsKey, w.configs[openai].APIKey = "http://127.0.0.1:9/v1", upstream.OpenAI, false, ""
		},
		"a transport that is patient": func(w *world) { w.built[gpu].ResponseHeaderTimeout, w.built[gpu].ReadTimeout = time.Hour, time.Hour },
		"a model without conversations": func(w *world) {
			w.says[ollama].Facts = map[string]upstream.Facts{"llama3.2": {Window: 512, Trained: 512, Shape: upstream.Shape{Embeds: true}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := good()
			change(w)
			if found := w.find(t); len(found) != 0 {
				t.Errorf("%+v", found)
			}
		})
	}
}

// The worst findings come first, and the report counts them.
func TestReport(t *testing.T) {
	t.Parallel()
	w := good()
	w.GracePeriod, w.site.Health, w.says[gpu].Models = 0, "", []upstream.Model{{ID: "evil\x1b[2J"}}
	w.says[gpu].OneModel, w.models[0].Pools[0].Targets[0] = "", "gpu/x"
	r := NewReport(&w.Config, w.find(t))
	var severities []Severity
	for _, f := range r.Findings {
		severities = append(severities, f.Severity)
	}
	if !slices.IsSortedFunc(severities, func(a, b Severity) int { return slices.Index(Severities, a) - slices.Index(Severities, b) }) {
		t.Errorf("not sorted: %v", severities)
	}
	if r.Worst(Error) != r.Summary.Errors || r.Worst(Warning) != r.Summary.Errors+r.Summary.Warnings || r.Worst(Note) != len(r.Findings) || r.Summary.Errors == 0 {
		t.Errorf("%+v", r.Summary)
	}
	var text, object bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteJSON(&object)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "\x1b") {
		t.Errorf("controls the terminal: %q", text.String())
	}
	for line := range strings.Lines(text.String()) {
		if len([]rune(line)) > width+1 {
			t.Errorf("a long line: %s", line)
		}
	}
	var again Report
	if err := json.Unmarshal(object.Bytes(), &again); err != nil || cmp.Diff(*r, again) != "" {
		t.Errorf("%v: %s", err, object.Bytes())
	}
}
