package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// LlamaCpp is the kind of llama.cpp's llama-server.
//
// It generates for as many requests at once as it has slots, and queues the others without bound and without order among clients,
// so the gateway assigns its slots. While it loads, it answers every path with 503 "Loading model". A server that is asked for
// /slots or /metrics more often than every 2 s does not notice clients that left.
var LlamaCpp = &Kind{
	Name: "llamacpp", LocalAddress: "127.0.0.1:8080", basePath: "/v1", local: true,
	chat:         dialect.ChatOptions{TopK: true, Reasoning: true},
	knob:         thinking.LlamaCpp,
	lacks:        responses, // its own knows functions only, and its events have no numbers and no place
	counters:     []countWay{countByMessages, countByTemplate},
	tokenize:     tokenizeByLlamaCpp,
	version:      llamaCppVersion,
	slots:        1, // the minimum, until the server was asked
	fetchSlots:   llamaCppSlots,
	detect:       isLlamaCpp,
	capabilities: llamaCppCapabilities,
	health:       llamaCppHealth,
	work:         llamaCppWork,
	loadModel:    llamaCppLoad,
	oneModel:     true, // unless it is in router mode
	isLoaded:     llamaCppIsLoaded,
	unloadModel:  llamaCppUnload,
	resident:     llamaCppResident,
	warm:         llamaCppWarm,
	about:        llamaCppAbout,
	settings:     llamaCppSettings,
	SlotsSetting: "--parallel", ContextSetting: "--ctx-size",
	reportsLoad: true,
	lingers:     true,
	errors: []errorRow{
		{typ: "exceed_context_size_error", is: router.Unsupported},
		{text: "is too large to process", is: router.Unsupported}, // 500: an input for embeddings that exceeds the batch
		{text: llamaCppLoading, is: router.Unreachable, loading: true},
		{text: "model is not loaded", is: router.Misconfigured}, // in router mode, with status 400
		{from: 400, text: "' not found", is: router.Misconfigured},
	},
	contextPatterns: []*regexp.Regexp{
		regexp.MustCompile(`available context size \((?P<limit>\d+) tokens\)`),
		regexp.MustCompile(`\\?"n_ctx\\?":(?P<limit>\d+)`),                                    // also inside Ollama's message
		regexp.MustCompile(`input \(\d+ tokens\) is too large.*batch size: (?P<limit>\d+)\)`), // of embeddings
	},
}

const llamaCppLoading = "Loading model"

// llamaCppProps are the properties of a server. In router mode there are several models, and none here.
type llamaCppProps struct {
	Slots    int `json:"total_slots"`
	Settings struct {
		Context int `json:"n_ctx"` // of one slot
	} `json:"default_generation_settings"`
	Modalities *struct{ Vision, Audio bool }
}

// isLlamaCpp reports whether a server is llama.cpp's. KoboldCpp has /props too, but names itself and its models otherwise.
func isLlamaCpp(p *probe, list *listing) (bool, error) {
	if list.status == http.StatusServiceUnavailable {
		return bytes.Contains(list.body, []byte(llamaCppLoading)) && bytes.Contains(list.body, []byte("unavailable_error")), nil
	}
	named := strings.HasPrefix(list.header.Get("Server"), "llama.cpp")
	owned := list.owners(func(m Model) bool { return m.Owner == "llamacpp" })
	if !owned && (!named || len(list.models) > 0) {
		return false, nil
	}
	props, err := p.object("/props")
	return props["default_generation_settings"] != nil, err
}

// llamaCppHealth asks /health, because /slots would keep the server from noticing clients that left.
func llamaCppHealth(p *probe) replica.State {
	status, body, _ := p.get("/health")
	switch {
	case status == http.StatusOK:
		return replica.Up
	case status == http.StatusServiceUnavailable && strings.Contains(string(body), llamaCppLoading):
		return replica.Loading
	}
	return replica.Down
}

// llamaCppMeters exist only with --metrics. A prompt is counted after all of it was read, and an answer after its end, but each of
// their batches is counted as a decoding. Old servers do not count these.
var llamaCppMeters = meters{
	progress: []string{"llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total", "llamacpp:n_decode_total"},
	steady:   []string{"llamacpp:n_decode_total"},
	queued:   []string{"llamacpp:requests_deferred"},
	running:  []string{"llamacpp:requests_processing"},
}

// llamaCppWork reads /metrics or, without --metrics, /slots, which changes with each token and each batch of a prompt. Old servers
// do not count the batches there, so that no change proves nothing.
func llamaCppWork(p *probe) (Work, bool) {
	if w, ok := llamaCppMeters.read(p); ok {
		return w, true
	}
	status, body, _ := p.get("/slots")
	w := Work{Count: fingerprint(body)}
	var slots []struct {
		Processing *bool `json:"is_processing"`
	}
	if json.Unmarshal(body, &slots) == nil && len(slots) > 0 {
		w.Load = admission.Load{Known: slots[0].Processing != nil, Slots: len(slots)}
		for _, slot := range slots {
			if slot.Processing != nil && *slot.Processing {
				w.Load.Running++
			}
		}
	}
	return w, status == http.StatusOK
}

