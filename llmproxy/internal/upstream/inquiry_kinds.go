package upstream

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// askVLLM takes the context length from the list of models.
func askVLLM(p *prober, q *inquiry) {
	models, err := p.models()
	if err != nil {
		return // the lookout has told of it
	}
	for _, m := range models {
		q.tell(m.ID, router.Limits{Context: m.Context})
	}
}

// askLlamaCpp asks for the properties of the one model there is. In router mode there are several, and none here.
func askLlamaCpp(p *prober, q *inquiry) {
	var props struct {
		Settings struct {
			Context int `json:"n_ctx"` // of one slot
		} `json:"default_generation_settings"`
		Modalities *struct{ Vision, Audio bool }
	}
	if !p.object(http.MethodGet, "/props", "", &props) {
		return
	}
	limits := router.Limits{Context: props.Settings.Context}
	if m := props.Modalities; m != nil && !m.Vision {
		limits.Lacks |= router.Images
	}
	if m := props.Modalities; m != nil && !m.Audio {
		limits.Lacks |= router.Audio
	}
	q.tell(anyModel, limits)
	for _, model := range q.models {
		q.tell(model, limits)
	}
}

// askOllama asks what is loaded, with which context, and what the models can. A model that is not loaded will have the
// context of its Modelfile, if one is set there, else one that only the server knows, but never more than it was trained for.
func askOllama(p *prober, q *inquiry) {
	var loaded struct {
		Models []struct {
			Name    string
			Context int `json:"context_length"`
		}
	}
	if !p.object(http.MethodGet, "/api/ps", "", &loaded) {
		return
	}
	for _, model := range q.models {
		limits := p.show(model)
		for _, m := range loaded.Models {
			if m.Context > 0 && (m.Name == model || m.Name == model+":latest") {
				limits.Context = m.Context
			}
		}
		q.tell(model, limits)
	}
}

var numCtx = regexp.MustCompile(`(?m)^num_ctx\s+(\d+)\s*$`)

// show asks Ollama for one model.
func (p *prober) show(model string) (limits router.Limits) {
	question, err := json.Marshal(map[string]string{"model": model})
	if err != nil {
		return limits
	}
	var shown struct {
		Capabilities []string
		Parameters   string
		Info         map[string]any `json:"model_info"`
	}
	if !p.object(http.MethodPost, "/api/show", string(question), &shown) {
		return limits
	}
	for name, value := range shown.Info {
		if n, ok := value.(float64); ok && strings.HasSuffix(name, ".context_length") {
			limits.Context = int(n)
		}
	}
	if m := numCtx.FindStringSubmatch(shown.Parameters); m != nil {
		limits.Context, _ = strconv.Atoi(m[1]) // digits
	}
	if len(shown.Capabilities) == 0 {
		return limits // a version that does not tell
	}
	for name, ability := range map[string]router.Ability{"tools": router.Tools, "vision": router.Images, "audio": router.Audio} {
		if !slices.Contains(shown.Capabilities, name) {
			limits.Lacks |= ability
		}
	}
	return limits
}

// object asks a question whose answer is a JSON object.
func (p *prober) object(method, path, question string, to any) bool {
	status, body := p.ask(method, path, question)
	return status == http.StatusOK && json.Unmarshal(body, to) == nil
}
