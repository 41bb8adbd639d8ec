package survey

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// DefaultSite is the beginning of the address of a site for this machine only.
const DefaultSite = "http://localhost:"

// ErrNothing means that no model server answers.
var ErrNothing = errors.New("no model server answers")

// Caddyfile writes what was found as a configuration for a site, or for DefaultSite. If no server answers, the error says what to start.
func (f *Found) Caddyfile(site, command string) (string, error) {
	if len(f.Servers) == 0 {
		return "", f.nothing()
	}
	if site == "" {
		site = f.freeSite()
	}
	file := new(draft.Block)
	file.Comment("Written by `" + command + "` for the model servers that answered on this machine. Check it with `caddy validate`.")
	for _, g := range f.GPUs {
		file.Comment("GPU: " + g.String())
	}
	file.Gap()
	local := strings.HasPrefix(site, DefaultSite)
	if local {
		file.Comment("Only this machine reaches this site. For others, write a name such as llm.example.com, for which Caddy gets a certificate, keys below, and no bind.")
	}
	block := file.Block(site)
	if local { // the name alone would not keep others away: anybody can send it as the Host
		block.Line("bind", "127.0.0.1")
		block.Gap()
	}
	proxy := block.Block("llm_proxy")
	names := f.names()
	for i, s := range f.Servers {
		f.writeServer(proxy, names[i], s)
		proxy.Gap()
	}
	proxy.Comment("Every model above is served under its own name, also those that come later. A model of several servers goes to the less busy one.")
	proxy.Line("discover")
	proxy.Gap()
	f.writeNames(proxy, names)
	f.writeServices(proxy)
	proxy.Comment("Without a key, everybody who reaches the site may use it. `caddy llm-key create alice --rate 60/m` prints the line for a key.")
	proxy.Gap()
	proxy.Line("health", "/health")
	return file.String(), nil
}

// freeSite returns DefaultSite with a port at which none of the servers listens.
func (f *Found) freeSite() string {
	for _, port := range []string{"8080", "8081", "8082"} {
		if !slices.ContainsFunc(f.Servers, func(s Server) bool { return strings.HasSuffix(s.Address, ":"+port) }) {
			return DefaultSite + port
		}
	}
	return DefaultSite + "8090"
}

// String describes the GPU.
func (g GPU) String() string {
	text := fmt.Sprintf("%s, %d MiB", g.Name, g.Total)
	if g.Free > 0 {
		text += fmt.Sprintf(", %d MiB free", g.Free)
	}
	return text
}

// names returns what the upstreams are called: by their kinds, with a number from the second one of a kind on.
func (f *Found) names() []string {
	var names []string
	for _, s := range f.Servers {
		base := s.Kind
		if base == upstream.OpenAI.Name {
			base = "local"
		}
		name := base
		for n := 2; slices.Contains(names, name); n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		names = append(names, name)
	}
	return names
}

// maxListed is how many models of a server are listed in comments.
const maxListed = 20

func (f *Found) writeServer(to *draft.Block, name string, s Server) {
	for i, m := range s.Models {
		if i == maxListed {
			to.Comment(fmt.Sprintf("- and %d more", len(s.Models)-i))
			break
		}
		text := "- " + m.Name
		if m.About != "" {
			text += ": " + m.About
		}
		to.Comment(text)
	}
	if len(s.Models) == 0 {
		to.Comment("This server has no model yet.")
	}
	block := to.Block("upstream", name, s.Kind, s.Address)
	switch s.Kind {
	case upstream.Ollama.Name:
		f.writeOllama(block, s)
	case upstream.VLLM.Name:
		block.Comment("vLLM takes as many requests as fit into its memory. The gateway learns how many; to set it, write max_concurrent as --max-num-seqs.")
		block.Line("queue", "64", "2m")
	case upstream.LlamaCpp.Name:
		text := "The server says how many slots it has (--parallel)."
		if s.Slots > 0 {
			text = fmt.Sprintf("The server says that it has %d slots (--parallel). More requests wait here.", s.Slots)
			text = strings.Replace(text, " 1 slots", " 1 slot", 1)
		}
		block.Comment(text)
		block.Line("queue", "64", "2m")
	default:
		block.Comment("A server with OpenAI's API, of no kind that says how many requests it takes. One at a time is safe; raise it if the server does more.")
		block.Line("local")
		block.Line("max_concurrent", "1")
		block.Line("queue", "64", "2m")
	}
}

