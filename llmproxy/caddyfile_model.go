package llmproxy

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// parseModel reads a model: its short form, or a block.
func parseModel(d *caddyfile.Dispenser) (*Model, error) {
	m := new(Model)
	if !d.Args(&m.Name) {
		return nil, d.Err("a model needs a name: model gpt-4o openai/gpt-4o")
	}
	m.To = d.RemainingArgs()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := m.subdirective(d); err != nil {
			return nil, err
		}
	}
	if len(m.To) == 0 {
		return nil, d.Errf("model %s has no target: say `to upstream/model`", m.Name)
	}
	return m, nil
}

func (m *Model) subdirective(d *caddyfile.Dispenser) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	switch name {
	case "to":
		m.To = append(m.To, args...)
	case "fallback":
		m.Fallbacks = append(m.Fallbacks, args)
	case "weight":
		return m.parseWeights(d, args)
	case "lb_policy":
		if len(args) > 1 {
			return d.ArgErr()
		}
		if _, err := router.ParsePolicy(args[0]); err != nil {
			return d.WrapErr(err)
		}
		m.LBPolicy = args[0]
	default:
		return d.Errf("unknown subdirective %q of model: expected to, weight, lb_policy or fallback", name)
	}
	return nil
}

func (m *Model) parseWeights(d *caddyfile.Dispenser, args []string) error {
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return d.Errf("weight: %q is not a whole number of at least 0", arg)
		}
		m.Weights = append(m.Weights, n)
	}
	return nil
}
