package llmproxy

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
)

// A Price is what a target costs. Tokens are priced by the million, in US dollars.
type Price struct {
	// A target, upstream/model, or a model's name at its upstream. An asterisk stands for any characters.
	Model string `json:"model"`

	// A million input tokens. Default: 0.
	Input float64 `json:"input,omitempty"`

	// A million output tokens, reasoning included. Default: 0.
	Output float64 `json:"output,omitempty"`

	// A million input tokens that the upstream had in its cache. Default: the same as other input.
	Cached *float64 `json:"cached,omitempty"`

	// An hour of answering: the electricity of a machine of one's own. An answer costs the share of the hour that its
	// attempt took. Default: 0.
	PerHour float64 `json:"per_hour,omitempty"`

	// The model or target that would have answered otherwise. The difference of the costs is what was saved. Default: none.
	InsteadOf string `json:"instead_of,omitempty"`
}

const million = 1e6

func (p *Price) line() (prices.Line, error) {
	cached := p.Input
	if p.Cached != nil {
		cached = *p.Cached
	}
	switch {
	case p.Model == "":
		return prices.Line{}, errors.New("a price needs a target or a model")
	case p.Input < 0, p.Output < 0, cached < 0, p.PerHour < 0:
		return prices.Line{}, fmt.Errorf("the price of %q is below zero", p.Model)
	}
	rate := prices.Rate{Input: p.Input / million, Cached: cached / million, Output: p.Output / million}
	return prices.Line{For: p.Model, Price: prices.Price{Rate: rate, PerHour: p.PerHour}, InsteadOf: p.InsteadOf}, nil
}

// priceBook collects the prices: the configuration's, the file's, the built-in ones.
func (h *Handler) priceBook() (*prices.Book, error) {
	var lines []prices.Line
	for _, p := range h.Prices {
		line, err := p.line()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	tables := []prices.Table{prices.Builtin()}
	if h.PricesFile != "" {
		name := caddy.NewReplacer().ReplaceKnown(h.PricesFile, "")
		table, err := readPrices(name)
		if err != nil {
			return nil, fmt.Errorf("prices %s: %w", name, err)
		}
		tables = []prices.Table{table, prices.Builtin()}
	}
	return prices.New(lines, tables...)
}

// maxPrices bounds the file; LiteLLM's has 2 MiB.
const maxPrices = 64 << 20

func readPrices(name string) (prices.Table, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxPrices))
	if err != nil {
		return nil, err
	}
	return prices.ParseTable(text)
}
