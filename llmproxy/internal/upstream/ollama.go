package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// Ollama is the kind of Ollama's own server.
//
// By default it generates for one request per model at a time (OLLAMA_NUM_PARALLEL) and queues the others without bound, so the
// gateway assigns its slots. It loads a model on the first request for it, within that request's context: if that client leaves or
// times out, the load is aborted. GET /api/ps hangs while any model is loading. There is no /metrics.
var Ollama = &Kind{
	Name: "ollama", LocalAddress: "127.0.0.1:11434", basePath: "/v1", local: true, slots: 1, truncates: true,
	api:           dialect.Ollama,
	chat:          dialect.ChatOptions{Reasoning: true, Inline: true},
	knob:          thinking.Ollama,
	lacks:         responses, // its own knows functions only, and becomes its chat, too
	saysReasoning: true,
	adapt:         adaptToOllama,
	version:       versionAt("/api/version"),
	detect:        isOllama,
	catalog:       "/api/tags",
	capabilities:  ollamaCapabilities,
	health:        ollamaHealth,
	work:          ollamaWork,
	loadModel:     ollamaLoad,
	isLoaded:      ollamaIsLoaded,
	stay:          ollamaStay,
	unloadModel:   ollamaUnload,
	loaded:        ollamaListLoaded,
	resident:      ollamaResident,
	warm:          ollamaWarm,
	about:         ollamaAbout,
	settings:      ollamaSettings,
	SlotsSetting:  "OLLAMA_NUM_PARALLEL", ContextSetting: "OLLAMA_CONTEXT_LENGTH", Obtain: "ollama pull %s",
	errors: []errorRow{
		{text: "is longer than the context length", is: router.Unsupported},
		{text: "exceed_context_size_error", is: router.Unsupported}, // the JSON error of its runner, as a string
		{text: "server busy", is: router.Overloaded},
		{from: 499, is: router.Failed},        // it believed that the gateway had closed the connection
		{from: 403, is: router.Misconfigured}, // an unknown Host or Origin, with an empty body; or a cloud model without a login
	},
	contextPatterns: []*regexp.Regexp{regexp.MustCompile(`context length currently available\D{0,20}(?P<limit>\d+)`)},
}

// isOllama reports whether a server is certainly Ollama. Many servers imitate Ollama's API for clients that know nothing else, but on
// them a request without a prompt may generate, and one slot would only slow them down.
func isOllama(p *probe, list *listing) (bool, error) {
	if list.answered() && len(list.models) > 0 && !list.owners(ownedAsByOllama) || isOtherSoftware(list.header) {
		return false, nil
	}
	version, err := p.object("/api/version")
	if err != nil || len(version) != 1 || text(version["version"]) == "" { // llama-swap adds its commit
		return false, err
	}
	status, body, err := p.get("/")
	if err != nil {
		return false, err
	}
	if status != http.StatusOK || strings.TrimSpace(string(body)) != "Ollama is running" {
		// A proxy may pass on only the paths of the API. Then the list must show that it is Ollama's.
		if status == http.StatusOK || !list.owners(func(m Model) bool { return strings.Contains(m.ID, ":") }) {
			return false, nil
		}
	}
	status, _, err = p.get("/api/extra/version") // KoboldCpp's own
	return status != http.StatusOK && err == nil, err
}

// ownedAsByOllama reports whether a model's owner is the namespace in its name, or the library of those without one.
func ownedAsByOllama(m Model) bool {
	parts := strings.Split(m.ID, "/")
	return m.Owner == "library" || len(parts) > 1 && m.Owner == parts[len(parts)-2]
}

// isOtherSoftware reports whether headers name a program other than Ollama, which does not name itself. The names of proxies say
// nothing about the server behind them.
func isOtherSoftware(header http.Header) bool {
	if header.Get("X-Powered-By") != "" {
		return true
	}
	name, _, _ := strings.Cut(strings.ToLower(header.Get("Server")), "/")
	switch name {
	case "", "caddy", "nginx", "openresty", "apache", "cloudflare", "envoy", "istio-envoy", "traefik", "haproxy", "awselb", "google frontend":
		return false
	}
	return true
}

