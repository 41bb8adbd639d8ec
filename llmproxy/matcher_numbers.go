package llmproxy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// A number is one comparison with a signal.
type number struct {
	of       func(*wire.Signals) int
	operator string
	n        int
}

func (n number) holds(s *wire.Signals) bool {
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
func comparisons(text string, of func(*wire.Signals) int) (list []number, err error) {
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
	of   func(*wire.Signals) int
}

func (m *MatchLLM) numerics() []numeric {
	return []numeric{
		{"prompt_tokens", &m.PromptTokens, func(s *wire.Signals) int { return s.PromptTokens }},
		{"messages", &m.Messages, func(s *wire.Signals) int { return s.Messages }},
		{"tools", &m.Tools, func(s *wire.Signals) int { return s.Tools }},
		{"images", &m.Images, func(s *wire.Signals) int { return s.Images }},
		{"audio", &m.Audio, func(s *wire.Signals) int { return s.Audio }},
		{"max_tokens", &m.MaxTokens, func(s *wire.Signals) int { return s.MaxTokens }},
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
