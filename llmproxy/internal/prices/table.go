package prices

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A Table is the prices of hosted models by name, in the shape of LiteLLM's model_prices_and_context_window.json: OpenAI's,
// Anthropic's and DeepSeek's by their bare names, all others behind the service's.
type Table map[string]*entry

type entry struct {
	service string
	Price
}

//go:embed builtin.json
var builtin []byte

// Builtin is the prices of common models as they were at the date in builtin.json.
var Builtin = sync.OnceValue(func() Table {
	t, err := ParseTable(builtin)
	if err != nil {
		panic("prices: the built-in table: " + err.Error())
	}
	return t
})

// What the file holds beside models.
var notModels = []string{"sample_spec", "fallback_generalizations", "last_updated"}

// ParseTable reads a file in LiteLLM's shape. Models that are not priced by token are left out: their price is unknown.
func ParseTable(text []byte) (Table, error) {
	text, err := jsonspan.TrimMark(text)
	if err != nil {
		return nil, err
	}
	var models map[string]json.RawMessage
	if err := json.Unmarshal(text, &models); err != nil {
		return nil, fmt.Errorf("it is not a JSON object of models: %w", err)
	}
	t := make(Table, len(models))
	for name, raw := range models {
		if slices.Contains(notModels, name) {
			continue
		}
		e, err := parseEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", name, err)
		}
		if e != nil {
			t[name] = e
		}
	}
	return t, nil
}

// parseEntry returns nil for a model that is not priced by token.
func parseEntry(raw json.RawMessage) (*entry, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("it is not an object: %w", err)
	}
	var about struct {
		Service string `json:"litellm_provider"`
		Mode    string `json:"mode"`
	}
	if err := json.Unmarshal(raw, &about); err != nil {
		return nil, err
	}
	byTier, err := figuresOf(fields)
	if err != nil {
		return nil, err
	}
	base := byTier[0]
	if base.output == nil && (about.Mode == "embedding" || about.Mode == "rerank") {
		base.output = new(float64)
	}
	if base.input == nil || base.output == nil {
		return nil, nil
	}
	e := &entry{service: about.Service, Price: Price{Rate: base.rate(base)}}
	for _, above := range slices.Sorted(maps.Keys(byTier)) {
		if above > 0 {
			e.Tiers = append(e.Tiers, Tier{above, byTier[above].rate(base)})
		}
	}
	return e, nil
}

// figures are what a model's entry says of one tier; nil where it says nothing.
type figures struct{ input, cached, output *float64 }

// rate is a tier's: what it does not say is as in the base, and cached tokens without a price cost what others do.
func (f figures) rate(base figures) Rate {
	input := *cmp.Or(f.input, base.input)
	return Rate{Input: input, Cached: *cmp.Or(f.cached, base.cached, &input), Output: *cmp.Or(f.output, base.output)}
}

// figuresOf sorts the prices by the number of tokens above which they count.
func figuresOf(fields map[string]json.RawMessage) (map[int64]figures, error) {
	byTier := map[int64]figures{}
	for name, raw := range fields {
		kind, above, ok := tierOf(name)
		if !ok || string(raw) == "null" {
			continue
		}
		usd := new(float64)
		if err := json.Unmarshal(raw, usd); err != nil || *usd < 0 {
			return nil, fmt.Errorf("%s: %s is not a price in US dollars", name, raw)
		}
		f := byTier[above]
		switch kind {
		case inputCost:
			f.input = usd
		case outputCost:
			f.output = usd
		case cachedCost:
			f.cached = usd
		}
		byTier[above] = f
	}
	return byTier, nil
}

// What the fields are called that say a price.
const (
	inputCost  = "input_cost_per_token"
	outputCost = "output_cost_per_token"
	cachedCost = "cache_read_input_token_cost"
)

// tierOf reads a field's name: input_cost_per_token, or input_cost_per_token_above_200k_tokens.
func tierOf(field string) (kind string, above int64, ok bool) {
	kind, rest, tiered := strings.Cut(field, "_above_")
	if kind != inputCost && kind != outputCost && kind != cachedCost {
		return "", 0, false
	}
	if !tiered {
		return kind, 0, true
	}
	thousands, ok := strings.CutSuffix(rest, "k_tokens")
	n, err := strconv.ParseUint(thousands, 10, 32)
	return kind, int64(n) * 1000, ok && err == nil && n > 0
}

// find looks for the target by the upstream's name for it, behind the service's name, and by its bare name.
func (t Table) find(service, target, model string) *Price {
	if e := t[target]; e != nil {
		return &e.Price
	}
	if e := t.behind(service, model); e != nil {
		return &e.Price
	}
	// A bare name is what another service calls its own model, unless nobody knows which service this is.
	if e := t[model]; e != nil && (service == "" || e.service == service) {
		return &e.Price
	}
	return nil
}

func (t Table) behind(service, model string) *entry {
	var key [160]byte // on the stack: a lookup allocates nothing
	return t[string(append(append(append(key[:0], service...), '/'), model...))]
}

// cutDate takes a date off a model's name: gpt-4o-2024-08-06, claude-sonnet-4-5-20250929, …@20250929.
func cutDate(model string) (undated string, dated bool) {
	for _, form := range []string{"-0000-00-00", "-00000000", "@00000000"} {
		at := len(model) - len(form)
		if at > 0 && fits(model[at:], form) {
			return model[:at], true
		}
	}
	return model, false
}

func fits(text, form string) bool {
	for i := range len(form) {
		digit := '0' <= text[i] && text[i] <= '9'
		if form[i] == '0' && !digit || form[i] != '0' && text[i] != form[i] {
			return false
		}
	}
	return true
}

// services are the hosts of hosted services, and what tables call these.
var services = map[string]string{
	"api.openai.com":                    "openai",
	"api.anthropic.com":                 "anthropic",
	"generativelanguage.googleapis.com": "gemini",
	"api.mistral.ai":                    "mistral",
	"codestral.mistral.ai":              "mistral",
	"api.deepseek.com":                  "deepseek",
	"api.groq.com":                      "groq",
	"api.x.ai":                          "xai",
	"api.together.xyz":                  "together_ai",
	"api.together.ai":                   "together_ai",
	"api.fireworks.ai":                  "fireworks_ai",
	"api.cerebras.ai":                   "cerebras",
	"api.perplexity.ai":                 "perplexity",
	"openrouter.ai":                     "openrouter",
}

// Service returns the name that price tables give the hosted service at a host, or "" if it is unknown.
func Service(host string) string {
	if strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".services.ai.azure.com") {
		return "azure"
	}
	return services[host]
}
