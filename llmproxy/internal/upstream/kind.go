package upstream

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Kind is a kind of server: everything in which its servers differ from those of other kinds. A nil or zero field means
// that they do not differ there. A new kind is one file with such a value, and an entry in Kinds.
type Kind struct {
	// Name is what a configuration calls the kind.
	Name string
	// LocalAddress is where a server of this kind listens by default, as host:port; empty for services.
	LocalAddress string
	// ServiceBase is the base URL of the hosted service; upstreams of this kind then need no address.
	ServiceBase string
	// KeyVariable is the environment variable that usually has the API key of the hosted service.
	KeyVariable string
	// AutoModel is the model of the hosted service that serves the name "auto", because its list of models does not say which one to
	// use.
	AutoModel string

	// basePath is the path of the API if an address has none.
	basePath string
	// local means that servers of this kind run on the operator's machines unless the configuration says otherwise.
	local bool
	// transport answers in this process instead of a server.
	transport http.RoundTripper

	// api is the API that servers of this kind have.
	api dialect.API
	// chat is how a request that was translated to OpenAI's format should look.
	chat dialect.ChatOptions
	// lacks are the names of endpoints that servers of this kind do not have, or that lose more than the way by chat, which dialect.ByChat
	// knows.
	lacks []string
	// besideResponses means that servers of this kind may have what OpenAI has beside its Responses API: they count the tokens of a request,
	// and compact conversations, which nobody can imitate.
	besideResponses bool
	// avoids are the names of endpoints that lose more than the way by chat, but that can do things which chat cannot.
	avoids []string
	// unlisted means that the list of models does not say which ones can be used, so that it is not read.
	unlisted bool
	// official means that OpenAI's own models answer. Those that reason refuse max_tokens, the name that other servers know for the limit of
	// an answer.
	official bool
	// knob is how servers of this kind are told how much their models should think. Nil for OpenAI's way.
	knob *thinking.Knob
	// saysReasoning means that answers call their reasoning "reasoning".
	saysReasoning bool
	// restricted are members that clients may use only if the configuration allows it.
	restricted []string
	// cannot are features that no model of the service has.
	cannot router.Feature
	// namePrefix is what precedes the names of models in the service's list, and may be left out in requests.
	namePrefix string
	// keyHeader is the header with the API key; empty for a bearer token.
	keyHeader string
	// statesUsage means that streams have the usage without being asked for it.
	statesUsage bool
	// repair returns a new repair of a chat answer in which servers of this kind differ from OpenAI. Nil if they do not.
	repair func() repair
	// adapt changes a request that OpenAI would understand so that this kind does.
	adapt func(*jsonspan.Edit)
	// detect reports whether a server, whose list of models was asked for first, is of this kind. Many servers imitate others, so
	// one sign is not enough: a second one must agree, and none may speak against it. Nil if the kind cannot be detected.
	detect func(*probe, *listing) (bool, error)
	// catalog is a path with another list of models, which describes them in more detail than OpenAI's. Empty if the server has no such list.
	catalog string
	// capabilities asks a server what its models can take, those in names at least. It returns nil if the server does not
	// answer. The name anyModel stands for all models of the server.
	capabilities func(p *probe, names []string) map[string]router.Capabilities

	// slots is how many requests a replica gets at once until it has shown how many it can do, unless max_concurrent says it. Zero means no
	// limit.
	slots int
	// fetchSlots asks a server for that number. It returns zero if the server does not state it.
	fetchSlots func(*probe) int
	// statedSlots asks a server for the most requests that it generates for at once, which only an operator wants to know. Nil if servers of
	// this kind cannot say.
	statedSlots func(*probe) int
	// about asks a server what it knows of a model, for an operator. Nil if its list of models says it all.
	about func(p *probe, model string) Facts
	// settings returns how such a server is told how to start. Nil if it cannot be told.
	settings func(Setup) []string
	// keyPath is a path that is free and answers only to a valid API key, if the list of models answers to everybody.
	keyPath string
	// SlotsSetting and ContextSetting are what an operator of such a server calls the number of its slots and the context window. Empty
	// for services.
	SlotsSetting, ContextSetting string
	// Obtain is the command by which such a server gets a model, which takes the place of %s. Empty if there is no such command.
	Obtain string
	// health checks the state of a replica without generating. Nil if that is impossible: such upstreams are judged only by their
	// answers.
	health func(*probe) replica.State
	// work asks a replica about its work. Nil if that is impossible.
	work func(*probe) (Work, bool)
	// reportsLoad means that work says how many requests the server has.
	reportsLoad bool
	// learnsSlots means that a server which refuses requests because of load has as many as it can do. Services refuse them for other
	// reasons.
	learnsSlots bool
	// lingers means that a server may not notice for a while that a client has left.
	lingers bool
	// prefillRate is how many tokens of a prompt a replica reads a second in the worst case; by default that of a CPU.
	prefillRate int
	// counters count the tokens of a prompt, one after the other until one can. Nil if servers of this kind cannot.
	counters []countWay
	// tokenize answers a request for the tokens of a text or of a conversation, as vLLM does. Nil if servers of this kind cannot.
	tokenize func(p *probe, request *jsonspan.Object, model string) (*Count, error)
	// version asks a server for its version. Nil for kinds without a Messages API of their own.
	version func(*probe) version

	// loadModel loads a model and waits until it is loaded, and reports whether the server answered. It is for servers that load a model on
	// the first request for it. Nil for all others.
	loadModel func(p *probe, model string, embeddings bool) bool
	// oneModel means that a server of this kind may have one model only, which is always in memory.
	oneModel bool
	// isLoaded reports whether a server says that it has loaded a model. Required if loadModel is set, as are unloadModel and resident.
	isLoaded func(p *probe, model string) bool
	// stay lets a loaded model stay in memory from now on for as long as keepAlive says, or for as long as usual if that is nil. Nil if servers
	// of this kind do not unload models by time.
	stay func(p *probe, model string, keepAlive []byte)
	// unloadModel unloads a model, and reports whether the server answered.
	unloadModel func(p *probe, model string) bool
	// loaded lists the models that are loaded, as they are shown to clients of Ollama's API. It returns false if the server does not answer.
	// Nil if servers of this kind do not describe them.
	loaded func(p *probe) ([]LoadedModel, bool)
	// resident lists the models that are in memory. Nil if that are all models of every server of this kind.
	resident func(p *probe) (inMemory, error)
	// warm loads a model that is to stay loaded, or prolongs its stay. Nil if servers of this kind cannot be told to.
	warm func(p *probe, model string)
	// truncates means that servers of this kind silently drop the oldest messages of a prompt that is too long.
	truncates bool

	// errors are the errors that mean something other than their status.
	errors []errorRow
	// outputPatterns find in an error message how many tokens of output are allowed, contextPatterns how large the context window
	// is. The group "limit" is that number; the number in the group "used" is subtracted.
	outputPatterns, contextPatterns []*regexp.Regexp
}

