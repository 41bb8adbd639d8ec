package prices

import "time"

// Tokens are what is to be paid for.
type Tokens struct {
	Input  int64 // cached ones included
	Cached int64 // of the input
	Output int64 // reasoning included
}

// A Rate is the price of one token, in US dollars.
type Rate struct{ Input, Cached, Output float64 }

// A Tier is the rate of requests with more input tokens than Above.
type Tier struct {
	Above int64
	Rate
}

// A Price is what a target takes.
type Price struct {
	Rate
	// Tiers are the rates of long requests, the shortest first.
	Tiers []Tier
	// PerHour is what an hour of answering costs, in US dollars: the electricity of a machine of one's own.
	PerHour float64
	// InsteadOf is the price to compare with: what the same tokens would have cost elsewhere. Nil for none.
	InsteadOf *Price
}

// Cost is the price of a request in US dollars. The duration is how long the target was busy with it.
func (p *Price) Cost(t Tokens, busy time.Duration) float64 {
	rate := p.rate(t.Input)
	cached := min(t.Cached, t.Input)
	return float64(t.Input-cached)*rate.Input + float64(cached)*rate.Cached + float64(t.Output)*rate.Output + busy.Hours()*p.PerHour
}

// Saved is what the same tokens would have cost at InsteadOf, less what they cost here: below zero if staying was dearer.
func (p *Price) Saved(t Tokens, busy time.Duration) float64 {
	if p.InsteadOf == nil {
		return 0
	}
	return p.InsteadOf.Cost(t, 0) - p.Cost(t, busy)
}

// CountsTokens tells whether the cost cannot be known without knowing the tokens.
func (p *Price) CountsTokens() bool {
	return p.Rate != Rate{} || len(p.Tiers) > 0
}

func (p *Price) rate(input int64) Rate {
	rate := p.Rate
	for _, t := range p.Tiers {
		if input > t.Above {
			rate = t.Rate
		}
	}
	return rate
}
