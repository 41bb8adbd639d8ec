// Package tuning proposes how to start a model server for the memory of its GPU: how many requests at once, with which context window, in which
// quantization, and how fast that may be at best.
//
// It calculates, and measures nothing: its numbers are estimates, and each plan says how they came about. It sends no request. It stands on
// upstream, which says what a model is like and how a kind of server calls its settings.
package tuning

import (
	"fmt"
	"math"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A GPU is the memory that models and their KV caches share, and its speed.
type GPU struct {
	Name string
	// Memory is in bytes, Bandwidth in bytes per second.
	Memory, Bandwidth int64
	// Assumed means that no GPU was found, so that a usual one is assumed.
	Assumed bool
}

const (
	gibi = 1 << 30
	mebi = 1 << 20
)

// Assumed is a card with 24 GiB, with the bandwidth of a GeForce RTX 3090.
var assumed = GPU{Name: "a card with 24 GiB, such as a GeForce RTX 3090", Memory: 24 * gibi, Bandwidth: 936e9, Assumed: true}

// bandwidths are those that the manufacturer states, in GB/s, by what the names of GPUs contain. The longer names come first.
var bandwidths = []struct {
	name string
	gbps int64
}{
	{"RTX 5090", 1792}, {"RTX 5080", 960}, {"RTX 5070 Ti", 896}, {"RTX 5070", 672}, {"RTX 5060 Ti", 448},
	{"RTX 4090", 1008}, {"RTX 4080 SUPER", 736}, {"RTX 4080", 717}, {"RTX 4070 Ti SUPER", 672}, {"RTX 4070", 504}, {"RTX 4060 Ti", 288}, {"RTX 4060", 272},
	{"RTX 3090 Ti", 1008}, {"RTX 3090", 936}, {"RTX 3080 Ti", 912}, {"RTX 3080", 760}, {"RTX 3070", 448}, {"RTX 3060", 360}, {"RTX 2080 Ti", 616},
	{"RTX 6000 Ada", 960}, {"RTX A6000", 768}, {"RTX A5000", 768}, {"RTX A4000", 448},
	{"H200", 4800}, {"H100 PCIe", 2000}, {"H100", 3350}, {"A100-SXM4-80GB", 2039}, {"A100 80GB", 1935}, {"A100", 1555}, {"L40S", 864}, {"L40", 864}, {"L4", 300}, {"A40", 696}, {"A30", 933}, {"A10", 600},
	{"V100", 900}, {"T4", 320}, {"P40", 347},
}

// NewGPU returns a GPU by what is known of it: zero and empty for nothing. Without memory, it is the one that is assumed.
func NewGPU(name string, memory, bandwidth int64) GPU {
	if memory == 0 {
		g := assumed
		if bandwidth > 0 {
			g.Bandwidth = bandwidth
		}
		return g
	}
	g := GPU{Name: name, Memory: memory, Bandwidth: bandwidth}
	for _, known := range bandwidths {
		if g.Bandwidth == 0 && strings.Contains(name, known.name) {
			g.Bandwidth = known.gbps * 1e9
		}
	}
	if g.Bandwidth == 0 {
		g.Bandwidth, g.Assumed = assumed.Bandwidth, true
	}
	if g.Name == "" {
		g.Name = fmt.Sprintf("a card with %s", size(memory))
	}
	return g
}

// A Request is what a plan is wanted for.
type Request struct {
	Target string // upstream/model
	Model  string
	Kind   *upstream.Kind
	GPU    GPU
	upstream.Facts
	// Slots is how many requests at once are wanted; zero for as many as are usual.
	Slots int
	// CacheTokens is the real size of the server's KV cache; zero if it is unknown.
	CacheTokens int
}

// A Plan is how to start a server for one model.
type Plan struct {
	Target string `json:"target"`
	GPU    string `json:"gpu"`
	// Fits is whether the weights and a context window that is worth it fit into the memory.
	Fits bool `json:"fits"`

	WeightBytes    int64  `json:"weight_bytes"`
	Quantization   string `json:"quantization,omitempty"`
	CachePerToken  int64  `json:"kv_bytes_per_token"`
	CacheTokens    int64  `json:"kv_tokens"`
	CompressCache  bool   `json:"kv_compressed,omitempty"`
	ReservedBytes  int64  `json:"reserved_bytes"`
	MemoryBytes    int64  `json:"memory_bytes"`
	BandwidthBytes int64  `json:"bandwidth_bytes_per_second"`

	// Slots and Context are what is proposed.
	Slots   int `json:"slots,omitempty"`
	Context int `json:"context,omitempty"`
	// Options are the slots that are possible with other context windows.
	Options []Option `json:"options,omitempty"`

	// One is the bound of the rate for a request that is alone, All that of all slots together, in tokens per second.
	One float64 `json:"tokens_per_second_alone,omitempty"`
	All float64 `json:"tokens_per_second_together,omitempty"`
	// SpillSeconds is after which wait another server is likely to be faster.
	SpillSeconds int `json:"spill_seconds,omitempty"`

	// Settings are those of the server, and Caddyfile the lines for the block of the upstream.
	Settings  []string `json:"settings,omitempty"`
	Caddyfile []string `json:"caddyfile,omitempty"`
	// Better is a quantization that would suit the memory better.
	Better string `json:"better_quantization,omitempty"`
	// Explanations say how the numbers came about, and what was assumed.
	Explanations []string `json:"explanations"`
}

// An Option is a number of slots with a context window.
type Option struct {
	Context int `json:"context"`
	Slots   int `json:"slots"`
}

const (
	// usefulContext is the smallest context window that is proposed, if the model has it.
	usefulContext = 8192
	// usualSlots are proposed without a wish.
	usualSlots = 4
	// cacheNumber is the size of a number in the cache, in bytes, and compressedNumber that of one that is rounded to 8 bits, with its scale.
	cacheNumber, compressedNumber = 2.0, 1.0625
	// lowShare and highShare are which part of the bound servers usually reach.
	lowShare, highShare = 0.6, 0.8
	// usualAnswer is how many tokens an answer has, for the time that a slot is taken.
	usualAnswer = 500
	// maxSequences is the most that is proposed for vLLM.
	maxSequences = 64
)

// Propose returns a plan. It always returns one: what is unknown is assumed, and said.
func Propose(r Request) Plan {
	if r.Trained == 0 {
		r.Trained = r.Window // it has this one at least
	}
	p := Plan{Target: r.Target, GPU: r.GPU.Name, MemoryBytes: r.GPU.Memory, BandwidthBytes: r.GPU.Bandwidth}
	if r.GPU.Assumed {
		p.explain("GPU: %s with %.0f GB/s is assumed. --vram and --bandwidth say it better.", r.GPU.Name, float64(r.GPU.Bandwidth)/1e9)
	} else {
		p.explain("GPU: %s with %s and %.0f GB/s.", r.GPU.Name, size(r.GPU.Memory), float64(r.GPU.Bandwidth)/1e9)
	}
	if !p.weigh(&r) {
		return p
	}
	width := p.cacheWidth(&r)
	p.reserve(&r)
	p.CachePerToken = int64(math.Ceil(float64(width) * cacheNumber))
	wanted := r.Slots
	if wanted == 0 {
		wanted = usualSlots
	}
	least := usefulContext
	if r.Trained > 0 {
		least = min(least, r.Trained)
	}
	if p.fill(&r, width, cacheNumber); p.CacheTokens < int64(least) || p.CacheTokens < int64(least)*int64(wanted) {
		p.fill(&r, width, compressedNumber)
		p.CompressCache = true
	}
	p.Fits = p.CacheTokens >= int64(least)
	p.propose(&r, wanted, least)
	p.quantize(&r, width, wanted, least)
	if p.Fits {
		p.speed(&r)
		p.write(&r)
	}
	return p
}

func (p *Plan) explain(format string, args ...any) {
	p.Explanations = append(p.Explanations, fmt.Sprintf(format, args...))
}

// weigh finds the size of the weights. It returns false if nothing is known of it.
func (p *Plan) weigh(r *Request) bool {
	p.Quantization = r.Quantization
	bits, known := bitsOf(r.Quantization)
	switch {
	case r.Bytes > 0:
		p.WeightBytes = r.Bytes
		p.explain("Weights: %s, as the server says.", size(r.Bytes))
	case r.Parameters > 0:
		if !known {
			bits = 16
		}
		p.WeightBytes = int64(float64(r.Parameters) * bits / 8)
		p.explain("Weights: %s parameters × %.3g bits / 8 = %s, by the name of the model.", number(r.Parameters), bits, size(p.WeightBytes))
	default:
		p.explain("The size of the model is unknown: neither the server nor the name of the model says it.")
		return false
	}
	if r.Parameters == 0 && known {
		r.Parameters = int64(float64(p.WeightBytes) * 8 / bits)
	}
	return true
}

// typicalWidths are how many numbers the KV cache of a usual model has for each token, by its size: layers × 8 heads × 128 × 2.
var typicalWidths = []struct {
	parameters int64
	layers     int64
}{{15e8, 28}, {5e9, 36}, {10e9, 34}, {20e9, 42}, {40e9, 64}, {math.MaxInt64, 80}}

// cacheWidth returns how many numbers the KV cache has for each token.
func (p *Plan) cacheWidth(r *Request) int64 {
	if r.CacheWidth > 0 {
		p.explain("KV cache: layers × KV heads × (key length + value length) = %d numbers for each token, as the file of the model says; an upper bound if some layers attend to the latest tokens only.", r.CacheWidth)
		return r.CacheWidth
	}
	parameters := r.Parameters
	if parameters == 0 {
		parameters = p.WeightBytes * 2 // about 4 bits each
	}
	for _, t := range typicalWidths {
		if parameters <= t.parameters {
			width := t.layers * 8 * 128 * 2
			p.explain("KV cache: the server does not say the layers and heads. A model of this size usually has %d layers × 8 KV heads × (128 + 128) = %d numbers for each token.", t.layers, width)
			return width
		}
	}
	return 0
}

// reserve sets apart what the server needs besides weights and cache.
func (p *Plan) reserve(r *Request) {
	if r.Kind == upstream.VLLM {
		p.ReservedBytes = r.GPU.Memory/10 + gibi
		p.explain("Reserved: a tenth of the memory (--gpu-memory-utilization 0.9), and 1 GiB for activations.")
		return
	}
	p.ReservedBytes = 1536 * mebi
	p.explain("Reserved: 1.5 GiB for CUDA, buffers and the screen.")
}

// fill sets how many tokens fit into what is left of the memory.
func (p *Plan) fill(r *Request, width int64, perNumber float64) {
	p.CachePerToken = max(int64(math.Ceil(float64(width)*perNumber)), 1)
	p.CacheTokens = max(r.GPU.Memory-p.ReservedBytes-p.WeightBytes, 0) / p.CachePerToken
}

// propose chooses the slots and the context window, and lists what else is possible.
func (p *Plan) propose(r *Request, wanted, least int) {
	compressed := ""
	if p.CompressCache {
		compressed = ", with numbers of 8 bits"
	}
	p.explain("Each token needs %s of cache%s. %s − %s − %s = %s are left for %s tokens.", size(p.CachePerToken), compressed, size(p.MemoryBytes), size(p.ReservedBytes), size(p.WeightBytes),
		size(max(p.MemoryBytes-p.ReservedBytes-p.WeightBytes, 0)), number(p.CacheTokens))
	if r.CacheTokens > 0 {
		p.explain("The server says that its cache has %s tokens now.", number(int64(r.CacheTokens)))
	}
	if !p.Fits {
		return
	}
	for context := least; ; context *= 2 {
		if r.Trained > 0 {
			context = min(context, r.Trained)
		}
		slots := min(p.CacheTokens/int64(context), maxSequences)
		if slots == 0 {
			break
		}
		p.Options = append(p.Options, Option{context, int(slots)})
		if int(slots) >= wanted || p.Slots == 0 {
			p.Slots, p.Context = min(int(slots), wanted), context
		}
		if context == r.Trained || context >= 1<<20 || r.Trained == 0 && context >= 32768 {
			break
		}
	}
	if r.Kind == upstream.VLLM { // it shares its cache, and few requests use the whole window
		p.Slots = int(min(max(p.CacheTokens*4/int64(p.Context), 1), maxSequences))
		p.explain("vLLM gives requests only the cache that they use. On average they are taken to use a quarter of the window, so that more run at once.")
	}
}

// quantizations are how weights can be rounded, in bits for each, with scales and what is kept more exactly. From the most exact on.
var quantizations = []struct {
	name string
	bits float64
	vllm bool
}{
	{"F16", 16, false}, {"BF16", 16, true}, {"F32", 32, false}, {"Q8_0", 8.5, false}, {"FP8", 8, true}, {"INT8", 8, true}, {"W8A8", 8, true}, {"Q6_K", 6.57, false}, {"Q5_K_M", 5.69, false},
	{"Q4_K_M", 4.89, false}, {"AWQ", 4.5, true}, {"GPTQ", 4.5, true}, {"W4A16", 4.5, true}, {"INT4", 4.5, true}, {"NVFP4", 4.5, true}, {"MXFP4", 4.25, false}, {"Q4_0", 4.55, false}, {"Q4_K_S", 4.6, false}, {"Q3_K_M", 3.91, false}, {"Q2_K", 3.0, false},
}

// bitsOf returns the bits of each weight.
func bitsOf(quantization string) (bits float64, ok bool) {
	name := strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(quantization, " - ", "_"), " ", "_"))
	if name == "" {
		return 0, false
	}
	for _, q := range quantizations {
		if name == q.name || strings.HasPrefix(name, q.name+"_") {
			return q.bits, true
		}
	}
	return 0, false
}