// adaptToOllama renames max_completion_tokens, which Ollama's /v1 ignores (tested with 0.32.15), so that the answer would be
// unbounded.
func adaptToOllama(e *jsonspan.Edit) {
	if e.Has("max_completion_tokens") {
		e.Rename("max_completion_tokens", "max_tokens")
	}
	withoutForbiddenTools(e)
}

// ollamaHealth asks for the version, which is always answered, and for the loaded models, which hangs while a model loads.
func ollamaHealth(p *probe) replica.State {
	if !p.ok("/api/version") {
		return replica.Down
	}
	if _, _, err := p.get("/api/ps"); err != nil {
		return replica.Loading
	}
	return replica.Up
}

// ollamaWork asks which models are loaded. There are no counters: an answer that changes shows work, one that stays the same proves
// nothing.
func ollamaWork(p *probe) (Work, bool) {
	status, body, err := p.get("/api/ps")
	if err != nil {
		versions := &probe{ctx: context.WithoutCancel(p.ctx), u: p.u, base: p.base, timeout: probeTimeout}
		return Work{Loading: true}, versions.ok("/api/version")
	}
	return Work{Count: fingerprint(body)}, status == http.StatusOK
}

// ollamaCapabilities asks which models are loaded with which context window, and what each model can do. A model that is not
// loaded will have the window that its Modelfile sets, or else one that only the server knows, but never a larger one than it was
// trained with. If the configuration has one for all requests, every model gets that.
func ollamaCapabilities(p *probe, names []string) map[string]router.Capabilities {
	loaded, err := ollamaLoaded(p)
	if err != nil {
		return nil
	}
	found := make(map[string]router.Capabilities, len(names))
	for _, name := range names {
		model := ollamaShow(p, name)
		for _, m := range loaded {
			if m.Context > 0 && p.u.pinnedWindow() == 0 && (m.Name == name || m.Name == name+ollamaLatest) {
				model.ContextWindow = m.Context
			}
		}
		found[name] = model
	}
	return found
}

var numCtx = regexp.MustCompile(`(?m)^num_ctx\s+(\d+)\s*$`)

// An ollamaShown is what a server says of a model.
type ollamaShown struct {
	Capabilities []string
	Parameters   string
	Info         map[string]any `json:"model_info"`
}

// number returns a number that the model's file has under a name that follows the architecture's, or zero.
func (s *ollamaShown) number(name string) int64 {
	n, _ := s.Info[s.architecture()+"."+name].(float64)
	return int64(n)
}

func (s *ollamaShown) architecture() string {
	name, _ := s.Info["general.architecture"].(string)
	return name
}

// trained returns the context window with which the model was trained, or zero.
func (s *ollamaShown) trained() (tokens int) {
	for name, value := range s.Info {
		if n, ok := value.(float64); ok && strings.HasSuffix(name, ".context_length") {
			tokens = int(n)
		}
	}
	return tokens
}

// window returns the context window that the configuration or the Modelfile sets, or zero.
func (s *ollamaShown) window(pinned int) (tokens int) {
	if m := numCtx.FindStringSubmatch(s.Parameters); m != nil {
		tokens, _ = strconv.Atoi(m[1]) // digits
	}
	if pinned > 0 {
		if tokens = pinned; s.trained() > 0 {
			tokens = min(pinned, s.trained())
		}
	}
	return tokens
}

func ollamaAsk(p *probe, model string) (shown ollamaShown, err error) {
	err = p.json(http.MethodPost, "/api/show", map[string]any{"model": model}, &shown)
	return shown, err
}

// ollamaShow asks for the capabilities of one model.
func ollamaShow(p *probe, model string) (c router.Capabilities) {
	shown, err := ollamaAsk(p, model)
	if err != nil {
		return c
	}
	c.ContextWindow = cmp.Or(shown.window(p.u.pinnedWindow()), shown.trained())
	if len(shown.Capabilities) == 0 {
		return c // an old version that does not list capabilities
	}
	for name, feature := range map[string]router.Feature{"tools": router.Tools, "vision": router.Images, "audio": router.Audio, "thinking": router.Thinking} {
		if slices.Contains(shown.Capabilities, name) {
			c.Has |= feature
		} else {
			c.Lacks |= feature
		}
	}
	return c
}

