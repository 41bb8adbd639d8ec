package delivery

import (
	"cmp"
	"context"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
)

const (
	// moderateOutput is the length of an answer, in tokens, that the rest of a budget must cover if the request does not limit it.
	moderateOutput = 1024
	// unknownOutput is the assumed limit of a model's answers, in tokens, if nothing says it.
	unknownOutput = 16_384
	// imageOutput is the number of tokens of a large image of the highest quality.
	imageOutput = 6_240
	// audioRate is the assumed size of a second of audio in bytes. It is small, so that the estimated length is rather too long.
	audioRate = 2000
	// audioTokens is the assumed number of tokens of a second of audio.
	audioTokens = 10
)

// A SpillBudget bounds what the requests of a model cost that go on to a later pool because of load.
type SpillBudget interface {
	// Covers reports whether the budget covers a request of that cost in US dollars now.
	Covers(ctx context.Context, cost float64) bool
	// Pay reserves the likely cost of a request or, near the end of the budget, at least the least cost. It reports false if the budget
	// does not cover it. Settle replaces the reservation by the real cost, and must be called.
	Pay(ctx context.Context, least, likely float64) (settle func(cost float64), ok bool)
}

// An offer is what is known of the cost of a request at a target before it is answered.
type offer struct {
	endpoint *openai.Endpoint
	request  *openai.Request // nil for a form
	form     *reqbody.Form   // nil for JSON
	size     int64           // of the request's body, in bytes
	price    *prices.Price   // nil if it is unknown
	prompt   int64           // estimated tokens of the prompt
	learned  int64           // how long nearly all answers of the target are, in tokens; zero if too few are known
	window   int64           // the model's context window in tokens; zero if it is unknown
}

// estimateAudio returns an estimate of the length of audio of so many bytes, in milliseconds.
func estimateAudio(size int64) int64 { return max(1000, size*1000/audioRate) }

// costs returns what the request costs in US dollars: with an answer of moderate length, and with one that is as long as
// nearly all of the model's answers. If the request limits the length, both are the cost of the longest answer.
func (o *offer) costs() (least, likely float64) {
	if o.price == nil {
		return 0, 0
	}
	request, endpoint := o.request, o.endpoint
	c := prices.Consumption{Tier: o.tier()}
	moderate := int64(0)
	switch n := answersTo(request); {
	case endpoint.Transcribes:
		c.AudioMillis = estimateAudio(o.size)
		c.Input = c.AudioMillis / 1000 * audioTokens
		c.Output = c.Input
	case endpoint.Images:
		c.Images, c.Output = n, n*cmp.Or(o.learned, imageOutput)
		moderate = min(c.Output, n*moderateOutput)
	case endpoint.Speaks && request != nil:
		c.Characters = int64(request.Characters())
	case endpoint.Ranks:
		c.Searches = 1
	case endpoint.Writes():
		c.Output = n * o.longest()
		if request != nil && request.Signals().MaxTokens == 0 {
			moderate = min(c.Output, n*moderateOutput)
		}
	}
	c.Input = max(c.Input, o.prompt)
	likely, _ = o.price.Cost(c)
	if least = likely; moderate > 0 {
		c.Output = moderate
		least, _ = o.price.Cost(c)
	}
	if likely == 0 && o.price.PerHour > 0 { // not known before, but a budget that is used up must not pay for it
		likely = 1e-9
	}
	return least, likely
}

// longest returns how long an answer of the model may be, in tokens: what the request allows, or else what nearly all of the model's answers
// kept to, or else what the model is known to allow.
func (o *offer) longest() int64 {
	switch {
	case o.request != nil && o.request.Signals().MaxTokens > 0:
		return int64(o.request.Signals().MaxTokens)
	case o.learned > 0:
		return o.learned
	case o.price.MaxOutput > 0:
		return o.price.MaxOutput
	case o.window > 0:
		return min(o.window, unknownOutput)
	}
	return unknownOutput
}

func (o *offer) tier() string {
	if o.request == nil {
		return ""
	}
	value, _ := o.request.Get("service_tier")
	return openai.ParseServiceTier(value)
}

// answersTo returns how many answers or images a request asks for; one for a form.
func answersTo(request *openai.Request) int64 {
	if request == nil {
		return 1
	}
	return int64(request.Choices())
}

// canMeter reports whether the answer will show what the request costs, or whether that is known without it.
func (o *offer) canMeter() bool {
	p := o.price
	if p == nil {
		return false
	}
	switch e := o.endpoint; {
	case p.IsFree(), p.Request > 0 && !p.ByToken():
		return true
	case e.Transcribes:
		return !o.isPlainText() && (p.AudioSecond > 0 || p.ByToken())
	case e.Speaks:
		return p.Character > 0 || p.ByToken() && o.wantsSpeechEvents()
	case e.Images:
		return p.Image > 0 || p.ByToken()
	case e.Ranks:
		return p.Search > 0 || p.ByToken()
	}
	return p.ByToken()
}

func (o *offer) isPlainText() bool { return o.form != nil && o.form.PlainText() }

func (o *offer) wantsSpeechEvents() bool {
	if o.request == nil {
		return false
	}
	format, _ := o.request.Get("stream_format")
	return string(format) == `"sse"`
}

// notMetered returns the error for a request that no target can meter.
func (o *offer) notMetered() *openai.Error {
	advice := "Ask the operator of this gateway to set its price."
	switch {
	case o.endpoint.Transcribes && o.isPlainText():
		advice = "Use the response_format json or verbose_json, because the others do not tell the length of the audio."
	case o.endpoint.Speaks:
		advice = "Use the stream_format sse, or ask the operator of this gateway to set the price of the characters."
	}
	return &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Code: "cost_not_metered",
		Message: "A budget applies to this request, and the cost of the request cannot be metered. " + advice}
}
