package llmproxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// hostOf returns the host and port of an address. They become the name of an upstream that is configured by its address alone.
func hostOf(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

func parseUpstream(d *caddyfile.Dispenser, h *Handler) error {
	u := new(Upstream)
	if !d.Args(&u.Name, &u.Kind) {
		return d.Err("upstream: missing name or kind; use upstream gpu ollama http://127.0.0.1:11434")
	}
	u.Addresses = d.RemainingArgs()
	if err := u.checkAddresses(); err != nil {
		return d.Errf("upstream %q: %w", u.Name, err)
	}
	if err := parseBlock(d, "upstream", upstreamSubdirectives, u, nil); err != nil {
		return err
	}
	if err := u.check(); err != nil {
		return d.Errf("upstream %q: %w", u.Name, err)
	}
	h.Upstreams = append(h.Upstreams, u)
	return nil
}

var upstreamSubdirectives = subdirectives[*Upstream]{
	"api_key":             func(d *caddyfile.Dispenser, u *Upstream) error { return parseString(d, &u.APIKey) },
	"header_up":           parseHeaderUp,
	"params":              parseParams,
	"drop":                func(d *caddyfile.Dispenser, u *Upstream) error { return parseStrings(d, &u.Drop) },
	"dial_timeout":        func(d *caddyfile.Dispenser, u *Upstream) error { return parseDuration(d, &u.DialTimeout) },
	"first_token_timeout": func(d *caddyfile.Dispenser, u *Upstream) error { return parseDuration(d, &u.FirstTokenTimeout) },
	"idle_timeout":        func(d *caddyfile.Dispenser, u *Upstream) error { return parseDuration(d, &u.IdleTimeout) },
	"timeout":             func(d *caddyfile.Dispenser, u *Upstream) error { return parseDuration(d, &u.Timeout) },
	"load_timeout":        func(d *caddyfile.Dispenser, u *Upstream) error { return parseDuration(d, &u.LoadTimeout) },
	"max_concurrent":      parseMaxConcurrent,
	"queue":               parseQueue,
	"local":               parseLocal,
	"remote":              parseLocal,
	"context":             parseContext,
	"can":                 parseCapabilities,
	"cannot":              parseCapabilities,
	"transport":           parseTransport,
}

func parseHeaderUp(d *caddyfile.Dispenser, u *Upstream) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 3 {
		return d.ArgErr()
	}
	if u.Headers == nil {
		u.Headers = new(headers.HeaderOps)
	}
	value, replacement := "", (*string)(nil)
	if len(args) > 1 {
		value = args[1]
	}
	if len(args) > 2 {
		replacement = &args[2]
	}
	if err := headers.CaddyfileHeaderOp(u.Headers, args[0], value, replacement); err != nil {
		return d.Errf("header_up: %w", err)
	}
	return nil
}

// parseParams parses one parameter on the line, or several in a block.
func parseParams(d *caddyfile.Dispenser, u *Upstream) error {
	if args := d.RemainingArgs(); len(args) > 0 {
		return addParam(d, u, args)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := addParam(d, u, append([]string{d.Val()}, d.RemainingArgs()...)); err != nil {
			return err
		}
	}
	if len(u.Params) == 0 {
		return d.ArgErr()
	}
	return nil
}

// addParam adds a parameter. A value that is not JSON is a string.
func addParam(d *caddyfile.Dispenser, u *Upstream, args []string) error {
	if len(args) != 2 {
		return d.Err("params: use a name and a value, such as params temperature 0.2")
	}
	value := json.RawMessage(args[1])
	if !json.Valid(value) {
		quoted, err := json.Marshal(args[1])
		if err != nil {
			return d.Errf("params: %w", err)
		}
		value = quoted
	}
	if u.Params == nil {
		u.Params = map[string]json.RawMessage{}
	}
	u.Params[args[0]] = value
	return nil
}

func parseMaxConcurrent(d *caddyfile.Dispenser, u *Upstream) (err error) {
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	u.MaxConcurrent, err = parseCount(d, "max_concurrent", text, 1)
	return err
}

func parseQueue(d *caddyfile.Dispenser, u *Upstream) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	places, err := parseCount(d, "queue", args[0], 0)
	if err != nil {
		return err
	}
	u.Queue = &Queue{Places: places}
	if len(args) == 2 {
		wait, err := caddy.ParseDuration(args[1])
		if err != nil || wait <= 0 {
			return d.Errf("queue: invalid duration %q; use one such as 30s", args[1])
		}
		u.Queue.LongestWait = caddy.Duration(wait)
	}
	return nil
}

func parseLocal(d *caddyfile.Dispenser, u *Upstream) error {
	local := d.Val() == "local"
	if d.NextArg() {
		return d.ArgErr()
	}
	if u.Local != nil && *u.Local != local {
		return d.Err("local and remote contradict each other; remove one")
	}
	u.Local = &local
	return nil
}

// capabilitiesOf returns the capabilities of a model, or those of the upstream for an empty name.
func capabilitiesOf(u *Upstream, model string) *Capabilities {
	if model == "" {
		return &u.Capabilities
	}
	if u.ModelLimits == nil {
		u.ModelLimits = map[string]*Capabilities{}
	}
	if u.ModelLimits[model] == nil {
		u.ModelLimits[model] = new(Capabilities)
	}
	return u.ModelLimits[model]
}

func parseContext(d *caddyfile.Dispenser, u *Upstream) error {
	args, model := d.RemainingArgs(), ""
	if len(args) == 2 {
		model, args = args[0], args[1:]
	}
	if len(args) != 1 {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 {
		return d.Errf("context: invalid number %q; use a number of tokens such as 32768", args[0])
	}
	capabilitiesOf(u, model).Context = n
	return nil
}

// parseCapabilities parses features that the upstream has or lacks, or, if a model's name comes first, that the model does.
func parseCapabilities(d *caddyfile.Dispenser, u *Upstream) error {
	name, args, model := d.Val(), d.RemainingArgs(), ""
	if len(args) > 1 {
		if _, ok := router.ParseFeature(args[0]); !ok {
			model, args = args[0], args[1:]
		}
	}
	if len(args) == 0 {
		return d.ArgErr()
	}
	if _, err := parseFeatures(args); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	c := capabilitiesOf(u, model)
	if name == "can" {
		c.Can = append(c.Can, args...)
	} else {
		c.Cannot = append(c.Cannot, args...)
	}
	return nil
}

func parseTransport(d *caddyfile.Dispenser, u *Upstream) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(http.RoundTripper); !ok {
		return d.Errf("transport: module %s is not an http.RoundTripper", name)
	}
	u.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}
