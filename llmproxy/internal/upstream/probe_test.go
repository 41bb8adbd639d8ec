package upstream

import (
	"context"
	"net/http"
	"strings"
	"testing"
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

func TestSumMetrics(t *testing.T) {
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
			if got, ok := sumMetrics([]byte(tt.page), vllmMeters.progress); got != tt.want || ok != tt.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzSumMetrics(f *testing.F) {
	f.Add([]byte(`vllm:prompt_tokens_total{engine="0"} 1.0`))
	f.Add([]byte("vllm:prompt_tokens_total} {\n\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		if sum, ok := sumMetrics(page, vllmMeters.progress); !ok && sum != 0 {
			t.Errorf("sumMetrics = %v without any of them", sum)
		}
	})
}
