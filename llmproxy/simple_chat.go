package llmproxy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// SimpleChat serves POST /chat, which takes {"message": "…"} and answers {"response": "…"}, and POST /chat/stream, which answers with the
// text as server-sent events.
type SimpleChat struct {
	// The model that answers. Default: the model auto, else the only configured model that is not a pattern. If no model is
	// configured, auto is the first chat model of the first upstream that is present.
	Model string `json:"model,omitempty"`
}

// choose returns the model that answers, or "" without a simple chat. Discover means that there may be others than those models.
func (s *SimpleChat) choose(models []*Model, discover bool) (string, error) {
	if s == nil {
		return "", nil
	}
	var names []string
	found := len(models) == 0 || discover
	for _, m := range models {
		found = found || router.Match(m.Name, s.Model)
		if !router.IsPattern(m.Name) {
			names = append(names, m.Name)
		}
	}
	switch {
	case router.IsPattern(s.Model):
		return "", fmt.Errorf("simple_chat: %q is a pattern; use the name of one model", s.Model)
	case s.Model != "" && found:
		return s.Model, nil
	case s.Model != "":
		return "", fmt.Errorf("simple_chat: unknown model %q; %s", s.Model, adviceOnModel(s.Model, models))
	case len(models) == 0 || slices.Contains(names, catalog.RuleAuto):
		return catalog.RuleAuto, nil
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", fmt.Errorf("simple_chat: every model is a pattern; write the name of the one that answers after simple_chat")
	}
	return "", fmt.Errorf("simple_chat: any of the models %s could answer; name one, such as `simple_chat %s`", strings.Join(names, ", "), names[0])
}