// ollamaAbout asks for what the file of a model says, and for the window with which it is loaded.
func ollamaAbout(p *probe, model string) (about Facts) {
	shown, err := ollamaAsk(p, model)
	if err != nil {
		return about
	}
	about.Trained, about.Architecture = shown.trained(), shown.architecture()
	about.Window = shown.window(p.u.pinnedWindow())
	about.Unset = about.Window == 0
	if loaded, err := ollamaLoaded(p); err == nil && p.u.pinnedWindow() == 0 {
		for _, m := range loaded {
			if m.Name == model || m.Name == model+ollamaLatest {
				about.Window = cmp.Or(m.Context, about.Window)
			}
		}
	}
	if n, ok := shown.Info["general.parameter_count"].(float64); ok {
		about.Parameters = int64(n)
	}
	about.Experts, about.ExpertsUsed = int(shown.number("expert_count")), int(shown.number("expert_used_count"))
	about.Embeds = slices.Contains(shown.Capabilities, "embedding") && !slices.Contains(shown.Capabilities, "completion")
	about.CacheWidth = shown.cacheWidth()
	return about
}

// cacheWidth returns how many numbers the KV cache has for each token. Layers that look back only a little, or not at all, count as all others
// do, so that it is an upper bound for models that have such layers.
func (s *ollamaShown) cacheWidth() int64 {
	layers, heads := s.number("block_count"), s.number("attention.head_count")
	if rank := s.number("attention.kv_lora_rank"); rank > 0 { // its keys and values are compressed into one
		return layers * (rank + s.number("rope.dimension_count"))
	}
	headSize := int64(0)
	if heads > 0 {
		headSize = s.number("embedding_length") / heads
	}
	perHead := cmp.Or(s.number("attention.key_length"), headSize) + cmp.Or(s.number("attention.value_length"), headSize)
	if list, ok := s.Info[s.architecture()+".attention.head_count_kv"].([]any); ok { // a number for each layer
		sum := int64(0)
		for _, of := range list {
			n, _ := of.(float64)
			sum += int64(n)
		}
		return sum * perHead
	}
	return layers * cmp.Or(s.number("attention.head_count_kv"), heads) * perHead
}

// pinnedWindow returns the num_ctx that the configuration adds to requests, or zero.
func (u *Upstream) pinnedWindow() int {
	i := slices.IndexFunc(u.Params, func(p Param) bool { return p.Name == "num_ctx" })
	if i < 0 || u.API() != dialect.Ollama {
		return 0
	}
	n, _ := strconv.Atoi(string(u.Params[i].Value)) // the server reports an invalid one
	return n
}

// An ollamaModel is a loaded model.
type ollamaModel struct {
	Name, Model string
	Context     int    `json:"context_length"`
	Expires     string `json:"expires_at"`
}

func ollamaLoaded(p *probe) ([]ollamaModel, error) {
	var list struct{ Models []ollamaModel }
	err := p.json(http.MethodGet, "/api/ps", nil, &list)
	return list.Models, err
}

func ollamaResident(p *probe) (found inMemory, err error) {
	loaded, err := ollamaLoaded(p)
	found.expires = map[string]string{}
	for _, m := range loaded {
		name := cmp.Or(m.Model, m.Name)
		found.models = append(found.models, name)
		found.expires[name] = m.Expires
	}
	return found, err
}

// ollamaListLoaded lists the loaded models with all that the server says of them.
func ollamaListLoaded(p *probe) ([]LoadedModel, bool) {
	var list struct{ Models []json.RawMessage }
	if p.json(http.MethodGet, "/api/ps", nil, &list) != nil {
		return nil, false
	}
	var loaded []LoadedModel
	for _, entry := range list.Models {
		var m ollamaModel
		if json.Unmarshal(entry, &m) == nil {
			loaded = append(loaded, LoadedModel{Name: cmp.Or(m.Model, m.Name), Entry: entry})
		}
	}
	return loaded, true
}