// proposed are the quantizations that are proposed, from the most exact on.
func proposed(kind *upstream.Kind) []string {
	if kind == upstream.VLLM {
		return []string{"BF16", "FP8", "AWQ"}
	}
	return []string{"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"}
}

// quantize looks for the most exact quantization with which all slots have a useful window.
func (p *Plan) quantize(r *Request, width int64, wanted, least int) {
	if r.Parameters == 0 {
		return
	}
	now, known := bitsOf(r.Quantization)
	if !known {
		now = float64(p.WeightBytes) * 8 / float64(r.Parameters)
	}
	for _, name := range proposed(r.Kind) {
		bits, _ := bitsOf(name)
		weights := int64(float64(r.Parameters) * bits / 8)
		tokens := (r.GPU.Memory - p.ReservedBytes - weights) / max(int64(float64(width)*cacheNumber), 1)
		if tokens < int64(wanted)*int64(least) {
			continue
		}
		switch {
		case p.Fits && !p.CompressCache && bits <= now+0.5:
		case bits < now-0.5:
			p.Better = name
			p.explain("Quantization: with %s, the weights take about %s, and %s tokens of context fit.", name, size(weights), number(tokens))
		case bits > now+0.5:
			p.Better = name
			p.explain("Quantization: %s would fit, too: about %s, with %s tokens of context. It is more exact, and slower by its size.", name, size(weights), number(tokens))
		}
		return
	}
	if !p.Fits {
		p.explain("No usual quantization of this model fits: use a smaller model, a larger GPU, or several.")
	}
}

