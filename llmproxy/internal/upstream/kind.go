package upstream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Kind is a row of the table of differences between servers.
type Kind struct {
	// Name is what a configuration calls it.
	Name string
	// Service is the base of the hosted service, where there is one; an upstream of this kind then needs no address.
	Service string
	// AutoModel is what serves "auto" there, where a list of models does not tell which one to take.
	AutoModel string
	// LocalAddress is where a server of this kind listens when nobody said otherwise.
	LocalAddress string
	// repair makes a request fit where the server differs from OpenAI; nil where it does not.
	repair func(*jsonspan.Edit)
	// looksLike tells whether a server at the root address is of this kind; nil where it cannot be told.
	looksLike func(*prober) bool
	// inquire asks a server what its models can take; nil where it cannot be asked.
	inquire func(*prober, *inquiry)
	// errors are the errors that mean something else here than elsewhere.
	errors []row
	// slots is how many requests a replica takes at once where nobody says otherwise; zero for no limit. Ollama generates one
	// at a time for a model (OLLAMA_NUM_PARALLEL), and llama.cpp says how many (the start is its least); both put the others
	// into a queue without end and without order among clients. vLLM shares its batches among as many as its memory holds,
	// and a service has its own 429: to hold requests back from those only costs time.
	slots int
	// health asks a replica how it fares; nil where that cannot be done without generating.
	health func(*prober) router.State
	// loads tells that a model is loaded when it is asked for, and only as long as the one who asked waits.
	loads bool
	// work are the counters at /metrics that rise whenever a replica does anything for a request; nil where there are none.
	work []string
	// prefill is how many tokens of a prompt a replica reads in a second at the slowest, where that is more than on a CPU.
	prefill int
}

var (
	vllmWork = []string{"vllm:prompt_tokens_total", "vllm:generation_tokens_total"}
	// llama.cpp counts a prompt when it was read, but each batch of it as a decoding.
	llamaCppWork = []string{"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total", "llamacpp:n_decode_total"}
)

// The kinds. A new one is a row here and, where it differs, a file.
var (
	Ollama   = &Kind{Name: "ollama", LocalAddress: "127.0.0.1:11434", repair: repairOllama, looksLike: isOllama, inquire: askOllama, errors: ollamaErrors, slots: 1, health: healthOfOllama, loads: true}
	VLLM     = &Kind{Name: "vllm", LocalAddress: "127.0.0.1:8000", looksLike: isVLLM, inquire: askVLLM, errors: vllmErrors, health: healthOfVLLM, work: vllmWork, prefill: 500}
	LlamaCpp = &Kind{Name: "llamacpp", LocalAddress: "127.0.0.1:8080", looksLike: isLlamaCpp, inquire: askLlamaCpp, errors: llamaCppErrors, slots: 1, health: healthOfLlamaCpp, work: llamaCppWork}
	OpenAI   = &Kind{Name: "openai", Service: "https://api.openai.com/v1", AutoModel: "gpt-4o-mini"}
	Echo     = &Kind{Name: "echo", Service: "http://echo/v1"}
	// Auto stands for a kind that is found by asking; until then the upstream is taken for an OpenAI-compatible one.
	Auto = &Kind{Name: "auto"}
)

var kinds = []*Kind{Ollama, VLLM, LlamaCpp, OpenAI, Echo, Auto}

// KindNamed finds a kind by its name in a configuration.
func KindNamed(name string) (*Kind, error) {
	i := slices.IndexFunc(kinds, func(k *Kind) bool { return k.Name == name })
	if i < 0 {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.Name
		}
		return nil, fmt.Errorf("unknown kind of upstream %q: use one of %s (openai for every OpenAI-compatible service)", name, strings.Join(names, ", "))
	}
	return kinds[i], nil
}

// repairOllama renames what Ollama's /v1 does not know: it ignores max_completion_tokens, so that nothing would bound the
// answer (seen with 0.32.15, v1-chat-max-completion-tokens).
func repairOllama(e *jsonspan.Edit) {
	if e.Has("max_completion_tokens") {
		e.Rename("max_completion_tokens", "max_tokens")
	}
}
