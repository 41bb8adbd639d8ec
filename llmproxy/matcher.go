package llmproxy

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prefilter"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// MatchLLM matches requests to LLMs by their content. All given conditions must hold. A request that is not JSON in OpenAI's
// format never matches.
//
// Numbers are compared, such as ">4000", ">=1", "<100", "<=100" or "=0". Several comparisons are separated by white space.
//
// In a route of llm_proxy it costs almost nothing. Elsewhere it reads the body of the request, at most 32 MiB, and keeps it for
// the handlers that follow; llm_proxy does not parse it a second time. The memory for that counts as that of llm_proxy's requests
// does, with the default of max_memory; when it is used up, no request matches.
type MatchLLM struct {
	// An estimate of the tokens of the prompt: a quarter of the bytes of its texts and tools, 765 for an image, 300 for audio,
	// 1500 for a file. Default: any.
	PromptTokens string `json:"prompt_tokens,omitempty"`

	// The number of messages. A prompt that is a single text counts as one. Default: any.
	Messages string `json:"messages,omitempty"`

	// The number of tools. Default: any.
	Tools string `json:"tools,omitempty"`

	// The number of images. Default: any.
	Images string `json:"images,omitempty"`

	// The number of audio parts. Default: any.
	Audio string `json:"audio,omitempty"`

	// The maximum number of tokens of the answer; 0 if the request does not limit it. Default: any.
	MaxTokens string `json:"max_tokens,omitempty"`

	// Whether the answer must be JSON that follows a schema. Default: any.
	JSONSchema *bool `json:"json_schema,omitempty"`

	// Whether the client asks for a stream. Default: any.
	Stream *bool `json:"stream,omitempty"`

	// Whether the request is a small job, which a small model can do: no tools, no images, audio or files, a prompt of at most 8000
	// tokens, and either an answer of at most 128 tokens or a title, tags and the like that a client asks for in the background,
	// recognized by its prompt or by the header X-OpenWebUI-Task. A route for small jobs leaves session affinity alone. Default: any.
	SmallJob *bool `json:"small_job,omitempty"`

	// The endpoint: chat, completions, embeddings, responses, … Default: any.
	Endpoint []string `json:"endpoint,omitempty"`

	// The name of the client's key, or of the user that another handler authenticated. Default: any.
	Key []string `json:"key,omitempty"`

	// The model that the client asks for. An asterisk stands for any characters. Default: any.
	Model []string `json:"model,omitempty"`

	// A regular expression (RE2) to find in the first 16 KiB of the last user message. Default: any.
	Content string `json:"content,omitempty"`

	comparisons []comparison
	content     *prefilter.Regexp
	memory      *memory.Account // of the bodies that it reads
	closer      *state.Closer
}

func init() { caddy.RegisterModule(new(MatchLLM)) }

// CaddyModule returns the Caddy module information.
func (*MatchLLM) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.llm", New: func() caddy.Module { return new(MatchLLM) }}
}

// Match implements caddyhttp.RequestMatcher.
func (m *MatchLLM) Match(r *http.Request) bool {
	matched, _ := m.MatchWithError(r) // it never fails
	return matched
}

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m *MatchLLM) MatchWithError(r *http.Request) (bool, error) {
	rec, ok := m.recordOf(r)
	if !ok {
		return false, nil
	}
	switch { // the cheap conditions first
	case m.Stream != nil && *m.Stream != rec.Stream:
	case len(m.Endpoint) > 0 && !slices.Contains(m.Endpoint, rec.Endpoint):
	case len(m.Model) > 0 && !slices.ContainsFunc(m.Model, func(p string) bool { return router.Match(p, rec.Model) }):
	case len(m.Key) > 0 && !slices.Contains(m.Key, cmp.Or(rec.Key, authenticatedUser(r))):
	case m.JSONSchema != nil && *m.JSONSchema != rec.Signals().JSONSchema:
	case m.SmallJob != nil && *m.SmallJob != isSmallJob(r, rec):
	case slices.ContainsFunc(m.comparisons, func(c comparison) bool { return !c.holds(rec.Signals()) }):
	case m.content != nil && !m.content.Match(rec.Signals().ContentBytes()):
	default:
		return true, nil
	}
	return false, nil
}

// Sessionless reports whether the matcher is for small jobs. They are sent in the session of a conversation, but are not part of it.
func (m *MatchLLM) Sessionless() bool { return m.SmallJob != nil && *m.SmallJob }

// taskHeader is the header in which Open WebUI says for which background task it asks, if its connection is configured to. Without a task
// it is empty, and in versions that do not know the placeholder it is that.
const taskHeader = "X-Openwebui-Task"

func isSmallJob(r *http.Request, rec *exchange.Record) bool {
	if v := r.Header[taskHeader]; len(v) > 0 && v[0] != "" && !strings.HasPrefix(v[0], "{{") {
		return true
	}
	return rec.Signals().SmallJob()
}

// recordOf returns the gateway's record of the request if the matcher belongs to a route; else it makes one by peeking at the
// body. It reports false if the body is not JSON in OpenAI's format.
func (m *MatchLLM) recordOf(r *http.Request) (*exchange.Record, bool) {
	if rec, ok := r.Context().Value(recordKey{}).(*exchange.Record); ok {
		return rec, true
	}
	request := reqbody.Peek(r, gateway.DefaultMaxBody, m.memory)
	if request == nil {
		return nil, false
	}
	task, _ := gateway.TaskOf(r.URL.Path)
	if request = task.Translate(request); request == nil {
		return nil, false
	}
	return &exchange.Record{Endpoint: task.Endpoint(), RequestInfo: exchange.RequestInfo{Model: request.Model, Stream: request.Stream, JSON: request}}, true
}

