package llmproxy

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// parseLocal reads whether the upstream is local; the word was just read.
func (u *Upstream) parseLocal(d *caddyfile.Dispenser) error {
	local := d.Val() == "local"
	if d.NextArg() {
		return d.ArgErr()
	}
	if u.Local != nil && *u.Local != local {
		return d.Err("an upstream is either local or remote")
	}
	u.Local = &local
	return nil
}

// of finds the limits of a model, or those of the upstream for no name.
func (u *Upstream) of(model string) *Limits {
	if model == "" {
		return &u.Limits
	}
	if u.ModelLimits == nil {
		u.ModelLimits = map[string]*Limits{}
	}
	if u.ModelLimits[model] == nil {
		u.ModelLimits[model] = new(Limits)
	}
	return u.ModelLimits[model]
}

func (u *Upstream) parseContext(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(args[len(args)-1])
	if err != nil || n <= 0 {
		return d.Errf("context: %q is not a number of tokens such as 32768", args[len(args)-1])
	}
	model := ""
	if len(args) == 2 {
		model = args[0]
	}
	u.of(model).Context = n
	return nil
}

// parseAbilities reads what the upstream, or a model whose name stands first, can or cannot.
func (u *Upstream) parseAbilities(d *caddyfile.Dispenser) error {
	word, args, model := d.Val(), d.RemainingArgs(), ""
	if len(args) > 1 {
		if _, ok := router.AbilityNamed(args[0]); !ok {
			model, args = args[0], args[1:]
		}
	}
	if len(args) == 0 {
		return d.ArgErr()
	}
	if _, err := abilities(args); err != nil {
		return d.Errf("%s: %w", word, err)
	}
	limits := u.of(model)
	if word == "can" {
		limits.Can = append(limits.Can, args...)
	} else {
		limits.Cannot = append(limits.Cannot, args...)
	}
	return nil
}
