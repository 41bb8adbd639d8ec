package tuning

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// llama8B is Llama 3.1 8B as Ollama describes it.
var llama8B = upstream.Facts{Trained: 131072, Shape: upstream.Shape{Architecture: "llama", Quantization: "Q4_K_M", Parameters: 8030261248, Bytes: 4920753328, CacheWidth: 32 * 8 * 256}}

var card24 = NewGPU("NVIDIA GeForce RTX 3090", 24*gibi, 0)

// The plans for usual models on usual cards are those that were calculated by hand.
func TestPropose(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		Request
		fits           bool
		slots, context int
		compress       bool
		better         string
		one            float64 // about
	}{
		// 24 GiB − 1.5 − 4.6 = 17.9 GiB; 128 KiB for each token: 146,800 tokens.
		{"8B, Q4", Request{Kind: upstream.Ollama, GPU: card24, Facts: llama8B}, true, 4, 32768, false, "Q8_0", 156},
		{"8B, Q4, eight slots", Request{Kind: upstream.LlamaCpp, GPU: card24, Facts: llama8B, Slots: 8}, true, 8, 16384, false, "Q8_0", 172},
		{"8B, Q4, 8 GiB", Request{Kind: upstream.Ollama, GPU: NewGPU("", 8*gibi, 0), Facts: llama8B}, true, 3, 8192, true, "", 0},
		// 16.1 GB of weights: 128 KiB × 8192 × 4 need 4 GiB more than there is.
		{"8B, F16", Request{Kind: upstream.LlamaCpp, GPU: card24, Facts: upstream.Facts{Trained: 131072, Shape: upstream.Shape{Quantization: "F16", Bytes: 16068891136, Parameters: 8030261248, CacheWidth: 65536}}}, true, 4, 8192, false, "", 0},
		{"8B, BF16, vLLM", Request{Kind: upstream.VLLM, Model: "Qwen/Qwen3-8B", GPU: card24, Facts: upstream.Facts{Window: 8192, Shape: upstream.Shape{Parameters: 8e9}}}, true, 21, 8192, false, "", 0},
		{"70B, Q4", Request{Kind: upstream.Ollama, GPU: card24, Facts: upstream.Facts{Trained: 131072, Shape: upstream.Shape{Quantization: "Q4_K_M", Bytes: 42520395584, Parameters: 70e9, CacheWidth: 80 * 8 * 256}}}, false, 0, 0, true, "", 0},
		// 30B with 3B active: about a sixth of 18.6 GB is read for a token.
		{"30B of experts", Request{Kind: upstream.Ollama, GPU: card24, Facts: upstream.Facts{Trained: 40960, Shape: upstream.Shape{Quantization: "Q4_K_M", Bytes: 18556685856, Parameters: 30532122624, CacheWidth: 48 * 4 * 256, Experts: 128, ExpertsUsed: 8}}}, true, 4, 8192, false, "", 302},
		{"a model with a small window", Request{Kind: upstream.LlamaCpp, GPU: card24, Facts: upstream.Facts{Trained: 2048, Shape: upstream.Shape{Bytes: 2e9, Parameters: 1e9, CacheWidth: 1e5}}}, true, 4, 2048, false, "", 0},
		{"size unknown", Request{Kind: upstream.VLLM, GPU: card24}, false, 0, 0, false, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := Propose(test.Request)
			if p.Fits != test.fits || p.Slots != test.slots || p.Context != test.context || p.CompressCache != test.compress || p.Better != test.better {
				t.Errorf("fits %v, %d slots of %d, compressed %v, better %q; want %v, %d of %d, %v, %q\n%s",
					p.Fits, p.Slots, p.Context, p.CompressCache, p.Better, test.fits, test.slots, test.context, test.compress, test.better, strings.Join(p.Explanations, "\n"))
			}
			if test.one > 0 && math.Abs(p.One-test.one) > 1 {
				t.Errorf("%.1f tokens/s alone, want %v", p.One, test.one)
			}
			if p.Fits {
				used := p.WeightBytes + p.ReservedBytes + p.CachePerToken*int64(p.Context)
				if used > p.MemoryBytes || p.All < p.One || len(p.Caddyfile) == 0 || len(p.Settings) == 0 || p.SpillSeconds < 1 {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

// The GPU is known by its name, or said, or assumed.
func TestNewGPU(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name              string
		memory, bandwidth int64
		want              GPU
	}{
		{"NVIDIA GeForce RTX 4090", 24564 * mebi, 0, GPU{"NVIDIA GeForce RTX 4090", 24564 * mebi, 1008e9, false}},
		{"NVIDIA GeForce RTX 3090 Ti", 24 * gibi, 0, GPU{"NVIDIA GeForce RTX 3090 Ti", 24 * gibi, 1008e9, false}},
		{"NVIDIA GeForce RTX 4070 Ti SUPER", 16 * gibi, 0, GPU{"NVIDIA GeForce RTX 4070 Ti SUPER", 16 * gibi, 672e9, false}},
		{"NVIDIA L4", 23 * gibi, 0, GPU{"NVIDIA L4", 23 * gibi, 300e9, false}},
		{"NVIDIA L40S", 45 * gibi, 0, GPU{"NVIDIA L40S", 45 * gibi, 864e9, false}},
		{"Something New", 16 * gibi, 0, GPU{"Something New", 16 * gibi, 936e9, true}},
		{"Something New", 16 * gibi, 5e11, GPU{"Something New", 16 * gibi, 5e11, false}},
		{"", 0, 0, assumed},
		{"", 16 * gibi, 5e11, GPU{"a card with 16.0 GiB", 16 * gibi, 5e11, false}},
	} {
		if got := NewGPU(test.name, test.memory, test.bandwidth); got != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// A plan as people and programs get it.
func TestPlanGoldens(t *testing.T) {
	t.Parallel()
	p := Propose(Request{Target: "gpu/llama3.1:8b", Model: "llama3.1:8b", Kind: upstream.Ollama, GPU: card24, Facts: llama8B})
	var text strings.Builder
	for _, row := range p.Rows() {
		text.WriteString(row[0] + "\t" + row[1] + "\n")
	}
	object, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"plan.txt": text.String(), "plan.json": string(object) + "\n"} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != got {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(string(want), got))
		}
	}
}
