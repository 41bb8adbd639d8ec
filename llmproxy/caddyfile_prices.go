package llmproxy

import (
	"math"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (h *Handler) parsePrices(d *caddyfile.Dispenser) error {
	if h.PricesFile != "" {
		return d.Err("prices: one file is read; it stands in another line already")
	}
	if !d.AllArgs(&h.PricesFile) {
		return d.ArgErr()
	}
	return nil
}

const priceForm = "price: a model and what a million input and output tokens cost are expected, or what an hour costs: " +
	"price gpt-4o 2.50 10, price gpu/* per_hour 0.12"

// parsePrice reads a line of prices.
func (h *Handler) parsePrice(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	p := new(Price)
	if n := len(args); n >= 2 && args[n-2] == "instead_of" {
		p.InsteadOf, args = args[n-1], args[:n-2]
	}
	if len(args) < 3 || len(args) > 4 || len(args) == 4 && args[1] == "per_hour" {
		return d.Err(priceForm)
	}
	p.Model = args[0]
	var figures []*float64
	if args[1] == "per_hour" {
		figures, args = []*float64{&p.PerHour}, args[2:]
	} else {
		p.Cached = new(float64)
		figures, args = []*float64{&p.Input, &p.Output, p.Cached}, args[1:]
	}
	for i, arg := range args {
		usd, err := strconv.ParseFloat(strings.TrimPrefix(arg, "$"), 64)
		if err != nil || usd < 0 || math.IsInf(usd, 0) || math.IsNaN(usd) {
			return d.Errf("price: %q is not a price in US dollars", arg)
		}
		*figures[i] = usd
	}
	if len(args) < 3 {
		p.Cached = nil
	}
	h.Prices = append(h.Prices, p)
	return nil
}
