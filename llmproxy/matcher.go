package llmproxy

import (
	"net/http"
	"regexp"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func init() { caddy.RegisterModule(new(MatchLLM)) }

// MatchLLM matches requests to LLMs by what they say of themselves. All that is given must match. A request that is not JSON
// in OpenAI's shape never matches.
//
// Numbers are compared: ">4000", ">=1", "<100", "<=100", "=0", several of them separated by white space.
//
// In a route of llm_proxy it costs next to nothing. Elsewhere it reads the request's body, at most 32 MiB of it, and leaves
// it to be read again; llm_proxy does not read it a second time.
type MatchLLM struct {
	// An estimate of the prompt's tokens: the bytes of its texts and tools by four, 765 for an image, 300 for a sound,
	// 1500 for a file.
	PromptTokens string `json:"prompt_tokens,omitempty"`

	// How many messages there are; a text that stands alone is one.
	Messages string `json:"messages,omitempty"`

	// How many tools are offered.
	Tools string `json:"tools,omitempty"`

	// How many images are sent.
	Images string `json:"images,omitempty"`

	// How many sounds are sent.
	Audio string `json:"audio,omitempty"`

	// How many tokens of an answer are asked for at most; 0 where nothing is said.
	MaxTokens string `json:"max_tokens,omitempty"`

	// Whether the answer must be JSON of a schema.
	JSONSchema *bool `json:"json_schema,omitempty"`

	// Whether a stream is asked for.
	Stream *bool `json:"stream,omitempty"`

	// The endpoint, by its name: chat, completions, embeddings, responses, …
	Endpoint []string `json:"endpoint,omitempty"`

	// The name of the client's key, or of the user that another handler found.
	Key []string `json:"key,omitempty"`

	// The model that is asked for; an asterisk stands for any characters.
	Model []string `json:"model,omitempty"`

	// A regular expression (RE2) that the last message of a user matches somewhere in its first 16 KiB.
	Content string `json:"content,omitempty"`

	numbers []number
	content *regexp.Regexp
}

// CaddyModule returns the Caddy module information.
func (*MatchLLM) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.llm", New: func() caddy.Module { return new(MatchLLM) }}
}

// Match implements caddyhttp.RequestMatcher.
func (m *MatchLLM) Match(r *http.Request) bool {
	matched, _ := m.MatchWithError(r) // there is no error
	return matched
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m *MatchLLM) MatchWithError(r *http.Request) (bool, error) {
	a, ok := askedOf(r)
	if !ok || !m.matchesHead(r, &a) {
		return false, nil
	}
	if m.JSONSchema != nil && *m.JSONSchema != a.signals().JSONSchema {
		return false, nil
	}
	for _, n := range m.numbers {
		if !n.holds(a.signals()) {
			return false, nil
		}
	}
	return m.content == nil || m.content.MatchString(a.signals().Content()), nil
}

// matchesHead asks first what costs nothing.
func (m *MatchLLM) matchesHead(r *http.Request, a *asked) bool {
	switch {
	case m.Stream != nil && *m.Stream != a.stream:
	case len(m.Endpoint) > 0 && !slices.Contains(m.Endpoint, a.endpoint):
	case len(m.Model) > 0 && !slices.ContainsFunc(m.Model, func(p string) bool { return router.Match(p, a.model) }):
	case len(m.Key) > 0 && !slices.Contains(m.Key, a.caller(r)):
	default:
		return true
	}
	return false
}

// asked is what a request asks for.
type asked struct {
	endpoint, model, key string
	stream               bool
	signals              func() *wire.Signals
}

// askedOf takes the record where the gateway has one already, else reads ahead of it.
func askedOf(r *http.Request) (asked, bool) {
	if rec, ok := r.Context().Value(recordKey{}).(*exchange.Record); ok {
		return asked{rec.Endpoint, rec.Model, rec.Key, rec.Stream, rec.Signals}, true
	}
	head := reqbody.Peek(r, gateway.DefaultMaxBody)
	if head == nil {
		return asked{}, false
	}
	task, _ := gateway.Match(r.URL.Path)
	return asked{endpoint: task.Endpoint(), model: head.Model, stream: head.Stream, signals: head.Signals}, true
}

// caller is the name of who asks.
func (a *asked) caller(r *http.Request) string {
	if a.key != "" {
		return a.key
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	user, _ := repl.GetString("http.auth.user.id")
	return user
}

// Interface guards
var (
	_ caddy.Provisioner                 = (*MatchLLM)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchLLM)(nil)
	_ caddyfile.Unmarshaler             = (*MatchLLM)(nil)
)
