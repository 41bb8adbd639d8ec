package llmproxy

import (
	"errors"
	"fmt"
	"io"
	"os"

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

	// The price of an hour of answering, in US dollars: the electricity of your own machine. An answer costs the share of the
	// hour that its attempt took. Default: 0.
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
		return prices.Line{}, errors.New("price: missing target or model")
	case p.Input < 0, p.Output < 0, cached < 0, p.PerHour < 0:
		return prices.Line{}, fmt.Errorf("the price of %q is negative", p.Model)
	}
	rate := prices.Rate{Input: p.Input / million, Cached: cached / million, Output: p.Output / million}
	return prices.Line{For: p.Model, Price: prices.Price{Rate: rate, PerHour: p.PerHour}, InsteadOf: p.InsteadOf}, nil
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