// speed bounds how fast the server can be: for each token, the weights and the cache of each request have to be read once.
func (p *Plan) speed(r *Request) {
	read := float64(p.WeightBytes)
	if r.Experts > 0 && r.ExpertsUsed > 0 {
		read *= 0.1 + 0.9*float64(r.ExpertsUsed)/float64(r.Experts)
		p.explain("Experts: %d of %d answer each token, so that about %s of the weights are read for it; a tenth is taken to be common to all.", r.ExpertsUsed, r.Experts, size(int64(read)))
	}
	cache := float64(p.CachePerToken) * float64(p.Context) / 4
	p.One = float64(r.GPU.Bandwidth) / (read + cache)
	together := min(float64(p.WeightBytes), read*float64(p.Slots)) // with several requests, more experts are read
	if r.Experts == 0 {
		together = read
	}
	p.All = float64(p.Slots) * float64(r.GPU.Bandwidth) / (together + cache*float64(p.Slots))
	each := p.All / float64(p.Slots)
	p.explain("Speed: bandwidth / bytes read for a token, with a quarter of the window in use: %.0f tokens/s for one request at most, %.0f for %d together. Servers usually reach %.0f to %.0f %% of that. Reading prompts takes its own time.",
		p.One, p.All, p.Slots, lowShare*100, highShare*100)
	p.SpillSeconds = max(int(math.Round(usualAnswer/(each*lowShare))), 1)
	p.explain("Spill: an answer of %d tokens takes about %d s while all slots are busy. That is about how long a request waits if as many are before it as there are slots; after that, another server is likely to be faster.", usualAnswer, p.SpillSeconds)
}