// A llamaCppModel is a model of a server in router mode, which has several and loads them on demand. With one model, it has no status.
type llamaCppModel struct {
	ID      string
	Aliases []string
	Status  *struct {
		Value  string
		Failed bool // the last load
	}
}

func (m *llamaCppModel) is(status ...string) bool {
	return m.Status != nil && slices.Contains(status, m.Status.Value)
}

// llamaCppRouterModels lists the models of a server, without those whose status is unknown: of a server with one model none.
func llamaCppRouterModels(p *probe) ([]llamaCppModel, error) {
	var list struct{ Data []llamaCppModel }
	err := p.json(http.MethodGet, "/models", nil, &list)
	return slices.DeleteFunc(list.Data, func(m llamaCppModel) bool { return m.Status == nil }), err
}

// llamaCppResident lists the models that a server in router mode has loaded. A server with one model has it in memory.
func llamaCppResident(p *probe) (found inMemory, err error) {
	models, err := llamaCppRouterModels(p)
	if err != nil || len(models) == 0 {
		return inMemory{all: true}, err
	}
	var props struct {
		Most *int `json:"max_instances"`
	}
	_ = p.json(http.MethodGet, "/props", nil, &props) // older ones do not say so
	if props.Most != nil {
		if found.most = *props.Most; found.most == 0 {
			found.most = len(models) // no maximum
		}
	}
	found.aliases = map[string]string{}
	for _, m := range models {
		for _, alias := range m.Aliases {
			found.aliases[alias] = m.ID
		}
		if m.is("loaded", "loading") {
			found.models = append(found.models, m.ID)
		}
	}
	return found, nil
}

// llamaCppModelNamed returns a model of a server in router mode. It returns false if that does not have it, or has one model only.
func llamaCppModelNamed(p *probe, name string) (found llamaCppModel, ok bool, err error) {
	models, err := llamaCppRouterModels(p)
	i := slices.IndexFunc(models, func(m llamaCppModel) bool { return m.ID == name || slices.Contains(m.Aliases, name) })
	if i < 0 {
		return found, false, err
	}
	return models[i], true, err
}

// llamaCppAskAgain is the time between two questions whether a model is loaded.
const llamaCppAskAgain = 250 * time.Millisecond

// llamaCppLoad has a server in router mode load a model, and waits until it is loaded. The server refuses that while requests for other
// models are in flight, if it has no space for one more. If the load fails, the next request for the model gets the error.
func llamaCppLoad(p *probe, model string, _ bool) bool {
	for asked := false; ; {
		m, ok, err := llamaCppModelNamed(p, model)
		switch {
		case err != nil:
			return false
		case !ok, m.is("loaded", "sleeping"), asked && m.is("unloaded") && m.Status.Failed:
			return true
		case m.is("unloaded"):
			err := p.json(http.MethodPost, "/models/load", map[string]string{"model": m.ID}, &struct{}{})
			asked = asked || err == nil
		}
		select {
		case <-time.After(llamaCppAskAgain):
		case <-p.ctx.Done():
			return false
		}
	}
}

func llamaCppIsLoaded(p *probe, model string) bool {
	m, ok, err := llamaCppModelNamed(p, model)
	return err == nil && (!ok || m.is("loaded"))
}

func llamaCppUnload(p *probe, model string) bool {
	return p.json(http.MethodPost, "/models/unload", map[string]string{"model": model}, &struct{}{}) == nil
}

// llamaCppWarm has a server in router mode load a model, unless it has.
func llamaCppWarm(p *probe, model string) {
	if m, ok, err := llamaCppModelNamed(p, model); err == nil && ok && m.is("unloaded") {
		_ = p.json(http.MethodPost, "/models/load", map[string]string{"model": m.ID}, &struct{}{}) // if it fails, its next turn comes
	}
}

func llamaCppSlots(p *probe) int {
	var props llamaCppProps
	_ = p.json(http.MethodGet, "/props", nil, &props) // zero without an answer
	return props.Slots
}

// llamaCppAbout asks for the window of one slot. The list of models says the rest.
func llamaCppAbout(p *probe, _ string) Facts {
	var props llamaCppProps
	_ = p.json(http.MethodGet, "/props", nil, &props) // zero without an answer
	return Facts{Window: props.Settings.Context}
}

