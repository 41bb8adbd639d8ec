package llmproxy

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("llm_proxy", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("llm_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// UnmarshalCaddyfile reads the directive:
//
//	llm_proxy [<addresses...>] {
//	    upstream <name> <kind> [<addresses...>] {
//	        api_key             <key>
//	        header_up           [+|-]<field> [<value> [<replacement>]]
//	        params              <name> <value>
//	        drop                <names...>
//	        dial_timeout        <duration>
//	        first_token_timeout <duration>
//	        idle_timeout        <duration>
//	        timeout             <duration>
//	        load_timeout        <duration>
//	        max_concurrent      <number>
//	        queue               <places> [<longest_wait>]
//	        local | remote
//	        context             [<model>] <tokens>
//	        can                 [<model>] <abilities...>
//	        cannot              [<model>] <abilities...>
//	        transport           <name> { ... }
//	    }
//	    @<name> <matcher> | { ... }
//	    model <name> <targets...>
//	    model <name> {
//	        to        <targets...>
//	        weight    <numbers...>
//	        lb_policy <policy>
//	        fallback  <targets...>
//	        local_only
//	        @<name> <matcher> | { ... }
//	        route [@<name>] <targets...> {
//	            shadow
//	        }
//	        limit     { rate, tokens, concurrent, budget }
//	    }
//	    cache [<name>] {
//	        store              memory|redis
//	        ttl                <duration> [<longest>]
//	        max_size           <size>
//	        max_entry          <size>
//	        scope              key|site
//	        endpoints          <names...>
//	        deterministic_only
//	        keep_cut
//	        vary               <headers...>
//	    }
//	    local_only [@<names...>]
//	    discover
//	    max_body <size>
//	    log_prompts [<characters>]
//	    price  <target|model> <input> <output> [<cached>] [instead_of <model>]
//	    price  <target|model> per_hour <usd> [instead_of <model>]
//	    prices <file>
//	    deadline <duration>
//	    health <path>
//	    key <name> <secret|sha256:hex> {
//	        models     <names...>
//	        rate       <rates...>
//	        tokens     <rates...>
//	        concurrent <number>
//	        budget     <budgets...>
//	        local_only
//	        priority   high|normal|low
//	        expires    <day|time>
//	        tags       <words...>
//	    }
//	    user <name> { ... }
//	    keys_file   <file>
//	    require_key
//	    rate_limit  <rates...>
//	    limit [<name>] {
//	        rate, tokens, concurrent, budget
//	    }
//	    state <url> {
//	        tls_trust_pool  <module> ...
//	        tls_client_auth <certificate> <key>
//	        tls_server_name <name>
//	    }
//	    on_state_error allow|deny
//	}
//
// An address of the first line is an upstream of kind auto, named by its address.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	for _, address := range d.RemainingArgs() {
		u := &Upstream{Name: nameOf(address), Addresses: []string{address}}
		if err := u.checkAddresses(); err != nil {
			return d.WrapErr(err)
		}
		h.Upstreams = append(h.Upstreams, u)
	}
	for d.NextBlock(0) {
		if err := h.subdirective(d); err != nil {
			return err
		}
	}
	return h.resolveMatchers(d)
}

// subdirectives reads each of the directive's subdirectives; its name was just read.
var subdirectives = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"cache":          (*Handler).parseCache,
	"deadline":       (*Handler).parseDeadline,
	"discover":       (*Handler).parseDiscover,
	"health":         (*Handler).parseHealth,
	"key":            (*Handler).parseKey,
	"keys_file":      (*Handler).parseKeysFile,
	"limit":          (*Handler).parseLimit,
	"local_only":     (*Handler).parseLocalOnly,
	"log_prompts":    (*Handler).parseLogPrompts,
	"max_body":       (*Handler).parseMaxBody,
	"model":          (*Handler).parseModel,
	"on_state_error": (*Handler).parseOnStateError,
	"price":          (*Handler).parsePrice,
	"prices":         (*Handler).parsePrices,
	"rate_limit":     (*Handler).parseRateLimit,
	"require_key":    (*Handler).parseRequireKey,
	"state":          (*Handler).parseState,
	"upstream":       (*Handler).parseUpstream,
	"user":           (*Handler).parseUser,
}

