package upstream

import (
	"strings"
	"testing"
)

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
		{"labels without an end", `vllm:prompt_tokens_total{engine="0" 7` + "\n", 0, false},
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

func TestLabelValue(t *testing.T) {
	t.Parallel()
	const labels = `engine="0", reason="waiting for \"capacity\", {deferred}",num_gpu_blocks="None",`
	for name, want := range map[string]string{
		"engine": "0", "reason": `waiting for "capacity", {deferred}`, "num_gpu_blocks": "None", "gpu_blocks": "", "capacity": "",
	} {
		if got := labelValue(labels, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, broken := range []string{"", "engine", "engine=", `engine="0`, `=`, `reason=0,engine="0"`} {
		if got := labelValue(broken, "engine"); got != "" {
			t.Errorf("%s: %q", broken, got)
		}
	}
}

func FuzzLabelValue(f *testing.F) {
	f.Add(`engine="0",reason="a\"b"`, "reason")
	f.Add("engine='0',=`x`", "")
	f.Fuzz(func(t *testing.T, labels, name string) {
		if got := labelValue(labels, name); got != "" && !strings.Contains(labels, name) {
			t.Errorf("%q has no %q, got %q", labels, name, got)
		}
	})
}

// Negative and huge values count as zero.
func TestCountOf(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]int{3: 3, 2.9: 2, 0: 0, -1: 0, 1e300: 0} {
		if got := countOf(value); got != want {
			t.Errorf("%v is %d, want %d", value, got, want)
		}
	}
}
