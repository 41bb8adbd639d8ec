package llmproxy

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/check"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// checkCaddyfile runs llm-check for a Caddyfile, or for no file if that is empty, and returns what it prints and its exit code.
func checkCaddyfile(t *testing.T, caddyfile string, args ...string) (out string, code int, err error) {
	t.Helper()
	t.Setenv("PATH", t.TempDir()) // without nvidia-smi and systemctl
	t.Setenv("OLLAMA_NUM_PARALLEL", "")
	before := caddy.DefaultAdminListen
	caddy.DefaultAdminListen = "localhost:2019"
	defer func() { caddy.DefaultAdminListen = before }()
	t.Chdir(t.TempDir())
	if caddyfile != "" {
		if err := os.WriteFile("Caddyfile", []byte(caddyfile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err = runCommand(t, "llm-check", append([]string{}, args...)...)
	return out, exitCode(err), err
}

// exitCode returns the code with which Caddy exits after the error of a command. The type of the error that carries it is not exported.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if code := v.Elem().FieldByName("ExitCode"); code.IsValid() {
			return int(code.Int())
		}
	}
	return 1
}

// The servers that the tests check: a llama.cpp with two slots, an Ollama, a vLLM, and a service with a key.
type checkedServers struct{ cpp, ollama, vllm, service *fakellm.Server }

func startChecked(t *testing.T) *checkedServers {
	t.Setenv("SERVICE_KEY", "sk-of-the-service-0123456789")
	return &checkedServers{
		fakellm.Start(t, "llamacpp", fakellm.Slots(2)), fakellm.Start(t, "ollama", fakellm.Models("tiny")), fakellm.Start(t, "vllm", fakellm.Models("big")),
		fakellm.Start(t, "openai", fakellm.Models("gpt-test")),
	}
}

// fill replaces the names of the servers in a Caddyfile by their addresses, and hide the other way round.
func (s *checkedServers) names() []string {
	return []string{s.cpp.Addr(), "CPP", s.ollama.Addr(), "OLLAMA", s.vllm.Addr(), "VLLM", s.service.Addr(), "SERVICE"}
}

func (s *checkedServers) hide(text string) string {
	return strings.NewReplacer(s.names()...).Replace(text)
}

func (s *checkedServers) fill(text string) string {
	names := s.names()
	for i := 0; i < len(names); i += 2 {
		text = strings.ReplaceAll(text, "http://"+names[i+1], "http://"+names[i])
	}
	return text
}

// noGeneration fails the test if a server was asked to generate or to load a model.
func (s *checkedServers) noGeneration(t *testing.T) {
	t.Helper()
	for _, server := range []*fakellm.Server{s.cpp, s.ollama, s.vllm, s.service} {
		if n := len(server.Requests()); n > 0 {
			t.Errorf("%d requests generated: %+v", n, server.Requests()[0].Path)
		}
		for _, probe := range server.Probes() {
			if probe.Method == "POST" && probe.Path != "/api/show" {
				t.Errorf("sent POST %s", probe.Path)
			}
		}
	}
}

const goodCaddyfile = `{
	admin localhost:2019
	grace_period 30s
	log {
		format filter {
			request>headers>X-Api-Key delete
			request>headers>Api-Key delete
		}
	}
}

llm.example.com {
	log {
		output discard
	}
	handle_path /ai/* {
		llm_proxy {
			upstream cpp llamacpp http://CPP {
				max_concurrent 2
			}
			upstream ollama ollama http://OLLAMA {
				params num_ctx 4096
				warm tiny
			}
			upstream vllm vllm http://VLLM
			upstream service openai http://SERVICE {
				api_key {env.SERVICE_KEY}
			}
			model local {
				to cpp/tiny
				fallback vllm/big
				fallback service/gpt-test
			}
			model chat ollama/tiny
			require_key
			rate_limit 20/m
			health /health
		}
	}
}
`

// A good configuration is clean: exit code 0, no finding, no request that generates.
func TestCheckGoodConfiguration(t *testing.T) {
	s := startChecked(t)
	out, code, err := checkCaddyfile(t, s.fill(goodCaddyfile), "--fail-on", "warning")
	if code != 0 || strings.Contains(out, "ERROR") || strings.Contains(out, "WARNING") || !strings.Contains(out, "Checked 4 upstreams with 4 addresses, and 2 models: 0 errors, 0 warnings") {
		t.Errorf("exit code %d, %v:\n%s", code, err, s.hide(out))
	}
	s.noGeneration(t)
}