// ollamaUnload sends a request without a prompt that says how long the model stays loaded: not at all.
func ollamaUnload(p *probe, model string) bool {
	request := append(jsonspan.AppendString([]byte(`{"model":`), model), `,"keep_alive":0,"stream":false}`...)
	status, _, err := p.do(http.MethodPost, "/api/generate", request)
	return err == nil && status == http.StatusOK
}

// ollamaLatest is the tag that a name without a tag stands for.
const ollamaLatest = ":latest"

// ShortName returns the name of a model without the tag ":latest", which clients of Ollama may leave out. It returns false if the
// model has another tag or none.
func ShortName(model string) (string, bool) { return strings.CutSuffix(model, ollamaLatest) }

func ollamaIsLoaded(p *probe, model string) bool {
	loaded, _ := ollamaLoaded(p) // without an answer, no model is known to be loaded
	model = strings.TrimSuffix(model, ollamaLatest)
	return slices.ContainsFunc(loaded, func(m ollamaModel) bool {
		return strings.EqualFold(strings.TrimSuffix(m.Name, ollamaLatest), model) || strings.EqualFold(strings.TrimSuffix(m.Model, ollamaLatest), model)
	})
}

// ollamaLoad sends a request without a prompt, which loads the model and generates nothing. Any answer is enough: if it is an error,
// the next request for the model gets the same error.
func ollamaLoad(p *probe, model string, embeddings bool) bool {
	_, err := ollamaAskToLoad(p, model, embeddings, map[string]any{})
	return err == nil
}

// keepAliveMember says how long a model stays loaded.
const keepAliveMember = "keep_alive"

func ollamaStay(p *probe, model string, keepAlive []byte) {
	request := map[string]any{}
	if keepAlive != nil {
		request[keepAliveMember] = json.RawMessage(keepAlive)
	}
	_, _ = ollamaAskToLoad(p, model, false, request) // the model is loaded, whatever this achieves
}

// ollamaWarm also says how long the model stays, unless the configuration does. Models that make embeddings only refuse the first request.
func ollamaWarm(p *probe, model string) {
	status, err := ollamaAskToLoad(p, model, false, map[string]any{"keep_alive": warmFor})
	if err == nil && status == http.StatusBadRequest {
		_, _ = ollamaAskToLoad(p, model, true, map[string]any{"keep_alive": warmFor}) // if it fails, its next turn comes
	}
}

func ollamaAskToLoad(p *probe, model string, embeddings bool, request map[string]any) (status int, err error) {
	path := "/api/generate"
	request["model"] = model
	if embeddings {
		path = "/api/embed"
		request["input"] = ""
	} else {
		request["stream"] = false
	}
	if p.u.API() == dialect.Ollama {
		addLoading(request, p.u.Params)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	status, _, err = p.do(http.MethodPost, path, body)
	return status, err
}

// addLoading adds the parameters that requests for the model will have and that change how it is loaded. Without them, the first request
// would load it a second time.
func addLoading(request map[string]any, params []Param) {
	options := map[string]any{}
	for _, p := range params {
		switch {
		case dialect.IsOllamaLoading(p.Name):
			options[p.Name] = json.RawMessage(p.Value)
		case p.Name == "keep_alive":
			request[p.Name] = json.RawMessage(p.Value)
		}
	}
	if len(options) > 0 {
		request["options"] = options
	}
}

// ollamaSettings returns variables for the environment of the server.
func ollamaSettings(s Setup) []string {
	list := []string{
		fmt.Sprintf("OLLAMA_NUM_PARALLEL=%d", s.Slots), fmt.Sprintf("OLLAMA_CONTEXT_LENGTH=%d", s.Context), "OLLAMA_FLASH_ATTENTION=1", "OLLAMA_MAX_LOADED_MODELS=1",
	}
	if s.CompressCache {
		list = append(list, "OLLAMA_KV_CACHE_TYPE=q8_0")
	}
	return list
}
