package prices

import (
	"cmp"
	"math"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A Rate is the price of one token of each class, in US dollars.
type Rate struct {
	Input, Cached, Output      float64
	CacheWrite, CacheWriteHour float64
	Reasoning                  float64
	AudioInput, AudioOutput    float64
	ImageInput, ImageOutput    float64
}

// Figures are what a price list says about the classes of tokens; nil where it says nothing.
type Figures struct {
	Input, Cached, Output      *float64
	CacheWrite, CacheWriteHour *float64
	Reasoning                  *float64
	AudioInput, AudioOutput    *float64
	ImageInput, ImageOutput    *float64
}

// Rate returns the rate. A class without a price of its own costs what other input or output does.
func (f Figures) Rate() Rate {
	var zero float64
	input, output := cmp.Or(f.Input, f.ImageInput, &zero), cmp.Or(f.Output, f.ImageOutput, &zero)
	written := cmp.Or(f.CacheWrite, input)
	return Rate{
		Input: *input, Cached: *cmp.Or(f.Cached, input), Output: *output,
		CacheWrite: *written, CacheWriteHour: *cmp.Or(f.CacheWriteHour, written),
		Reasoning:  *cmp.Or(f.Reasoning, output),
		AudioInput: *cmp.Or(f.AudioInput, input), AudioOutput: *cmp.Or(f.AudioOutput, output),
		ImageInput: *cmp.Or(f.ImageInput, input), ImageOutput: *cmp.Or(f.ImageOutput, output),
	}
}

// cost returns the price of the tokens. Tokens from the cache cost the same whatever they are.
func (r *Rate) cost(u *tokens.Usage) float64 {
	cached := min(u.Cached, u.Input)
	written := min(u.CacheWrite, u.Input-cached)
	hour := min(u.CacheWriteHour, written)
	rest := u.Input - cached - written
	audio := min(u.AudioInput, rest)
	image := min(u.ImageInput, rest-audio)
	input := float64(cached)*r.Cached + float64(written-hour)*r.CacheWrite + float64(hour)*r.CacheWriteHour +
		float64(audio)*r.AudioInput + float64(image)*r.ImageInput + float64(rest-audio-image)*r.Input
	image = u.ImageOutput
	if image == 0 && u.Images > 0 { // an endpoint that answers with nothing but images
		image = u.Output
	}
	audio = min(u.AudioOutput, u.Output)
	image = min(image, u.Output-audio)
	reasoning := min(u.Reasoning, u.Output-audio-image)
	return input + float64(audio)*r.AudioOutput + float64(image)*r.ImageOutput + float64(reasoning)*r.Reasoning +
		float64(u.Output-audio-image-reasoning)*r.Output
}

// A Tier is the rate of requests with more input tokens than Above.
type Tier struct {
	Above int64
	Rate
}

// A Schedule is the rate of requests of any length.
type Schedule struct {
	Rate
	// Tiers are the rates of long requests, the shortest first.
	Tiers []Tier
}

func (s *Schedule) rate(input int64) *Rate {
	rate := &s.Rate
	for i := range s.Tiers {
		if input > s.Tiers[i].Above {
			rate = &s.Tiers[i].Rate
		}
	}
	return rate
}

func (s *Schedule) isZero() bool { return s.Rate == Rate{} && len(s.Tiers) == 0 }

// Units are the prices of what is not billed by the token, in US dollars. An answer whose tokens are billed does not cost these too,
// except for Search and Request.
type Units struct {
	AudioSecond float64 // of transcribed audio
	Character   float64 // of a text to be spoken
	Image       float64 // generated
	Search      float64 // of the web, or of documents for a ranking
	Request     float64
}

// A Price is what a target charges.
type Price struct {
	Schedule
	// Service has the prices of service tiers: priority, flex, batch. One that is not in it costs what others do.
	Service map[string]*Schedule
	Units
	// PerHour is what an hour of answering costs, in US dollars: the electricity of a machine of one's own.
	PerHour float64
	// MaxOutput is the longest answer of the model, in tokens; zero if the table does not say.
	MaxOutput int64
	// InsteadOf is the price to compare with: what the same usage would have cost elsewhere. Nil for none.
	InsteadOf *Price
}

// A Consumption is what a request is charged for.
type Consumption struct {
	tokens.Usage
	// Tier is the service tier that answered; empty for the usual one.
	Tier string
	// Busy is how long the target was busy with the request.
	Busy time.Duration
}

// Cost returns the price of a request in US dollars. It reports false if the target charges for something that was not counted, so
// that the price is unknown.
func (p *Price) Cost(c Consumption) (usd float64, known bool) {
	hours := c.Busy.Hours() * p.PerHour
	usd = float64(c.Searches)*p.Search + p.Request
	if c.Input+c.Output > 0 && p.ByToken() {
		return round(hours + usd + p.schedule(c.Tier).rate(c.Input).cost(&c.Usage)), true
	}
	usd += float64(c.AudioMillis)/1000*p.AudioSecond + float64(c.Characters)*p.Character + float64(c.Images)*p.Image
	return round(hours + usd), usd > 0 || p.IsFree()
}

// schedule returns the schedule of a service tier.
func (p *Price) schedule(tier string) *Schedule {
	if s := p.Service[tier]; tier != "" && s != nil {
		return s
	}
	return &p.Schedule
}

// Saved returns what the same usage would have cost at InsteadOf, less what it cost here: below zero if staying was dearer.
func (p *Price) Saved(c Consumption) float64 {
	if p.InsteadOf == nil {
		return 0
	}
	here, _ := p.Cost(c)
	c.Busy = 0
	elsewhere, _ := p.InsteadOf.Cost(c)
	return round(elsewhere - here)
}

// IsFree reports whether nothing costs anything, except an hour of answering.
func (p *Price) IsFree() bool { return p.Schedule.isZero() && p.Units == Units{} }

// ByToken reports whether tokens cost something.
func (p *Price) ByToken() bool { return !p.Schedule.isZero() }

// finest is the smallest amount that a price is calculated to: a thousandth of a billionth of a dollar.
const finest = 1e12

// round removes the noise of floating point, which logs would show: 0.00087839999999999.
func round(usd float64) float64 {
	if usd > 1e3 { // too large to be multiplied without losing more than that
		return usd
	}
	return math.Round(usd*finest) / finest
}
