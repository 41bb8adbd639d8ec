package llmproxy

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
)

// priceSubdirectives are the lines in the block of a price.
var priceSubdirectives = func() subdirectives[*Price] {
	known := subdirectives[*Price]{"tier": parseTierPrice, "instead_of": func(d *dispenser, p *Price) error { return parseString(d, &p.InsteadOf) }}
	for name := range new(Price).figures() {
		known[name] = func(d *dispenser, p *Price) error {
			if len(d.words) != 1 {
				return d.wrongCount("a price in US dollars")
			}
			d.NextArg()
			usd, err := parseUSD(d, d.Val())
			if err == nil {
				p.figures()[name](usd)
			}
			return err
		}
	}
	return known
}()

// figures returns what sets each price, by the name of its line.
func (p *Price) figures() map[string]func(usd float64) {
	set := map[string]func(float64){}
	for name, to := range map[string]*float64{
		"input": &p.Input, "output": &p.Output, "per_hour": &p.PerHour, "per_minute": &p.PerMinute, "per_million_characters": &p.PerMillionCharacters,
		"per_image": &p.PerImage, "per_search": &p.PerSearch, "per_request": &p.PerRequest,
	} {
		set[name] = func(usd float64) { *to = usd }
	}
	for name, to := range map[string]**float64{
		"cached": &p.Cached, "cache_write": &p.CacheWrite, "cache_write_hour": &p.CacheWriteHour, "reasoning": &p.Reasoning,
		"audio_input": &p.AudioInput, "audio_output": &p.AudioOutput, "image_input": &p.ImageInput, "image_output": &p.ImageOutput,
	} {
		set[name] = func(usd float64) { *to = &usd }
	}
	return set
}

const priceUsage = "price: use the prices of a million input and output tokens, such as price gpt-4o 2.50 10, or the price of a unit, such as price gpu/* per_hour 0.12"

func parsePrice(d *dispenser, h *Handler) error {
	args := d.RemainingArgs()
	p := new(Price)
	if n := len(args); n >= 2 && args[n-2] == "instead_of" {
		p.InsteadOf, args = args[n-1], args[:n-2]
	}
	if len(args) == 0 {
		return d.Err(priceUsage)
	}
	p.Model, args = args[0], args[1:]
	if err := p.parseArgs(d, args); err != nil {
		return err
	}
	last := d.Val()
	if err := parseBlock(d, "price", priceSubdirectives, p, nil); err != nil {
		return err
	}
	if hasBlock := d.Val() != last; len(args) == 0 && !hasBlock {
		return d.Err(priceUsage)
	}
	h.Prices = append(h.Prices, p)
	return nil
}

// parseArgs parses the prices after the name: those of tokens, or the name of a unit and its price. A block may have them instead.
func (p *Price) parseArgs(d *dispenser, args []string) (err error) {
	switch n := len(args); {
	case n == 0:
		return nil
	case n == 2 && strings.HasPrefix(args[0], "per_"):
		set := p.figures()[args[0]]
		if set == nil {
			units := slices.DeleteFunc(slices.Sorted(maps.Keys(p.figures())), func(name string) bool { return !strings.HasPrefix(name, "per_") })
			return d.Errf("price: unknown unit %q; use one of %s", args[0], strings.Join(units, ", "))
		}
		usd, err := parseUSD(d, args[1])
		set(usd)
		return err
	case n == 1 || n > 3:
		return d.Err(priceUsage)
	}
	var usd [3]float64
	for i, arg := range args {
		if usd[i], err = parseUSD(d, arg); err != nil {
			return err
		}
	}
	p.Input, p.Output = usd[0], usd[1]
	if len(args) == 3 {
		p.Cached = &usd[2]
	}
	return nil
}

// parseTierPrice parses the prices of a service tier: input, output and cached tokens.
func parseTierPrice(d *dispenser, p *Price) (err error) {
	args := d.RemainingArgs()
	if len(args) < 3 || len(args) > 4 || !slices.Contains(prices.ServiceTiers, args[0]) {
		return d.Errf("tier: use a service tier, one of %s, and its prices of a million input and output tokens, such as tier flex 1.25 5", strings.Join(prices.ServiceTiers, ", "))
	}
	t := new(TierPrice)
	for i, to := range []**float64{&t.Input, &t.Output, &t.Cached}[:len(args)-1] {
		*to = new(float64)
		if **to, err = parseUSD(d, args[1+i]); err != nil {
			return err
		}
	}
	if p.Tiers == nil {
		p.Tiers = map[string]*TierPrice{}
	}
	p.Tiers[args[0]] = t
	return nil
}

// parseUSD parses an amount of US dollars.
func parseUSD(d *dispenser, text string) (float64, error) {
	usd, err := strconv.ParseFloat(strings.TrimPrefix(text, "$"), 64)
	if err != nil || usd < 0 || math.IsInf(usd, 0) || math.IsNaN(usd) {
		return 0, d.Errf("price: invalid price %q; use US dollars such as 2.50", text)
	}
	return usd, nil
}