// llamaCppCapabilities asks for the properties of the server's one model, which answers to every name.
func llamaCppCapabilities(p *probe, names []string) map[string]router.Capabilities {
	var props llamaCppProps
	if p.json(http.MethodGet, "/props", nil, &props) != nil {
		return nil
	}
	c := router.Capabilities{ContextWindow: props.Settings.Context}
	if m := props.Modalities; m != nil {
		for feature, has := range map[router.Feature]bool{router.Images: m.Vision, router.Audio: m.Audio} {
			if has {
				c.Has |= feature
			} else {
				c.Lacks |= feature
			}
		}
	}
	found := map[string]router.Capabilities{anyModel: c}
	for _, name := range names {
		found[name] = c
	}
	return found
}

// llamaCppVersion tells version 0.5.0, whose Messages API was studied, by an endpoint that older ones lack. The number of a build says
// nothing if it was built from a source package. The request does not generate.
func llamaCppVersion(p *probe) version {
	status, _, err := p.do(http.MethodPost, "chat/completions/input_tokens", []byte(`{"messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil || status != http.StatusOK {
		return version{}
	}
	return version{0, 5, 0}
}

// countByTemplate lets llama.cpp make a prompt of the messages and then tokens of the prompt.
func countByTemplate(p *probe, q *question) (int64, error) {
	prompt, err := applyTemplate(p, &q.chat, q.model)
	if err != nil {
		return 0, err
	}
	var answer struct{ Tokens []int64 }
	err = p.askCount(tokenizePath, tokenizeRequest(q.model, prompt, "true", "false"), &answer)
	return int64(len(answer.Tokens)), err
}

// applyTemplate lets llama.cpp make a prompt of the messages of a request.
func applyTemplate(p *probe, chat *jsonspan.Object, model string) (prompt []byte, err error) {
	var template struct{ Prompt json.RawMessage }
	if err := p.askCount("/apply-template", withModel(chat, model), &template); err != nil {
		return nil, err
	}
	if len(template.Prompt) == 0 {
		return nil, ErrCannotCount
	}
	return template.Prompt, nil
}

// tokenizeRequest returns a request for the tokens of a text. The model is for router mode.
func tokenizeRequest(model string, text []byte, special, pieces string) []byte {
	b := jsonspan.AppendString([]byte(`{"model":`), model)
	b = append(append(b, `,"content":`...), text...)
	return append(b, `,"add_special":`+special+`,"with_pieces":`+pieces+`}`...)
}

// tokenizeByLlamaCpp asks for the tokens of a text, or of the prompt that the template makes of messages, and answers as vLLM does. A client
// that speaks llama.cpp's language gets its pieces, too.
func tokenizeByLlamaCpp(p *probe, request *jsonspan.Object, model string) (*Count, error) {
	text, own := request.Get("content")
	flag := func(otherwise string, names ...string) string {
		for _, name := range names {
			if value, ok := request.Get(name); ok && (string(value) == "true" || string(value) == "false") {
				return string(value)
			}
		}
		return otherwise
	}
	special, pieces := flag("false", "add_special"), flag("false", "with_pieces")
	if !own {
		special, pieces = flag("true", "add_special_tokens"), flag("false", "return_token_strs")
		if prompt, ok := request.Get("prompt"); ok {
			text = prompt
		} else {
			prompt, err := applyTemplate(p, request, model)
			if err != nil {
				return nil, err
			}
			text = prompt
		}
	}
	a, err := p.fetch(http.MethodPost, tokenizePath, tokenizeRequest(model, text, special, pieces))
	if err != nil || a.status != http.StatusOK {
		return &Count{Status: a.status, Header: a.header, Body: a.body}, err
	}
	var answer struct{ Tokens []json.RawMessage }
	if err := json.Unmarshal(a.body, &answer); err != nil || answer.Tokens == nil {
		return nil, fmt.Errorf("the answer has no tokens (%w)", errors.Join(err, ErrCannotCount))
	}
	c := &Count{Status: http.StatusOK, Tokens: int64(len(answer.Tokens)), List: answer.Tokens}
	if pieces == "true" && !own {
		for i, token := range answer.Tokens {
			var piece struct{ ID, Piece json.RawMessage }
			if err := json.Unmarshal(token, &piece); err != nil {
				return nil, err
			}
			c.List[i], c.Pieces = piece.ID, append(c.Pieces, piece.Piece)
		}
	}
	return c, nil
}

// llamaCppSettings returns the command that starts the server. Its context is that of all slots together.
func llamaCppSettings(s Setup) []string {
	command := fmt.Sprintf("llama-server -m MODEL.gguf --ctx-size %d --parallel %d --n-gpu-layers 99 --flash-attn on --metrics", s.Slots*s.Context, s.Slots)
	if s.CompressCache {
		command += " --cache-type-k q8_0 --cache-type-v q8_0"
	}
	return []string{command}
}
