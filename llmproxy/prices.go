package llmproxy

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
)

// A Price is the price of a target. Prices of tokens are in US dollars for a million tokens.
type Price struct {
	// A target, upstream/model, or the name of a model at its upstream. An asterisk stands for any characters.
	Model string `json:"model"`

	// The price of input tokens. Default: 0.
	Input float64 `json:"input,omitempty"`

	// The price of output tokens, including reasoning. Default: 0.
	Output float64 `json:"output,omitempty"`

	// The price of input tokens that the upstream had in its cache. Default: that of other input tokens.
	Cached *float64 `json:"cached,omitempty"`

	// The price of input tokens that the upstream wrote to its cache. Default: that of other input tokens.
	CacheWrite *float64 `json:"cache_write,omitempty"`

	// The price of input tokens that the upstream keeps in its cache for an hour. Default: that of cache_write.
	CacheWriteHour *float64 `json:"cache_write_hour,omitempty"`

	// The price of output tokens with which the model thought. Default: that of other output tokens.
	Reasoning *float64 `json:"reasoning,omitempty"`

	// The price of input tokens of audio. Default: that of other input tokens.
	AudioInput *float64 `json:"audio_input,omitempty"`

	// The price of output tokens of audio. Default: that of other output tokens.
	AudioOutput *float64 `json:"audio_output,omitempty"`

	// The price of input tokens of images. Default: that of other input tokens.
	ImageInput *float64 `json:"image_input,omitempty"`

	// The price of output tokens of images. Default: that of other output tokens.
	ImageOutput *float64 `json:"image_output,omitempty"`

	// The prices of tokens in the service tiers priority, flex and batch, as far as they differ. The tier that the answer names
	// applies. Default: those above.
	Tiers map[string]*TierPrice `json:"tiers,omitempty"`

	// The price of a minute of transcribed audio, in US dollars. Default: 0.
	PerMinute float64 `json:"per_minute,omitempty"`

	// The price of a million characters of text to be spoken, in US dollars. Default: 0.
	PerMillionCharacters float64 `json:"per_million_characters,omitempty"`

	// The price of a generated image, in US dollars. Default: 0.
	PerImage float64 `json:"per_image,omitempty"`

	// The price of a search, of the web or of documents for a ranking, in US dollars. Default: 0.
	PerSearch float64 `json:"per_search,omitempty"`

	// The price of a request, in addition to that of its tokens, in US dollars. Default: 0.
	PerRequest float64 `json:"per_request,omitempty"`

	// The price of an hour of answering, in US dollars: the electricity of your own machine. An answer costs the share of the
	// hour that its attempt took. Default: 0.
	PerHour float64 `json:"per_hour,omitempty"`

	// The model or target that would have answered otherwise. The difference of the costs is what was saved. Default: none.
	InsteadOf string `json:"instead_of,omitempty"`
}

// A TierPrice is what tokens cost in a service tier, in US dollars for a million of them.
type TierPrice struct {
	// The price of input tokens. Default: that of other service tiers.
	Input *float64 `json:"input,omitempty"`

	// The price of output tokens. Default: that of other service tiers.
	Output *float64 `json:"output,omitempty"`

	// The price of input tokens that the upstream had in its cache. Default: that of other service tiers.
	Cached *float64 `json:"cached,omitempty"`
}

const million = 1e6

func (p *Price) line() (prices.Line, error) {
	if p.Model == "" {
		return prices.Line{}, errors.New("price: missing target or model")
	}
	negative := false
	perToken := func(usd *float64) *float64 {
		if usd == nil {
			return nil
		}
		negative = negative || *usd < 0
		each := *usd / million
		return &each
	}
	usual := prices.Figures{
		Input: perToken(&p.Input), Output: perToken(&p.Output), Cached: perToken(p.Cached), CacheWrite: perToken(p.CacheWrite), CacheWriteHour: perToken(p.CacheWriteHour),
		Reasoning: perToken(p.Reasoning), AudioInput: perToken(p.AudioInput), AudioOutput: perToken(p.AudioOutput), ImageInput: perToken(p.ImageInput), ImageOutput: perToken(p.ImageOutput),
	}
	price := prices.Price{
		Schedule: prices.Schedule{Rate: usual.Rate()}, PerHour: p.PerHour,
		Units: prices.Units{AudioSecond: p.PerMinute / 60, Character: p.PerMillionCharacters / million, Image: p.PerImage, Search: p.PerSearch, Request: p.PerRequest},
	}
	for name, tier := range p.Tiers {
		if !slices.Contains(prices.ServiceTiers, name) || tier == nil {
			return prices.Line{}, fmt.Errorf("the price of %q: unknown service tier %q; use one of %s", p.Model, name, strings.Join(prices.ServiceTiers, ", "))
		}
		own := usual
		own.Input, own.Output, own.Cached = cmp.Or(perToken(tier.Input), usual.Input), cmp.Or(perToken(tier.Output), usual.Output), cmp.Or(perToken(tier.Cached), usual.Cached)
		if price.Service == nil {
			price.Service = map[string]*prices.Schedule{}
		}
		price.Service[name] = &prices.Schedule{Rate: own.Rate()}
	}
	u := &price.Units
	if negative || min(p.PerHour, u.AudioSecond, u.Character, u.Image, u.Search, u.Request) < 0 {
		return prices.Line{}, fmt.Errorf("the price of %q is negative", p.Model)
	}
	return prices.Line{For: p.Model, Price: price, InsteadOf: p.InsteadOf}, nil
}

// loadPrices returns the configured prices, followed by those of the file and the built-in ones.
func loadPrices(configured []*Price, file string) (*prices.Book, error) {
	var lines []prices.Line
	for _, p := range configured {
		line, err := p.line()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	tables := []prices.Table{prices.Builtin()}
	if file != "" {
		name := caddy.NewReplacer().ReplaceKnown(file, "")
		table, err := readPricesFile(name)
		if err != nil {
			return nil, place("").in("prices", 0).errorf("reading prices from %s: %w", name, err)
		}
		tables = []prices.Table{table, prices.Builtin()}
	}
	book, err := prices.New(lines, tables...)
	return book, placePrices(err)
}

// maxPricesFile bounds the file; LiteLLM's has 2 MiB.
const maxPricesFile = 64 << 20

func readPricesFile(name string) (prices.Table, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxPricesFile))
	if err != nil {
		return nil, err
	}
	return prices.ParseTable(text)
}
