package upstream

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestProbeAnswerIsBounded(t *testing.T) {
	t.Parallel()
	u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat(" ", 2*maxProbeAnswer)), nil
	})}, "gpu")
	p := &probe{ctx: context.Background(), u: u, base: u.Bases[0]}
	if _, body, _ := p.get("/x"); len(body) != maxProbeAnswer {
		t.Errorf("read %d bytes", len(body))
	}
}

func TestSumCounters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, page string
		want       float64
		ok         bool
	}{
		{"one", "vllm:generation_tokens_total 7\n", 7, true},
		{"both counters of two engines", "# TYPE vllm:prompt_tokens_total counter\n" +
			`vllm:prompt_tokens_total{engine="0",model_name="a b}c"} 1.5e+03` + "\n" + `vllm:prompt_tokens_total{engine="1"} 1.0` + "\nvllm:generation_tokens_total 7.0 1700000000\n", 1508, true},
		{"longer names", "vllm:prompt_tokens_total_by_source 7\nvllm:prompt_tokens 7\n", 0, false},
		{"not a number", "vllm:prompt_tokens_total many\n", 0, false},
		{"HTML page", "<html>\n", 0, false},
		{"empty", "", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := sumCounters([]byte(tt.page), VLLM.progressCounters); got != tt.want || ok != tt.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzSumCounters(f *testing.F) {
	f.Add([]byte(`vllm:prompt_tokens_total{engine="0"} 1.0`))
	f.Add([]byte("vllm:prompt_tokens_total} {\n\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if sum, ok := sumCounters(page, VLLM.progressCounters); !ok && sum != 0 {
			t.Errorf("sumCounters = %v without counters", sum)
		}
	})
}

// Without counters there is no progress to report. A llama.cpp without --metrics answers 501.
func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		kind   *Kind
		status int
		want   float64
		ok     bool
	}{
		{"vllm", VLLM, 200, 0, false},
		{"llama.cpp", LlamaCpp, 200, 12, true},
		{"llama.cpp without metrics", LlamaCpp, 501, 0, false},
		{"ollama", Ollama, 200, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: tt.kind, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/metrics" || tt.kind == Ollama {
					t.Errorf("asked for %s", req.URL)
				}
				return answer(tt.status, "llamacpp:n_decode_total 5\nllamacpp:prompt_tokens_total 7\n"), nil
			})}, "gpu")
			if got, ok := u.Progress(t.Context(), u.Replicas[0]); got != tt.want || ok != tt.ok {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}

// Reading a prompt of 4,000 tokens takes at most 8 s on a GPU and 80 s on a CPU.
func TestPrefillTime(t *testing.T) {
	t.Parallel()
	for kind, want := range map[*Kind]time.Duration{VLLM: 8 * time.Second, LlamaCpp: 80 * time.Second, Ollama: 80 * time.Second} {
		if got := upstreamAt(t, Config{Name: "u", Kind: kind}, "gpu").PrefillTime(16_000); got != want {
			t.Errorf("%s: %v, want %v", kind.Name, got, want)
		}
	}
}