func (h *Handler) subdirective(d *caddyfile.Dispenser) error {
	if read := subdirectives[d.Val()]; read != nil {
		return read(h, d)
	}
	if strings.HasPrefix(d.Val(), "@") {
		return parseMatcher(d, &h.named)
	}
	return d.Errf("unknown subdirective %q of llm_proxy: expected one of %s", d.Val(), strings.Join(slices.Sorted(maps.Keys(subdirectives)), ", "))
}

func (h *Handler) parseDiscover(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	h.Discover = true
	return nil
}

func (h *Handler) parseMaxBody(d *caddyfile.Dispenser) error {
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > math.MaxInt64 {
		return d.Errf("max_body: %q is not a size such as 32MiB", text)
	}
	h.MaxBody = int64(size)
	return nil
}

// promptsDefault is how many characters of a prompt log_prompts alone shows.
const promptsDefault = 100

// promptsMost bounds what of a prompt the log may show.
const promptsMost = 10000

func (h *Handler) parseLogPrompts(d *caddyfile.Dispenser) error {
	h.LogPrompts = promptsDefault
	if args := d.RemainingArgs(); len(args) == 1 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > promptsMost {
			return d.Errf("log_prompts: %q is not a number of characters from 1 to %d", args[0], promptsMost)
		}
		h.LogPrompts = n
	} else if len(args) > 1 {
		return d.ArgErr()
	}
	return nil
}

func (h *Handler) parseUpstream(d *caddyfile.Dispenser) error {
	u, err := parseUpstream(d)
	h.Upstreams = append(h.Upstreams, u)
	return err
}

func (h *Handler) parseModel(d *caddyfile.Dispenser) error {
	m, err := parseModel(d)
	h.Models = append(h.Models, m)
	return err
}

func (h *Handler) parseDeadline(d *caddyfile.Dispenser) error { return parseDuration(d, &h.Deadline) }

func (h *Handler) parsePrices(d *caddyfile.Dispenser) error {
	if h.PricesFile != "" {
		return d.Err("prices: one file is read; it stands in another line already")
	}
	if !d.AllArgs(&h.PricesFile) {
		return d.ArgErr()
	}
	return nil
}

const priceForm = "price: a model and what a million input and output tokens cost are expected, or what an hour costs: " +
	"price gpt-4o 2.50 10, price gpu/* per_hour 0.12"

// parsePrice reads a line of prices.
func (h *Handler) parsePrice(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	p := new(Price)
	if n := len(args); n >= 2 && args[n-2] == "instead_of" {
		p.InsteadOf, args = args[n-1], args[:n-2]
	}
	if len(args) < 3 || len(args) > 4 || len(args) == 4 && args[1] == "per_hour" {
		return d.Err(priceForm)
	}
	p.Model = args[0]
	var figures []*float64
	if args[1] == "per_hour" {
		figures, args = []*float64{&p.PerHour}, args[2:]
	} else {
		p.Cached = new(float64)
		figures, args = []*float64{&p.Input, &p.Output, p.Cached}, args[1:]
	}
	for i, arg := range args {
		usd, err := strconv.ParseFloat(strings.TrimPrefix(arg, "$"), 64)
		if err != nil || usd < 0 || math.IsInf(usd, 0) || math.IsNaN(usd) {
			return d.Errf("price: %q is not a price in US dollars", arg)
		}
		*figures[i] = usd
	}
	if len(args) < 3 {
		p.Cached = nil
	}
	h.Prices = append(h.Prices, p)
	return nil
}

// parseState never puts the address into an error: it may hold a password.
func (h *Handler) parseState(d *caddyfile.Dispenser) error {
	s := h.state()
	if args := d.RemainingArgs(); len(args) == 1 && s.URL == "" {
		s.URL = args[0]
	} else {
		return d.Err("state: one address is needed, such as redis://10.0.0.3:6379")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if s.TLS == nil {
			s.TLS = new(reverseproxy.TLSConfig)
		}
		if err := parseStateTLS(d, s.TLS); err != nil {
			return err
		}
	}
	return nil
}

