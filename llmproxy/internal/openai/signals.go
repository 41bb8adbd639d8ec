package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// Signals are what a request says of itself beyond its head: what rules decide by, and what a target must be able to do.
// They are read from the JSON of every endpoint alike, by the names of its members.
type Signals struct {
	// PromptTokens is an estimate: the bytes of all texts and of the tools' JSON by four, a fixed cost for each image,
	// sound and file, and a few tokens around each message. Base64 does not count.
	PromptTokens int
	// LargestPrompt is what must fit a context: PromptTokens, but of a list of inputs the largest one alone.
	LargestPrompt int
	Messages      int // messages or inputs; a text that stands alone is one
	Tools         int // functions of the old kind included
	Images        int
	Audio         int // sounds that are sent, not asked for
	Files         int
	JSONSchema    bool // the answer must be JSON of a schema
	// MaxTokens is the longest answer asked for, under whichever of its three names; zero where none is said.
	MaxTokens int

	all     weight
	listed  weight // what stands in lists of inputs
	largest weight // the largest input of these
	user    []byte // the content of the last message of a user
	content string
}

// A weight is what a model reads: bytes of text, and tokens that are none.
type weight struct{ bytes, tokens int }

func (w weight) estimate() int { return EstimateTokens(w.bytes) + w.tokens }

func (w weight) plus(v weight) weight { return weight{w.bytes + v.bytes, w.tokens + v.tokens} }

func (w weight) minus(v weight) weight { return weight{w.bytes - v.bytes, w.tokens - v.tokens} }

// What counts as tokens without being text: an image of a megapixel in full detail, half a minute of sound, three pages.
const (
	bytesPerToken = 4
	messageTokens = 4
	imageTokens   = 765
	audioTokens   = 300
	fileTokens    = 1500
)

// EstimateTokens is the usual estimate for a text of so many bytes.
func EstimateTokens(bytes int) int { return (bytes + bytesPerToken - 1) / bytesPerToken }

// Signals reads the request further. The first call takes a few passes over the body, later ones nothing; who never asks
// pays nothing. The result is the head's and must not be changed. A head that was never parsed has none.
func (h *Head) Signals() *Signals {
	if h.signals == nil {
		h.signals = new(Signals)
		h.signals.read(&h.Object)
	}
	return h.signals
}

// SignalsRead gives the signals if somebody asked for them before.
func (h *Head) SignalsRead() (*Signals, bool) { return h.signals, h.signals != nil }

func (s *Signals) read(o *jsonspan.Object) {
	for _, m := range o.Members {
		if value := m.Value.Of(o.Body); !jsonspan.IsNull(value) {
			s.member(jsonspan.Unescape(m.Key.Of(o.Body)), value)
		}
	}
	for _, name := range [...]string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		if value, ok := o.Get(name); ok && s.MaxTokens == 0 {
			s.MaxTokens = int(count(value))
		}
	}
	s.PromptTokens = s.all.estimate()
	s.LargestPrompt = s.all.minus(s.listed).plus(s.largest).estimate()
}

func (s *Signals) member(key, value []byte) {
	switch string(key) {
	case "messages":
		_ = jsonspan.EachElement(value, func(message []byte) bool { s.item(message); return true }) // no array: the upstream will say so
	case "prompt", "input":
		s.inputs(value)
	case "instructions":
		s.text(value)
	case "query":
		s.text(value)
		s.user = value
	case "documents":
		user := s.user
		s.inputs(value)
		s.user = user
	case "tools", "functions":
		_ = jsonspan.EachElement(value, func([]byte) bool { s.Tools++; return true })
		s.all.bytes += len(value)
	case "response_format":
		s.JSONSchema = s.JSONSchema || isSchema(value)
	case "text":
		s.JSONSchema = s.JSONSchema || isSchema(memberOf(value, "format"))
	}
}

func isSchema(format []byte) bool {
	return jsonspan.Is(memberOf(format, "type"), "json_schema")
}

// memberOf gives the last value that an object has under a key, as servers take it; nil for none.
func memberOf(object []byte, name string) (found []byte) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // what is no object has no members
		if string(jsonspan.Unescape(key)) == name {
			found = value
		}
		return true
	})
	return found
}

// inputs reads a text, a list of them, a list of tokens or of lists of tokens, or what the Responses API calls items.
func (s *Signals) inputs(value []byte) {
	if value[0] == '"' {
		s.input(value)
	}
	if value[0] != '[' {
		return
	}
	numbers := 0
	_ = jsonspan.EachElement(value, func(element []byte) bool {
		before := s.all
		switch element[0] {
		case '{':
			if s.item(element); memberOf(element, "role") != nil || memberOf(element, "type") != nil {
				return true // one turn of a conversation
			}
		case '"', '[':
			s.input(element)
		default:
			numbers++
			return true
		}
		one := s.all.minus(before)
		s.listed = s.listed.plus(one)
		if one.estimate() > s.largest.estimate() {
			s.largest = one
		}
		return true
	})
	if numbers > 0 {
		s.Messages++
		s.all.tokens += numbers
	}
}

// input is one input that stands alone: a text, or its tokens.
func (s *Signals) input(value []byte) {
	s.Messages++
	if value[0] == '[' {
		_ = jsonspan.EachElement(value, func([]byte) bool { s.all.tokens++; return true })
		return
	}
	s.user = value
	s.text(value)
}
