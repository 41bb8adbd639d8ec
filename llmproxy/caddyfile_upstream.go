package llmproxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// nameOf names an upstream that has an address only.
func nameOf(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// parseUpstream reads an upstream block.
func parseUpstream(d *caddyfile.Dispenser) (*Upstream, error) {
	u := new(Upstream)
	if !d.Args(&u.Name, &u.Kind) {
		return nil, d.Err("an upstream needs a name and a kind: upstream gpu ollama http://127.0.0.1:11434")
	}
	u.Addresses = d.RemainingArgs()
	if err := u.checkAddresses(); err != nil {
		return nil, d.Errf("upstream %q: %w", u.Name, err)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := u.subdirective(d); err != nil {
			return nil, err
		}
	}
	if err := u.check(); err != nil {
		return nil, d.Errf("upstream %q: %w", u.Name, err)
	}
	return u, nil
}

func (u *Upstream) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "api_key":
		if !d.AllArgs(&u.APIKey) {
			return d.ArgErr()
		}
		return nil
	case "header_up":
		return u.parseHeaderUp(d)
	case "params":
		return u.parseParams(d)
	case "drop":
		names := d.RemainingArgs()
		if len(names) == 0 {
			return d.ArgErr()
		}
		u.Drop = append(u.Drop, names...)
		return nil
	case "dial_timeout":
		return parseDuration(d, &u.DialTimeout)
	case "first_token_timeout":
		return parseDuration(d, &u.FirstTokenTimeout)
	case "idle_timeout":
		return parseDuration(d, &u.IdleTimeout)
	case "timeout":
		return parseDuration(d, &u.Timeout)
	case "load_timeout":
		return parseDuration(d, &u.LoadTimeout)
	case "max_concurrent":
		return u.parseMaxConcurrent(d)
	case "queue":
		return u.parseQueue(d)
	case "local", "remote":
		return u.parseLocal(d)
	case "context":
		return u.parseContext(d)
	case "can", "cannot":
		return u.parseAbilities(d)
	case "transport":
		return u.parseTransport(d)
	default:
		return d.Errf("unknown subdirective %q of upstream: expected api_key, header_up, params, drop, dial_timeout, first_token_timeout, "+
			"idle_timeout, timeout, load_timeout, max_concurrent, queue, local, remote, context, can, cannot or transport", name)
	}
}

func parseDuration(d *caddyfile.Dispenser, to *caddy.Duration) error {
	name := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value <= 0 {
		return d.Errf("%s: %q is not a duration such as 30s", name, text)
	}
	*to = caddy.Duration(value.Round(time.Nanosecond))
	return nil
}

func (u *Upstream) parseHeaderUp(d *caddyfile.Dispenser) error {
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

// parseParams reads one parameter from the line, or several from a block.
func (u *Upstream) parseParams(d *caddyfile.Dispenser) error {
	if args := d.RemainingArgs(); len(args) > 0 {
		return u.addParam(d, args)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := u.addParam(d, append([]string{d.Val()}, d.RemainingArgs()...)); err != nil {
			return err
		}
	}
	if len(u.Params) == 0 {
		return d.ArgErr()
	}
	return nil
}

func (u *Upstream) addParam(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 2 {
		return d.Err("params: a name and a value are expected: params temperature 0.2")
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

func (u *Upstream) parseTransport(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(http.RoundTripper); !ok {
		return d.Errf("transport: module %s does not carry requests", name)
	}
	u.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}

// defaultPlaces is the size of a waiting room that nobody configured. Each place may hold a request's body in memory.
const defaultPlaces = 64

func (u *Upstream) parseMaxConcurrent(d *caddyfile.Dispenser) error {
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("max_concurrent: %q is not a whole number of at least 1", text)
	}
	u.MaxConcurrent = n
	return nil
}

func (u *Upstream) parseQueue(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	places, err := strconv.Atoi(args[0])
	if err != nil || places < 0 {
		return d.Errf("queue: %q is not a number of places", args[0])
	}
	u.Queue = &Queue{Places: places}
	if len(args) == 1 {
		return nil
	}
	wait, err := caddy.ParseDuration(args[1])
	if err != nil || wait <= 0 {
		return d.Errf("queue: %q is not a duration such as 30s", args[1])
	}
	u.Queue.LongestWait = caddy.Duration(wait)
	return nil
}

func (u *Upstream) queue() replica.QueueConfig {
	if u.Queue == nil {
		return replica.QueueConfig{Size: defaultPlaces}
	}
	return replica.QueueConfig{Size: u.Queue.Places, MaxWait: time.Duration(u.Queue.LongestWait)}
}