// Interface guards
var (
	_ caddy.Provisioner                 = (*MatchLLM)(nil)
	_ caddy.CleanerUpper                = (*MatchLLM)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchLLM)(nil)
	_ caddyfile.Unmarshaler             = (*MatchLLM)(nil)
)

// A comparison compares a number that describes the request with a constant.
type comparison struct {
	of       func(*openai.Signals) int
	operator string
	n        int
}

func (c comparison) holds(s *openai.Signals) bool {
	value := c.of(s)
	switch c.operator {
	case ">":
		return value > c.n
	case ">=":
		return value >= c.n
	case "<":
		return value < c.n
	case "<=":
		return value <= c.n
	}
	return value == c.n
}

var comparisonSyntax = regexp.MustCompile(`^\s*(>=|<=|>|<|=)\s*(\d+)`)

// parseComparisons parses a text such as ">1000 <=4000".
func parseComparisons(text string, of func(*openai.Signals) int) (list []comparison, err error) {
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := comparisonSyntax.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("invalid comparison %q; use one such as \">4000\"", text)
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		list, rest = append(list, comparison{of, m[1], n}), rest[len(m[0]):]
	}
	return list, nil
}

// A numericField is a field of the matcher with comparisons.
type numericField struct {
	name string
	text *string
	of   func(*openai.Signals) int
}

func (m *MatchLLM) numericFields() []numericField {
	return []numericField{
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
	m.closer = new(state.Closer)
	m.memory = acquireMemory(m.closer, 0)
	m.comparisons = nil
	for _, f := range m.numericFields() {
		list, err := parseComparisons(*f.text, f.of)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		m.comparisons = append(m.comparisons, list...)
	}
	for _, name := range m.Endpoint {
		if err := checkEndpoint(name); err != nil {
			return err
		}
	}
	if m.Content == "" {
		return nil
	}
	var err error
	if m.content, err = prefilter.Compile(m.Content); err != nil {
		return fmt.Errorf("content: %w", err)
	}
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (m *MatchLLM) Cleanup() error {
	m.closer.Close()
	return nil
}

// UnmarshalCaddyfile parses the matcher: one condition on the line, or several in a block, all of which must hold.
//
//	llm <condition>
//	llm {
//	    prompt_tokens|messages|tools|images|audio|max_tokens [<comparisons...>]
//	    json_schema|stream|small_job [true|false]
//	    endpoint|key|model <names...>
//	    content <regexp>
//	}
//
// A number without a comparison must be greater than 0.
func (m *MatchLLM) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() { // the name of the matcher, once for each of its lines
		if d.NextArg() {
			if err := m.parseCondition(d); err != nil {
				return err
			}
		}
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			if err := m.parseCondition(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseCondition parses a condition; its name is the current token.
func (m *MatchLLM) parseCondition(d *caddyfile.Dispenser) error {
	name, args := d.Val(), d.RemainingArgs()
	for _, f := range m.numericFields() {
		if f.name == name {
			text := cmp.Or(strings.Join(args, " "), ">0")
			if _, err := parseComparisons(text, f.of); err != nil {
				return d.Errf("%s: %w", name, err)
			}
			*f.text = strings.TrimSpace(*f.text + " " + text)
			return nil
		}
	}
	switch name {
	case "json_schema":
		return parseBool(d, name, args, &m.JSONSchema)
	case "stream":
		return parseBool(d, name, args, &m.Stream)
	case "small_job":
		return parseBool(d, name, args, &m.SmallJob)
	}
	if len(args) == 0 {
		return d.ArgErr()
	}
	switch name {
	case "endpoint":
		for _, arg := range args {
			if err := checkEndpoint(arg); err != nil {
				return d.WrapErr(err)
			}
		}
		m.Endpoint = append(m.Endpoint, args...)
	case "key":
		m.Key = append(m.Key, args...)
	case "model":
		m.Model = append(m.Model, args...)
	case "content":
		if len(args) > 1 || m.Content != "" {
			return d.Err("content takes one regular expression; quote it if it has spaces, and write alternatives as a|b")
		}
		m.Content = args[0]
	default:
		return d.Errf("unknown condition %q of llm: expected prompt_tokens, messages, tools, images, audio, max_tokens, json_schema, stream, small_job, endpoint, key, model or content", name)
	}
	return nil
}

// checkEndpoint reports an endpoint that no request has.
func checkEndpoint(name string) error {
	known := append(openai.EndpointNames(), dialect.SimpleChat.Name)
	if slices.Contains(known, name) {
		return nil
	}
	if near := nearestEndpoint(name, known); near != "" {
		return fmt.Errorf("unknown endpoint %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("unknown endpoint %q; use %s", name, strings.Join(known, ", "))
}

func parseBool(d *caddyfile.Dispenser, name string, args []string, to **bool) error {
	value := true
	if len(args) > 0 {
		var err error
		if value, err = strconv.ParseBool(args[0]); err != nil || len(args) > 1 {
			return d.Errf("%s: use true or false", name)
		}
	}
	*to = &value
	return nil
}