// write writes the settings of the server and of the gateway.
func (p *Plan) write(r *Request) {
	p.Settings = r.Kind.Settings(upstream.Setup{Model: r.Model, Slots: p.Slots, Context: p.Context, CompressCache: p.CompressCache})
	p.Caddyfile = []string{fmt.Sprintf("max_concurrent %d", p.Slots), fmt.Sprintf("queue %d %dm", max(8*p.Slots, 16), max((8*p.SpillSeconds+59)/60, 1))}
}

// Rows returns the plan for people: what each row is about, and its text. A row that continues the one before is about nothing.
func (p Plan) Rows() (rows [][2]string) {
	add := func(about string, texts ...string) {
		for _, text := range texts {
			rows = append(rows, [2]string{about, text})
			about = ""
		}
	}
	if p.WeightBytes > 0 {
		add("weights", strings.TrimSuffix(size(p.WeightBytes)+", "+p.Quantization, ", "))
	}
	switch {
	case p.WeightBytes == 0:
	case !p.Fits:
		add("memory", fmt.Sprintf("does not fit into %s with a useful context window", size(p.MemoryBytes)))
	default:
		context := fmt.Sprintf("%d tokens in each of %d slots", p.Context, p.Slots)
		if p.Slots == 1 {
			context = fmt.Sprintf("%d tokens in 1 slot", p.Context)
		}
		add("context", context)
		if len(p.Options) > 1 {
			var options []string
			for _, o := range p.Options {
				options = append(options, fmt.Sprintf("%d × %d", o.Slots, o.Context))
			}
			add("or", strings.Join(options, ", "))
		}
		add("speed", fmt.Sprintf("%.0f to %.0f tokens/s alone, %.0f to %.0f all together (estimates)", p.One*lowShare, p.One*highShare, p.All*lowShare, p.All*highShare))
		add("server", p.Settings...)
		add("Caddyfile", p.Caddyfile...)
		add("", fmt.Sprintf("spill %ds, in the block of a model with a fallback", p.SpillSeconds))
	}
	if p.Better != "" {
		add("instead", p.Better)
	}
	add("why", p.Explanations...)
	return rows
}

// size writes a number of bytes.
func size(bytes int64) string {
	switch b := float64(bytes); {
	case bytes >= gibi:
		return fmt.Sprintf("%.1f GiB", b/gibi)
	case bytes >= mebi:
		return fmt.Sprintf("%.1f MiB", b/mebi)
	case bytes >= 1024:
		return fmt.Sprintf("%.0f KiB", b/1024)
	}
	return fmt.Sprintf("%d B", bytes)
}

// number writes a large number.
func number(n int64) string {
	switch f := float64(n); {
	case n >= 1e9:
		return fmt.Sprintf("%.3gB", f/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.3gM", f/1e6)
	}
	return fmt.Sprint(n)
}