// parseStateTLS reads a line that reverse_proxy has, too.
func parseStateTLS(d *caddyfile.Dispenser, c *reverseproxy.TLSConfig) error {
	switch d.Val() {
	case "tls_trust_pool":
		if !d.NextArg() || c.CARaw != nil {
			return d.ArgErr()
		}
		name := d.Val()
		module, err := caddyfile.UnmarshalModule(d, "tls.ca_pool.source."+name)
		if err != nil {
			return err
		}
		pool, ok := module.(caddytls.CA)
		if !ok {
			return d.Errf("tls_trust_pool: %s is no source of authorities", name)
		}
		c.CARaw = caddyconfig.JSONModuleObject(pool, "provider", name, nil)
	case "tls_client_auth":
		if !d.AllArgs(&c.ClientCertificateFile, &c.ClientCertificateKeyFile) {
			return d.ArgErr()
		}
	case "tls_server_name":
		if !d.AllArgs(&c.ServerName) {
			return d.ArgErr()
		}
	default:
		return d.Errf("unknown subdirective %q of state: expected tls_trust_pool, tls_client_auth or tls_server_name", d.Val())
	}
	return nil
}

// state is the shared state as configured so far: its lines may come in any order.
func (h *Handler) state() *State {
	if h.State == nil {
		h.State = new(State)
	}
	return h.State
}

func (h *Handler) parseOnStateError(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&h.state().OnError) {
		return d.ArgErr()
	}
	if what := h.State.OnError; what != onErrorAllow && what != onErrorDeny {
		return d.Errf("on_state_error: %q is neither allow nor deny", what)
	}
	return nil
}

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
		if _, ok := router.ParseFeature(args[0]); !ok {
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

func (h *Handler) parseCache(d *caddyfile.Dispenser) error {
	if h.Cache != nil {
		return d.Err("cache: it stands in another line already")
	}
	h.Cache = new(Cache)
	if d.NextArg() {
		h.Cache.Name = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := h.Cache.subdirective(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "ttl":
		return c.parseTTL(d)
	case "max_size":
		return parseSize(d, &c.MaxSize)
	case "max_entry":
		return parseSize(d, &c.MaxEntry)
	case "store":
		return oneOf(d, &c.Store, inMemory, inRedis)
	case "scope":
		return oneOf(d, &c.Scope, scopeKey, scopeSite)
	case "endpoints":
		return c.parseEndpoints(d)
	case "deterministic_only":
		return parseFlag(d, &c.DeterministicOnly)
	case "keep_cut":
		return parseFlag(d, &c.KeepCut)
	case "vary":
		names := d.RemainingArgs()
		if len(names) == 0 {
			return d.ArgErr()
		}
		c.Vary = append(c.Vary, names...)
		return nil
	default:
		return d.Errf("unknown subdirective %q of cache: expected store, ttl, max_size, max_entry, scope, endpoints, deterministic_only, keep_cut or vary", name)
	}
}

func (c *Cache) parseTTL(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	for i, to := range []*caddy.Duration{&c.TTL, &c.MaxTTL}[:len(args)] {
		value, err := caddy.ParseDuration(args[i])
		if err != nil || value <= 0 {
			return d.Errf("ttl: %q is not a duration such as 1h", args[i])
		}
		*to = caddy.Duration(value)
	}
	if c.MaxTTL != 0 && c.MaxTTL < c.TTL {
		return d.Errf("ttl: the longest time, %s, is shorter than the usual one, %s", args[1], args[0])
	}
	return nil
}

func (c *Cache) parseEndpoints(d *caddyfile.Dispenser) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.ArgErr()
	}
	for _, name := range names {
		if !slices.Contains(cacheableEndpoints, name) {
			return d.Errf("endpoints: answers of %q are not kept; expected %s", name, strings.Join(cacheableEndpoints, ", "))
		}
	}
	c.Endpoints = append(c.Endpoints, names...)
	return nil
}

func parseSize(d *caddyfile.Dispenser, to *int64) error {
	name := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<50 {
		return d.Errf("%s: %q is not a size such as 32MiB", name, text)
	}
	*to = int64(size)
	return nil
}

func oneOf(d *caddyfile.Dispenser, to *string, words ...string) error {
	name := d.Val()
	if !d.AllArgs(to) {
		return d.ArgErr()
	}
	if !slices.Contains(words, *to) {
		return d.Errf("%s: %q is not one of %s", name, *to, strings.Join(words, ", "))
	}
	return nil
}

func parseFlag(d *caddyfile.Dispenser, to *bool) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	*to = true
	return nil
}
