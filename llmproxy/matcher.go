package llmproxy

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

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
	signals              func() *openai.Signals
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

// A number is one comparison with a signal.
type number struct {
	of       func(*openai.Signals) int
	operator string
	n        int
}

func (n number) holds(s *openai.Signals) bool {
	have := n.of(s)
	switch n.operator {
	case ">":
		return have > n.n
	case ">=":
		return have >= n.n
	case "<":
		return have < n.n
	case "<=":
		return have <= n.n
	}
	return have == n.n
}

var comparison = regexp.MustCompile(`^\s*(>=|<=|>|<|=)\s*(\d+)`)

// comparisons reads ">1000 <=4000".
func comparisons(text string, of func(*openai.Signals) int) (list []number, err error) {
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := comparison.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("%q is no comparison such as \">4000\"", text)
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		list, rest = append(list, number{of, m[1], n}), rest[len(m[0]):]
	}
	return list, nil
}

// A numeric is one of the matcher's numbers.
type numeric struct {
	name string
	text *string
	of   func(*openai.Signals) int
}

func (m *MatchLLM) numerics() []numeric {
	return []numeric{
		{"prompt_tokens", &m.PromptTokens, func(s *openai.Signals) int { return s.PromptTokens }},
		{"messages", &m.Messages, func(s *openai.Signals) int { return s.Messages }},
		{"tools", &m.Tools, func(s *openai.Signals) int { return s.Tools }},
		{"images", &m.Images, func(s *openai.Signals) int { return s.Images }},
		{"audio", &m.Audio, func(s *openai.Signals) int { return s.Audio }},
		{"max_tokens", &m.MaxTokens, func(s *openai.Signals) int { return s.MaxTokens }},
	}
}

// Provision implements caddy.Provisioner.
func (m *MatchLLM) Provision(caddy.Context) error {
	m.numbers = nil
	for _, n := range m.numerics() {
		list, err := comparisons(*n.text, n.of)
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		m.numbers = append(m.numbers, list...)
	}
	if m.Content == "" {
		return nil
	}
	var err error
	if m.content, err = regexp.Compile(m.Content); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile reads the matcher: one condition on the line, or several, all of which must hold, in a block.
//
//	llm <condition>
//	llm {
//	    prompt_tokens|messages|tools|images|audio|max_tokens [<comparisons...>]
//	    json_schema|stream [true|false]
//	    endpoint|key|model <names...>
//	    content <regexp>
//	}
//
// A number without a comparison is to be above 0.
func (m *MatchLLM) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() { // the matcher's name, which may stand several times
		if d.NextArg() {
			if err := m.condition(d); err != nil {
				return err
			}
		}
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			if err := m.condition(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// condition reads one condition, whose name was just read.
func (m *MatchLLM) condition(d *caddyfile.Dispenser) error {
	name, args := d.Val(), d.RemainingArgs()
	for _, n := range m.numerics() {
		if n.name == name {
			text := strings.Join(args, " ")
			if text == "" {
				text = ">0"
			}
			if _, err := comparisons(text, n.of); err != nil {
				return d.Errf("%s: %w", name, err)
			}
			*n.text = strings.TrimSpace(*n.text + " " + text)
			return nil
		}
	}
	switch name {
	case "json_schema":
		return yesOrNo(d, name, args, &m.JSONSchema)
	case "stream":
		return yesOrNo(d, name, args, &m.Stream)
	}
	if len(args) == 0 {
		return d.ArgErr()
	}
	switch name {
	case "endpoint":
		m.Endpoint = append(m.Endpoint, args...)
	case "key":
		m.Key = append(m.Key, args...)
	case "model":
		m.Model = append(m.Model, args...)
	case "content":
		if len(args) > 1 || m.Content != "" {
			return d.Err("content takes one regular expression: put it in quotes, and say a|b for one or the other")
		}
		m.Content = args[0]
	default:
		return d.Errf("unknown condition %q of llm: expected prompt_tokens, messages, tools, images, audio, max_tokens, json_schema, stream, endpoint, key, model or content", name)
	}
	return nil
}

func yesOrNo(d *caddyfile.Dispenser, name string, args []string, to **bool) error {
	yes := true
	if len(args) > 0 {
		var err error
		if yes, err = strconv.ParseBool(args[0]); err != nil || len(args) > 1 {
			return d.Errf("%s: true or false is expected", name)
		}
	}
	*to = &yes
	return nil
}