// Kinds are all kinds, in the order in which an unknown server is tested for them.
var Kinds = []*Kind{
	Ollama, VLLM, LlamaCpp, OpenAI, Anthropic, Azure, Gemini, OpenRouter, Groq, Mistral, DeepSeek, Together, Fireworks, XAI, Cerebras, Echo, Auto,
}

// Auto stands for a kind that is detected by asking the server. Until it is, the upstream counts as OpenAI-compatible.
var Auto = &Kind{Name: "auto", basePath: "/v1", besideResponses: true}

// KindNamed returns the kind with a name.
func KindNamed(name string) (*Kind, error) {
	i := slices.IndexFunc(Kinds, func(k *Kind) bool { return k.Name == name })
	if i < 0 {
		names := make([]string, len(Kinds))
		for i, k := range Kinds {
			names[i] = k.Name
		}
		return nil, fmt.Errorf("unknown kind of upstream %q: use one of %s (openai for every OpenAI-compatible service)", name, strings.Join(names, ", "))
	}
	return Kinds[i], nil
}

// Restricted returns the members that clients may use only if the configuration allows it.
func (k *Kind) Restricted() []string { return k.restricted }

// CanWarm reports whether servers of this kind can be told to load a model.
func (k *Kind) CanWarm() bool { return k.warm != nil }

// CanProbe reports whether a health check of servers of this kind is possible without generating.
func (k *Kind) CanProbe() bool { return k.health != nil }

// StatesSlots reports whether servers of this kind tell the gateway how many requests they generate for at once.
func (k *Kind) StatesSlots() bool { return k.fetchSlots != nil }

// BuiltIn reports whether upstreams of this kind are part of this process and have no address.
func (k *Kind) BuiltIn() bool { return k.transport != nil }

// A countWay is a way in which servers of a kind count the tokens of a prompt.
type countWay func(p *probe, q *question) (int64, error)
