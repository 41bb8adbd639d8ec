package survey

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// smi is what nvidia-smi prints for three GPUs. Little is known about the last one.
const smi = "NVIDIA GeForce RTX 4090, 24564, 23000\nNVIDIA H100, with a comma, 81559, 80000\nNVIDIA GB10, 119000, [N/A]\nFailed to initialize NVML\n"

// machine returns a machine with environment variables and what nvidia-smi prints, unless that is empty.
func machine(t *testing.T, gpus string, environment map[string]string) Machine {
	return Machine{
		Getenv: func(name string) string { return environment[name] },
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			if name != "nvidia-smi" || !strings.HasPrefix(strings.Join(args, " "), "--query-gpu=name,memory.total,memory.free --format=csv") {
				t.Errorf("%s %v", name, args)
			}
			if gpus == "" {
				return nil, errors.New("executable file not found")
			}
			return []byte(gpus), nil
		},
	}
}

// Servers of all kinds are found, with their models, and nothing is generated.
func TestLook(t *testing.T) {
	t.Parallel()
	ollama := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b", "nomic-embed-text:latest"))
	vllm := fakellm.Start(t, "vllm", fakellm.Models("org/model"))
	llama := fakellm.Start(t, "llamacpp", fakellm.Slots(3))
	other := fakellm.Start(t, "openai", fakellm.Models("qwen"))
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }))
	t.Cleanup(page.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	m := machine(t, smi, map[string]string{"OLLAMA_NUM_PARALLEL": "4", "OPENAI_API_KEY": "sk-hunter2"})
	f, err := m.Look(t.Context(), []string{ollama.URL(), "http://" + closed.Addr().String(), vllm.URL(), page.URL, llama.Addr(), other.URL()})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.Servers {
		line := s.Kind + " " + s.Address
		for _, m := range s.Models {
			line += " " + m.Name
		}
		got = append(got, line)
	}
	want := []string{"ollama " + ollama.URL() + " llama3.1:8b nomic-embed-text:latest", "vllm " + vllm.URL() + " org/model", "llamacpp " + llama.URL() + " tiny", "openai " + other.URL() + " qwen"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if f.Servers[2].Slots != 3 || f.Parallel != 4 || !f.Servers[0].Models[1].Embeds || f.Servers[0].Models[0].Embeds {
		t.Errorf("%+v", f)
	}
	gpus := []GPU{{"NVIDIA GeForce RTX 4090", 24564, 23000}, {"NVIDIA H100, with a comma", 81559, 80000}, {"NVIDIA GB10", 119000, 0}}
	if diff := cmp.Diff(gpus, f.GPUs); diff != "" {
		t.Error(diff)
	}
	for _, s := range []*fakellm.Server{ollama, vllm, llama, other} {
		if requests := s.Requests(); len(requests) > 0 {
			t.Errorf("%s generated: %s", s.URL(), requests[0].Path)
		}
	}
	text, err := f.Caddyfile("", "caddy llm-import detect")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"http://localhost:8080 {\n\tbind 127.0.0.1\n", "# GPU: NVIDIA GeForce RTX 4090, 24564 MiB, 23000 MiB free\n", "upstream ollama ollama " + ollama.URL() + " {\n", "max_concurrent 4\n", "upstream local openai " + other.URL() + " {\n",
		"# - llama3.1:8b", "3 slots", "discover\n", "model chat ollama/llama3.1:8b\n", "model embeddings ollama/nomic-embed-text:latest\n", "# upstream openai openai {\n\t\t# \tapi_key {env.OPENAI_API_KEY}\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("the value of a key is in the Caddyfile")
	}
}

// If nothing is found, the error says what to start.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, gpus, want string }{
		{"no GPU", "", "ollama serve"},
		{"small GPU", "NVIDIA T400, 4096, 4000\n", "vllm serve Qwen/Qwen3-0.6B"},
		{"large GPU", smi, "vllm serve Qwen/Qwen3-8B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f, err := machine(t, test.gpus, nil).Look(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Caddyfile("", "x"); !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if _, err := machine(t, "", nil).Look(t.Context(), []string{"ftp://x"}); err == nil {
		t.Error("an invalid address is no error")
	}
}

func TestOllamaAddress(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "http://127.0.0.1:11434", "0.0.0.0": "http://127.0.0.1:11434", "0.0.0.0:8888": "http://127.0.0.1:8888", ":8888": "http://127.0.0.1:8888", "[::]:1": "http://127.0.0.1:1",
		"gpu.local": "http://gpu.local:11434", "https://gpu.example.com:443": "https://gpu.example.com:443", "http://10.0.0.1:5": "http://10.0.0.1:5", "://": "http://127.0.0.1:11434", "ftp://x": "http://127.0.0.1:11434",
	} {
		if got := machine(t, "", map[string]string{"OLLAMA_HOST": value}).Ollama(); got != want {
			t.Errorf("OLLAMA_HOST=%q: %s, want %s", value, got, want)
		}
	}
}

// A port at which a server listens is not that of the site.
func TestFreeSite(t *testing.T) {
	t.Parallel()
	f := &Found{Servers: []Server{{Address: "http://127.0.0.1:8080", Kind: "llamacpp"}, {Address: "http://127.0.0.1:8081", Kind: "llamacpp"}}}
	text, err := f.Caddyfile("", "x")
	if err != nil || !strings.Contains(text, "http://localhost:8082 {\n") || !strings.Contains(text, "upstream llamacpp-2 llamacpp") {
		t.Errorf("%v\n%s", err, text)
	}
}

// Whatever nvidia-smi prints, it is GPUs or none, and does not end a comment of the Caddyfile.
func FuzzGPUs(f *testing.F) {
	f.Add(smi)
	f.Add("a,1,2\n{$HOME},3,4\nb\rimport x,5,6\n,,\n")
	f.Fuzz(func(t *testing.T, out string) {
		gpus := Machine{Run: func(context.Context, string, ...string) ([]byte, error) { return []byte(out), nil }}.GPUs(t.Context())
		found := &Found{GPUs: gpus, Servers: []Server{{Address: "http://127.0.0.1:1", Kind: "vllm"}}}
		text, err := found.Caddyfile("", "x")
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(text, "\nhttp://localhost:8080 {\n")
		for line := range strings.Lines(head) {
			if line != "\n" && !strings.HasPrefix(line, "#") {
				t.Errorf("a line outside of comments: %q", line)
			}
		}
	})
}
