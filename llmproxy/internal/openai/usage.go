package openai

import (
	"math"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// UsageIn returns the usage object in a member of an answer or a chunk, or nil if the member has none. Groq and Cohere put it into an
// object of their own.
func UsageIn(key, value []byte) []byte {
	switch string(key) {
	case "usage", "usageMetadata", "usage_metadata":
	case "x_groq":
		value = member(value, "usage")
	case "meta":
		value = member(value, "billed_units")
	default:
		return nil
	}
	if jsonspan.IsNull(value) {
		return nil
	}
	return value
}

// ParseUsage reads a usage object in any of the forms that servers send. It returns false if the object counts nothing. Zeros count
// nothing, because every prompt has at least one token.
func ParseUsage(raw []byte) (tokens.Usage, bool) {
	var p usageParser
	if err := jsonspan.EachMember(raw, p.member); err != nil {
		return tokens.Usage{}, false
	}
	p.settle()
	return p.u, p.u != tokens.Usage{}
}

// A usageParser reads a usage object. Servers name the same count in several ways, and relays write both generations of names, with
// zeros or null where they know nothing. The largest value of a count is the one that was counted.
type usageParser struct {
	u tokens.Usage
	// total is prompt and answer together.
	total int64
	// hit and miss are the parts of the prompt that DeepSeek counts instead of all of it.
	hit, miss int64
	// read and written are tokens of Anthropic's cache, which do not count as input there.
	read, written int64
	// openAI means that OpenAI's name for the prompt was used, so that read and written do count as input.
	openAI bool
	// thoughts are Gemini's, which do not count as output there.
	thoughts int64
}

func (p *usageParser) member(key, value []byte) bool {
	u := &p.u
	switch string(key) {
	case "prompt_tokens":
		larger(&u.Input, value)
		p.openAI = p.openAI || parseCount(value) > 0
	case "input_tokens", "prompt_eval_count", "promptTokenCount":
		larger(&u.Input, value)
	case "completion_tokens", "output_tokens", "eval_count", "candidatesTokenCount":
		larger(&u.Output, value)
	case "total_tokens", "totalTokenCount":
		larger(&p.total, value)
	case "prompt_tokens_details", "input_tokens_details", "input_token_details":
		p.inputDetails(value)
	case "completion_tokens_details", "output_tokens_details", "output_token_details":
		p.outputDetails(value)
	case "cached_tokens", "cached_prompt_tokens", "num_cached_tokens", "cachedContentTokenCount": // Moonshot, Together, Gemini
		larger(&u.Cached, value)
	case "prompt_cache_hit_tokens": // DeepSeek
		larger(&p.hit, value)
	case "prompt_cache_miss_tokens":
		larger(&p.miss, value)
	case "cache_read_input_tokens": // Anthropic
		larger(&p.read, value)
	case "cache_creation_input_tokens":
		larger(&p.written, value)
	case "cache_write_tokens", "cache_creation_tokens":
		larger(&u.CacheWrite, value)
	case "cache_creation", "cache_creation_token_details":
		p.cacheCreation(value)
	case "reasoning_tokens":
		larger(&u.Reasoning, value)
	case "thoughtsTokenCount":
		larger(&p.thoughts, value)
	case "seconds", "prompt_audio_seconds":
		u.AudioMillis = max(u.AudioMillis, parseMillis(value))
	case "search_units", "num_search_queries", "web_search_requests":
		larger(&u.Searches, value)
	case "server_tool_use", "billed_units":
		_ = jsonspan.EachMember(value, p.member) // it may be null
	}
	return true
}

func (p *usageParser) inputDetails(details []byte) {
	_ = jsonspan.EachMember(details, func(key, value []byte) bool { // they may be null
		switch u := &p.u; string(key) {
		case "cached_tokens", "cache_read_tokens", "cache_read_input_tokens":
			larger(&u.Cached, value)
		case "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens":
			larger(&u.CacheWrite, value)
		case "cache_creation", "cache_creation_token_details":
			p.cacheCreation(value)
		case "audio_tokens":
			larger(&u.AudioInput, value)
		case "image_tokens":
			larger(&u.ImageInput, value)
		}
		return true
	})
}

func (p *usageParser) outputDetails(details []byte) {
	_ = jsonspan.EachMember(details, func(key, value []byte) bool { // they may be null
		switch u := &p.u; string(key) {
		case "reasoning_tokens", "thinking_tokens":
			larger(&u.Reasoning, value)
		case "audio_tokens":
			larger(&u.AudioOutput, value)
		case "image_tokens":
			larger(&u.ImageOutput, value)
		}
		return true
	})
}

// cacheCreation reads how long Anthropic keeps what was written to its cache.
func (p *usageParser) cacheCreation(value []byte) {
	short := parseCount(member(value, "ephemeral_5m_input_tokens"))
	larger(&p.u.CacheWriteHour, member(value, "ephemeral_1h_input_tokens"))
	p.u.CacheWrite = max(p.u.CacheWrite, short+p.u.CacheWriteHour)
}

// settle brings the counts to the meaning that they have in tokens.Usage.
func (p *usageParser) settle() {
	u := &p.u
	if p.cacheIsBeside() {
		u.Input += p.read + p.written
	}
	u.Cached, u.CacheWrite = max(u.Cached, p.read, p.hit), max(u.CacheWrite, p.written)
	if u.Input == 0 {
		u.Input = max(p.hit+p.miss, p.total-u.Output)
	}
	u.Output, u.Reasoning = u.Output+p.thoughts, max(u.Reasoning, p.thoughts)
	// xAI does not count reasoning as output. The total shows it.
	if u.Reasoning > u.Output || u.Reasoning > 0 && p.total == u.Input+u.Output+u.Reasoning {
		u.Output += u.Reasoning
	}
	if u.Output == 0 && u.Input > 0 {
		u.Output = max(0, p.total-u.Input)
	}
	for _, part := range [...]*int64{&u.Cached, &u.CacheWrite, &u.AudioInput, &u.ImageInput} {
		*part = min(*part, u.Input)
	}
	for _, part := range [...]*int64{&u.AudioOutput, &u.ImageOutput} {
		*part = min(*part, u.Output)
	}
	u.CacheWriteHour = min(u.CacheWriteHour, u.CacheWrite)
}

// cacheIsBeside reports whether the tokens that were read from or written to Anthropic's cache are not part of the input. On
// Anthropic's own servers they are not. Relays that use OpenAI's names include them.
func (p *usageParser) cacheIsBeside() bool {
	beside := p.read + p.written
	switch {
	case beside == 0:
		return false
	case beside > p.u.Input:
		return true
	case p.openAI:
		return false
	}
	return p.total == 0 || p.total != p.u.Input+p.u.Output
}

// larger sets a count to the value if that is larger.
func larger(n *int64, value []byte) { *n = max(*n, parseCount(value)) }

// maxCount is larger than any count. A larger number is a mistake of the server.
const maxCount = 1e12

// parseCount reads a count: a JSON number in any spelling, or one in a string. It rounds fractions. Anything absent, invalid or
// negative is zero.
func parseCount(value []byte) int64 {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n <= maxCount {
		return max(0, n)
	}
	return int64(math.Round(parseNumber(value)))
}

// parseMillis reads a number of seconds, and rounds it up.
func parseMillis(value []byte) int64 { return int64(math.Ceil(parseNumber(value) * 1000)) }

// parseNumber reads a JSON number, or one in a string. Anything else, or a number that cannot be a count, is zero.
func parseNumber(value []byte) float64 {
	if raw, ok := jsonspan.RawString(value); ok {
		value = raw
	}
	for _, c := range value {
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return 0 // ParseFloat accepts more than JSON does
		}
	}
	n, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(n > 0 && n <= maxCount) {
		return 0
	}
	return n
}

// ParseServiceTier returns the service tier that an answer names, if it has prices of its own: priority, flex or batch. It returns
// the empty string for all others.
func ParseServiceTier(value []byte) string {
	raw, _ := jsonspan.RawString(value)
	switch string(raw) {
	case "priority", "fast":
		return "priority"
	case "flex":
		return "flex"
	case "batch":
		return "batch"
	}
	return ""
}