const badCaddyfile = `{
	admin 0.0.0.0:2999
	servers {
		log_credentials
		timeouts {
			write 1m
		}
	}
}

:8999 {
	log
	llm_proxy {
		upstream cpp llamacpp http://CPP {
			max_concurrent 8
			context 100000
			transport http {
				response_header_timeout 5s
			}
		}
		upstream ollama ollama http://OLLAMA {
			max_concurrent 4
		}
		upstream vllm openai http://VLLM
		upstream service openai http://SERVICE {
			api_key sk-of-the-service-0123456789
		}
		upstream down vllm http://127.0.0.1:1

		model local {
			to ollama/missing
			fallback ollama/missing
			fallback down/any
		}
		model private {
			to cpp/tiny
			fallback service/gpt-test
			local_only
		}
		key alice sk-alice-0123456789-alice
		log_prompts 10
	}
}
`

// Everything that is wrong with a configuration is found, with lines and without secrets.
func TestCheckBadConfiguration(t *testing.T) {
	s := startChecked(t)
	s.service.OnPath("/v1/models", fakellm.Unauthorized())
	for name, args := range map[string][]string{"report.txt": nil, "report.json": {"--json"}} {
		out, code, err := checkCaddyfile(t, s.fill(badCaddyfile), args...)
		if code != 4 {
			t.Errorf("exit code %d, %v", code, err)
		}
		if strings.Contains(out, "sk-") {
			t.Error("shows a secret")
		}
		got := s.hide(strings.ReplaceAll(out, "\n         ", " ")) // where lines are broken depends on the ports
		path := filepath.Join("testdata", "check", name)
		if *update {
			if err := os.WriteFile(filepath.Join(packageDir, path), []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, filepath.Join(packageDir, path)); want != got {
			t.Errorf("%s: -want +got\n%s", name, gocmp.Diff(want, got))
		}
	}
	s.noGeneration(t)
}

// packageDir is where the goldens are, also while a test is in another directory.
var packageDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

// The exit code says whether the configuration can be loaded, and whether something was found.
func TestCheckExitCodes(t *testing.T) {
	s := startChecked(t)
	good := s.fill(goodCaddyfile)
	withWarning := strings.Replace(good, "grace_period 30s\n", "", 1)
	withError := strings.Replace(good, "cpp/tiny", "vllm/missing", 1)
	for _, test := range []struct {
		name, caddyfile string
		args            []string
		code            int
		says            string // in the error
	}{
		{"good", good, nil, 0, ""},
		{"a warning", withWarning, nil, 0, ""},
		{"a warning that counts", withWarning, []string{"--fail-on", "warning"}, 4, "found 1 of severity warning or worse"},
		{"an error", withError, nil, 4, "found 1 of severity error or worse"},
		{"an error as JSON", withError, []string{"--json"}, 4, "found 1"},
		{"a note that counts", strings.Replace(good, "health /health", "", 1), []string{"--fail-on", "note"}, 4, "note"},
		{"no file", "", nil, 1, "no Caddyfile in this directory"},
		{"another file", "", []string{"--config", "missing"}, 1, "missing"},
		{"not a Caddyfile", "llm.example.com {\n\tllm_proxy {\n", nil, 1, "Caddyfile"},
		{"no llm_proxy", "llm.example.com {\n\trespond hi\n}\n", nil, 1, "has no llm_proxy"},
		{"a loop", ":8999 {\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel a b\n\t\tmodel b a\n\t}\n}\n", nil, 1, "leads back to itself"},
		{"an unknown matcher", ":8999 {\n\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel a {\n\t\t\t@x nonsense y\n\t\t\troute @x u/a\n\t\t\troute u/a\n\t\t}\n\t}\n}\n", nil, 1, "nonsense"},
		{"an unknown severity", good, []string{"--fail-on", "bad"}, 1, "write error, warning or note"},
		{"an argument", good, []string{"file"}, 1, "unknown command"},
		{"too little memory", good, []string{"--tune", "--vram", "24"}, 1, "such as 24GiB"},
		{"too much bandwidth", good, []string{"--tune", "--bandwidth", "-1"}, 1, "GB/s"},
		{"no file of variables", good, []string{"--envfile", "missing.env"}, 1, "missing.env"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, code, err := checkCaddyfile(t, test.caddyfile, test.args...)
			if code != test.code || test.says != "" && !strings.Contains(cmp.Or(err, errors.New("")).Error(), test.says) {
				t.Errorf("exit code %d, %v; want %d, %s\n%s", code, err, test.code, test.says, s.hide(out))
			}
		})
	}
}

