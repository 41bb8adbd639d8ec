package prices

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
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

// ParseTable reads a file in LiteLLM's shape. Models that have no price of anything that is served are left out: their price is unknown.
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
		e, err := parseEntry(name, raw)
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", name, err)
		}
		if e != nil {
			t[name] = e
		}
	}
	return t, nil
}

// parseEntry returns nil for a model that has no price, or only one of something that is not served.
func parseEntry(name string, raw json.RawMessage) (*entry, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("it is not an object: %w", err)
	}
	var about struct {
		Service   string `json:"litellm_provider"`
		Mode      string `json:"mode"`
		MaxOutput any    `json:"max_output_tokens"`
		Tiered    []struct {
			Range []float64 `json:"range"`
		} `json:"tiered_pricing"`
	}
	if err := json.Unmarshal(raw, &about); err != nil {
		return nil, err
	}
	l := list{figures: map[listKey]*Figures{}}
	if err := l.addAll(fields, listKey{}); err != nil {
		return nil, err
	}
	for i, tier := range about.Tiered {
		if len(tier.Range) != 2 {
			continue
		}
		var rows []map[string]json.RawMessage
		if err := json.Unmarshal(fields["tiered_pricing"], &rows); err != nil {
			return nil, fmt.Errorf("tiered_pricing: %w", err)
		}
		if err := l.addAll(rows[i], listKey{above: int64(tier.Range[0])}); err != nil {
			return nil, fmt.Errorf("tiered_pricing: %w", err)
		}
	}
	e := &entry{service: about.Service}
	if n, ok := about.MaxOutput.(float64); ok && n > 0 { // sample entries have a text
		e.MaxOutput = int64(n)
	}
	e.Units = l.unitsOf(about.Mode, name)
	if l.hasTokens(about.Mode) {
		e.Schedule = l.schedule("")
		for _, tier := range ServiceTiers {
			if l.hasTier(tier) {
				s := l.schedule(tier)
				if e.Price.Service == nil {
					e.Price.Service = map[string]*Schedule{}
				}
				e.Price.Service[tier] = &s
			}
		}
	}
	if !l.hasTokens(about.Mode) && e.Units == (Units{}) {
		return nil, nil
	}
	return e, nil
}

// A list is what a model's entry says.
type list struct {
	figures map[listKey]*Figures
	units   map[string]float64 // by the names of fields
}

// A listKey says for which requests figures are: of a service tier, and with more than so many tokens.
type listKey struct {
	tier  string
	above int64
}

// ServiceTiers are the service tiers that may have prices of their own.
var ServiceTiers = []string{"priority", "flex", "batch"}

// tokenFields are the fields that have the price of a token.
var tokenFields = map[string]func(*Figures) **float64{
	"input_cost_per_token":            func(f *Figures) **float64 { return &f.Input },
	"output_cost_per_token":           func(f *Figures) **float64 { return &f.Output },
	"cache_read_input_token_cost":     func(f *Figures) **float64 { return &f.Cached },
	"input_cost_per_token_cache_hit":  func(f *Figures) **float64 { return &f.Cached },
	"cache_creation_input_token_cost": func(f *Figures) **float64 { return &f.CacheWrite },
	oneHour:                           func(f *Figures) **float64 { return &f.CacheWriteHour },
	"output_cost_per_reasoning_token": func(f *Figures) **float64 { return &f.Reasoning },
	"input_cost_per_audio_token":      func(f *Figures) **float64 { return &f.AudioInput },
	"output_cost_per_audio_token":     func(f *Figures) **float64 { return &f.AudioOutput },
	"input_cost_per_image_token":      func(f *Figures) **float64 { return &f.ImageInput },
	"output_cost_per_image_token":     func(f *Figures) **float64 { return &f.ImageOutput },
}

// oneHour is the field whose name looks like that of a tier of long requests.
const oneHour = "cache_creation_input_token_cost_above_1hr"

// unitFields are the fields that have the price of something else.
var unitFields = []string{
	"input_cost_per_second", "output_cost_per_second", "input_cost_per_audio_per_second", "input_cost_per_character",
	"input_cost_per_image", "output_cost_per_image", "input_cost_per_pixel", "output_cost_per_pixel",
	"input_cost_per_query", "input_cost_per_request",
}

