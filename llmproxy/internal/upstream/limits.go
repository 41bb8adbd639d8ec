package upstream

import (
	"regexp"
	"strconv"
)

// Servers tell their limits in prose only. Each pattern's groups are numbers: limit, and where the prompt takes a part of it,
// used.

var outputPatterns = []*regexp.Regexp{
	// vLLM to 0.17, with max_tokens as the parameter.
	regexp.MustCompile(`is too large: \d+\. This model's maximum context length is (?P<limit>\d+) tokens and your request has (?P<used>\d+) input tokens`),
	// vLLM from 0.18; "at least" before the number means that the prompt was not counted to its end.
	regexp.MustCompile(`maximum context length is (?P<limit>\d+) tokens\. However, you requested \d+ output tokens and your prompt contains (?P<used>\d+) input tokens`),
	// vLLM 0.32, which by itself shortens what is only too much for this prompt.
	regexp.MustCompile(`cannot be greater than max_model_len=(?P<limit>\d+)`),
	// OpenAI's older models, and those who copied them.
	regexp.MustCompile(`maximum context length is (?P<limit>\d+) tokens.*\((?P<used>\d+) in the (?:messages|prompt)[,;] \d+ in the completion\)`),
	regexp.MustCompile(`supports at most (?P<limit>\d+) completion tokens`),
	regexp.MustCompile("`max_tokens` must be less than or equal to `(?P<limit>\\d+)`"),                                             // Groq
	regexp.MustCompile(`max_tokens: \d+ > (?P<limit>\d+), which is the maximum allowed`),                                           // Anthropic
	regexp.MustCompile(`exceed context limit: (?P<used>\d+) \+ \d+ > (?P<limit>\d+)`),                                              // Anthropic
	regexp.MustCompile("must be <= (?P<limit>\\d+)\\. Given: (?P<used>\\d+) `inputs` tokens and \\d+ `max_new_tokens`"),            // TGI, Together
	regexp.MustCompile(`Invalid max_tokens value, the valid range of max_tokens is \[1, (?P<limit>\d+)\]`),                         // DeepSeek
	regexp.MustCompile(`maxOutputTokens.* supported range is from 1 \(inclusive\) to (?P<limit>\d+) \((?P<exclusive>exclusive)\)`), // Gemini
}

// outputThatFits reads how many tokens of output an error allows; false where it is about something else, or allows none.
func outputThatFits(message string) (int, bool) {
	for _, p := range outputPatterns {
		m := p.FindStringSubmatch(message)
		if m == nil {
			continue
		}
		n := number(p, m, "limit") - number(p, m, "used")
		if i := p.SubexpIndex("exclusive"); i >= 0 {
			n--
		}
		return n, n > 0
	}
	return 0, false
}

func number(p *regexp.Regexp, m []string, name string) int {
	i := p.SubexpIndex(name)
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(m[i]) // digits; too many of them are no limit
	return n
}

var contextPatterns = []*regexp.Regexp{
	regexp.MustCompile(`maximum context length (?:is|of) (?P<limit>\d+)`),
	regexp.MustCompile(`available context size \((?P<limit>\d+) tokens\)`),
	regexp.MustCompile(`with (?P<limit>\d+) maximum context length`),                      // Mistral
	regexp.MustCompile(`maximum number of tokens allowed \((?P<limit>\d+)\)`),             // Gemini
	regexp.MustCompile(`prompt is too long: \d+ tokens > (?P<limit>\d+)`),                 // Anthropic
	regexp.MustCompile(`context length currently available\D{0,20}(?P<limit>\d+)`),        // Ollama
	regexp.MustCompile(`\\?"n_ctx\\?":(?P<limit>\d+)`),                                    // llama.cpp, also inside Ollama's message
	regexp.MustCompile(`input \(\d+ tokens\) is too large.*batch size: (?P<limit>\d+)\)`), // llama.cpp's embeddings
}

// contextLimit reads the context length that an error tells; zero if it tells none.
func contextLimit(e *problem) int {
	for _, p := range contextPatterns {
		m := p.FindStringSubmatch(e.message)
		if m == nil {
			m = p.FindStringSubmatch(string(e.body))
		}
		if m != nil {
			return number(p, m, "limit")
		}
	}
	return 0
}