// adapted returns a whole configuration as JSON.
func adapted(t *testing.T, caddyfile string) []byte {
	t.Helper()
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A configuration in JSON is checked, too, wherever its handlers are; it has no lines.
func TestCheckJSON(t *testing.T) {
	s := startChecked(t)
	text := adapted(t, strings.Replace(s.fill(goodCaddyfile), "cpp/tiny", "vllm/missing", 1))
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, code, err := checkCaddyfile(t, "", "--config", file, "--json")
	var report check.Report
	if code != 4 || json.Unmarshal([]byte(out), &report) != nil || report.Summary.Errors != 1 || report.Summary.Models != 2 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	if f := report.Findings[0]; f.Check != "model-missing" || f.Part != `model "local"` {
		t.Errorf("%+v", f)
	}
}

// Variables come from a file as well, and those of the environment precede.
func TestCheckEnvironmentFile(t *testing.T) {
	s := startChecked(t)
	file := filepath.Join(t.TempDir(), "llm.env")
	if err := os.WriteFile(file, []byte("# keys\nexport CHECKED_ADDRESS=\"http://"+s.cpp.Addr()+"\" \nSERVICE_KEY=other # unused\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CHECKED_ADDRESS", "") // restores it
	os.Unsetenv("CHECKED_ADDRESS")
	caddyfile := strings.Replace(s.fill(goodCaddyfile), "http://"+s.cpp.Addr(), "{env.CHECKED_ADDRESS}", 1)
	if out, code, err := checkCaddyfile(t, caddyfile, "--envfile", file, "--fail-on", "warning"); code != 0 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	if err := os.WriteFile(file, []byte("A=1\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code, err := checkCaddyfile(t, caddyfile, "--envfile", file); code != 1 || !strings.Contains(err.Error(), "line 2: write KEY=VALUE") {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// Plans are made for local servers only, and say what they assume.
func TestCheckTune(t *testing.T) {
	s := startChecked(t)
	out, _, _ := checkCaddyfile(t, s.fill(goodCaddyfile), "--tune", "--vram", "24GiB", "--bandwidth", "1008")
	for _, want := range []string{"TUNING   cpp/tiny", "TUNING   ollama/tiny", "OLLAMA_NUM_PARALLEL=", "--ctx-size", "1008 GB/s", "TUNING   vllm/big"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "TUNING   service") {
		t.Error("has a plan for a service")
	}
	out, _, _ = checkCaddyfile(t, s.fill(goodCaddyfile), "--tune", "--json")
	var report check.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Tuning) != 3 {
		t.Errorf("%v: %s", err, out)
	}
	s.noGeneration(t)
}

// Without any configuration, the servers that answer are checked, and those that do not are no errors.
func TestCheckWithoutConfiguration(t *testing.T) {
	out, code, err := checkCaddyfile(t, "http://127.0.0.1:8999 {\n\tbind 127.0.0.1\n\tllm_proxy\n}\n", "--json")
	var report check.Report
	if code != 0 || json.Unmarshal([]byte(out), &report) != nil || report.Summary.Errors != 0 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}

// The logs of Caddy that would show the keys of clients are found, whatever their filters are called.
func TestCheckLogs(t *testing.T) {
	s := startChecked(t)
	for name, test := range map[string]struct{ global, site, want string }{
		"filtered":              {"format filter {\nrequest>headers>X-Api-Key delete\nrequest>headers>Api-Key delete\n}", "log {\nformat filter {\nrequest>headers>x-api-key delete\nrequest>headers>API-KEY hash\nrequest>uri query {\ndelete key\n}\n}\n}", ""},
		"all headers":           {"output discard", "log {\nformat filter {\nrequest>headers delete\nrequest>uri delete\n}\n}", ""},
		"no log":                {"", "", ""},
		"one header only":       {"output discard", "log {\nformat filter {\nrequest>headers>X-Api-Key delete\n}\n}", "The access log shows Api-Key, in"},
		"no filter":             {"", "log", "shows X-Api-Key and Api-Key, in"},
		"in the default log":    {"", "log {\nformat filter {\nrequest>headers>X-Api-Key delete\nrequest>headers>Api-Key delete\n}\n}", "shows X-Api-Key and Api-Key, in"},
		"appended and filtered": {"output discard", "log {\nformat append {\na b\nwrap filter {\nrequest>headers delete\n}\n}\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			caddyfile := strings.Replace(s.fill(goodCaddyfile), "log {\n\t\toutput discard\n\t}", test.site, 1)
			begin, rest, _ := strings.Cut(caddyfile, "\tlog {\n\t\tformat")
			_, rest, _ = strings.Cut(rest, "\n\t}\n")
			if test.global != "" {
				test.global = "\tlog {\n" + test.global + "\n}\n"
			}
			out, _, err := checkCaddyfile(t, begin+test.global+rest, "--json")
			var report check.Report
			if unmarshal := json.Unmarshal([]byte(out), &report); unmarshal != nil {
				t.Fatal(err, out)
			}
			got := ""
			for _, f := range report.Findings {
				if f.Check == "log-keys" {
					got += f.Problem
				}
			}
			if (got == "") != (test.want == "") || !strings.Contains(strings.ReplaceAll(got, ", which shows requests that failed in another handler,", ""), strings.TrimPrefix(test.want, "The access log ")) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