// addAll adds the prices among the fields of an entry, or of one of its tiers.
func (l *list) addAll(fields map[string]json.RawMessage, base listKey) error {
	for name, raw := range fields {
		if string(raw) == "null" {
			continue
		}
		if name == "search_context_cost_per_query" {
			l.addSearch(raw)
			continue
		}
		field, key, ok := parseField(name)
		unit := slices.Contains(unitFields, name)
		if !ok && !unit {
			continue
		}
		usd, err := parsePrice(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if unit {
			l.addUnit(name, usd)
			continue
		}
		if base.above > 0 {
			key.above = base.above
		}
		f := l.figures[key]
		if f == nil {
			f = new(Figures)
			l.figures[key] = f
		}
		*tokenFields[field](f) = &usd
	}
	return nil
}

// parsePrice parses an amount of US dollars: a number, or one in a string.
func parsePrice(raw json.RawMessage) (usd float64, err error) {
	text := string(raw)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	usd, err = strconv.ParseFloat(text, 64)
	if err != nil || !(usd >= 0) || math.IsInf(usd, 0) {
		return 0, fmt.Errorf("%s is not a price in US dollars", raw)
	}
	return usd, nil
}

func (l *list) addUnit(name string, usd float64) {
	if l.units == nil {
		l.units = map[string]float64{}
	}
	l.units[name] = usd
}

// addSearch adds the price of a search of the web, with a context of medium size if that matters.
func (l *list) addSearch(raw json.RawMessage) {
	var bySize map[string]float64
	if json.Unmarshal(raw, &bySize) == nil { // another shape has no price
		if usd := bySize["search_context_size_medium"]; usd > 0 {
			l.addUnit("search", usd)
		}
	}
}

// parseField parses the name of a field that has the price of a token: what it prices, and for which requests, such as
// output_cost_per_token_above_200k_tokens_priority.
func parseField(name string) (field string, key listKey, ok bool) {
	rest := name
	for _, suffix := range [...]string{"_priority", "_flex", "_batches", "_batch"} {
		if before, after, found := strings.Cut(rest, suffix); found && (after == "" || strings.HasPrefix(after, "_above_")) {
			key.tier, rest = strings.TrimSuffix(strings.TrimPrefix(suffix, "_"), "es"), before+after
			break
		}
	}
	if tokenFields[rest] != nil {
		return rest, key, true
	}
	at := strings.LastIndex(rest, "_above_")
	if at < 0 || tokenFields[rest[:at]] == nil {
		return "", key, false
	}
	number, ok := strings.CutSuffix(rest[at+len("_above_"):], "_tokens")
	number, thousands := strings.CutSuffix(number, "k")
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || n == 0 {
		return "", key, false
	}
	key.above = int64(n)
	if thousands {
		key.above *= 1000
	}
	return rest[:at], key, true
}

// hasTokens reports whether the entry has the price of input and output tokens. What only reads has no output.
func (l *list) hasTokens(mode string) bool {
	base := l.figures[listKey{}]
	if base == nil && l.above("") != nil { // tiered_pricing begins with a tier above 0
		return true
	}
	if base == nil {
		return false
	}
	reads := mode == "embedding" || mode == "rerank" || mode == "moderation"
	return (base.Input != nil || base.ImageInput != nil) && (base.Output != nil || base.ImageOutput != nil || base.AudioOutput != nil || reads)
}

// above returns the lengths that have figures of their own in a service tier.
func (l *list) above(tier string) (lengths []int64) {
	for key := range l.figures {
		if key.tier == tier && key.above > 0 {
			lengths = append(lengths, key.above)
		}
	}
	slices.Sort(lengths)
	return lengths
}

func (l *list) hasTier(tier string) bool {
	return l.figures[listKey{tier: tier}] != nil || l.above(tier) != nil
}

// schedule returns the prices of a service tier. What it does not say is as usual, and what a length does not say is as for shorter
// requests.
func (l *list) schedule(tier string) (s Schedule) {
	base := merge(l.figures[listKey{tier: tier}], l.figures[listKey{}])
	s.Rate = base.Rate()
	lengths := l.above(tier)
	if tier != "" {
		lengths = slices.Compact(slices.Sorted(slices.Values(append(lengths, l.above("")...))))
	}
	for _, above := range lengths {
		own := l.figures[listKey{tier: tier, above: above}]
		usual := l.figures[listKey{above: above}]
		if l.figures[listKey{tier: tier}] != nil && tier != "" && own == nil {
			usual = nil // the tier has one price for every length
		}
		s.Tiers = append(s.Tiers, Tier{above, merge(own, usual, base).Rate()})
	}
	return s
}

// merge takes each figure from the first that has it.
func merge(all ...*Figures) *Figures {
	merged := new(Figures)
	for _, f := range all {
		if f == nil {
			continue
		}
		for _, of := range tokenFields {
			if to := of(merged); *to == nil {
				*to = *of(f)
			}
		}
	}
	return merged
}

// unitsOf returns the prices of what is not billed by the token, as far as answers of the mode have it.
func (l *list) unitsOf(mode, name string) (u Units) {
	switch mode {
	case "audio_transcription":
		// Some entries have the same price twice, for input and for output.
		u.AudioSecond = max(l.units["input_cost_per_second"], l.units["output_cost_per_second"], l.units["input_cost_per_audio_per_second"])
	case "audio_speech":
		u.Character = l.units["input_cost_per_character"]
	case "image_generation", "image_edit":
		u.Image = max(l.units["input_cost_per_image"], l.units["output_cost_per_image"])
		if u.Image == 0 {
			u.Image = (l.units["input_cost_per_pixel"] + l.units["output_cost_per_pixel"]) * pixels(name)
		}
	case "":
		u.AudioSecond = max(l.units["input_cost_per_second"], l.units["output_cost_per_second"])
		u.Character = l.units["input_cost_per_character"]
		u.Image = l.units["output_cost_per_image"]
	}
	u.Search = max(l.units["search"], l.units["input_cost_per_query"])
	u.Request = l.units["input_cost_per_request"]
	return u
}

// pixels returns the number of pixels in an image of the size that a name begins with, such as hd/1024-x-1792/dall-e-3, or else of
// the usual size.
func pixels(name string) float64 {
	for part := range strings.SplitSeq(name, "/") {
		width, height, found := strings.Cut(part, "-x-")
		w, err1 := strconv.ParseUint(width, 10, 16)
		h, err2 := strconv.ParseUint(height, 10, 16)
		if found && err1 == nil && err2 == nil {
			return float64(w * h)
		}
	}
	return 1024 * 1024
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

// findImage looks for the price of an image of the size and quality, for which tables have entries of their own, such as
// openai/hd/1024-x-1792/dall-e-3.
func (t Table) findImage(at Place, model string) *Price {
	size := strings.Replace(at.Size, "x", "-x-", 1)
	for _, prefix := range [...]string{at.Quality + "/" + size, "standard/" + size, size} {
		if p := t.find(at.Service, prefix+"/"+model, prefix+"/"+model); p != nil {
			return p
		}
	}
	return nil
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