func (f *Found) writeOllama(to *draft.Block, s Server) {
	if f.Parallel > 0 {
		to.Comment("OLLAMA_NUM_PARALLEL is set to this number here. Make sure that it is so for the Ollama server, too.")
		to.Line("max_concurrent", fmt.Sprint(f.Parallel))
	} else {
		to.Comment("How many requests Ollama gets at once. It processes one at a time, unless its OLLAMA_NUM_PARALLEL is larger; then write that number.")
		to.Line("max_concurrent", "1")
	}
	to.Comment("More requests wait here: at most this many, for at most this long.")
	to.Line("queue", "64", "2m")
	to.Comment("Ollama cuts long prompts at its context window, which is small by default. A larger one needs more memory:")
	commentOut(to, "params", "num_ctx", "16384")
	if m := chatModel(s); m != "" {
		to.Comment("Ollama unloads a model after five minutes without a request. To keep it loaded:")
		commentOut(to, "warm", m)
	}
}

// commentOut adds a line for a person who wants it.
func commentOut(to *draft.Block, words ...string) {
	line := new(draft.Block)
	line.Line(words...)
	to.CommentOut(line)
}

// chatModel returns the first model that is not for embeddings, or an empty name.
func chatModel(s Server) string {
	i := slices.IndexFunc(s.Models, func(m Model) bool { return !m.Embeds })
	if i < 0 {
		return ""
	}
	return s.Models[i].Name
}

// writeNames writes names that stay the same when a model is replaced by another one.
func (f *Found) writeNames(to *draft.Block, names []string) {
	type target struct{ name, at string }
	var targets []target
	add := func(name string, wanted func(Model) bool) {
		for i, s := range f.Servers {
			for _, m := range s.Models {
				known := slices.ContainsFunc(f.Servers, func(other Server) bool {
					return slices.ContainsFunc(other.Models, func(m Model) bool { return m.Name == name })
				})
				if wanted(m) && !known && !strings.ContainsAny(m.Name, "*") {
					targets = append(targets, target{name, names[i] + "/" + m.Name})
					return
				}
			}
		}
	}
	add("chat", func(m Model) bool { return !m.Embeds })
	add("embeddings", func(m Model) bool { return m.Embeds })
	if targets == nil {
		return
	}
	to.Comment("Names for clients that stay the same when you choose another model.")
	for _, t := range targets {
		to.Line("model", t.name, t.at)
	}
	to.Gap()
}

// writeServices says how to use the hosted services whose keys are set. It does not use them, because that costs money.
func (f *Found) writeServices(to *draft.Block) {
	for _, name := range f.Services {
		kind, err := upstream.KindNamed(name)
		if err != nil {
			continue
		}
		model := "MODEL"
		if kind.AutoModel != "" {
			model = kind.AutoModel
		}
		to.Comment(kind.KeyVariable + " is set. To let this service answer when this machine cannot, add the upstream, and the fallback to the block of a model. With `discover`, clients can then ask for all of its models, too.")
		service := new(draft.Block)
		service.Block("upstream", name, name).Line("api_key", "{env."+kind.KeyVariable+"}")
		service.Line("fallback", name+"/"+model)
		to.CommentOut(service)
		to.Gap()
	}
}

// nothing says what to start.
func (f *Found) nothing() error {
	var b strings.Builder
	fmt.Fprintf(&b, " at %s. Start one:\n", strings.Join(f.Asked, ", "))
	b.WriteString("  ollama serve, then ollama pull llama3.2\n")
	b.WriteString("  llama-server -m model.gguf --port 8080 --metrics\n")
	largest := 0
	for _, g := range f.GPUs {
		largest = max(largest, g.Total)
	}
	switch {
	case largest >= 16_000:
		b.WriteString("  vllm serve Qwen/Qwen3-8B --max-model-len 8192\n")
	case largest > 0:
		b.WriteString("  vllm serve Qwen/Qwen3-0.6B --max-model-len 4096\n")
	}
	for _, g := range f.GPUs {
		fmt.Fprintf(&b, "GPU: %s\n", g)
	}
	b.WriteString("If a server is at another address, write it after the command.")
	return fmt.Errorf("%w%s", ErrNothing, b.String())
}
