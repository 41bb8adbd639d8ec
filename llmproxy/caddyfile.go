package llmproxy

import (
	"maps"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("llm_proxy", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("llm_proxy", httpcaddyfile.Before, "reverse_proxy")
	subdirectiveNames = map[string][]string{
		"llm_proxy": names(handlerSubdirectives), "upstream": names(upstreamSubdirectives), "model": names(modelSubdirectives),
		"route": names(routeSubdirectives), "cache": names(cacheSubdirectives), "key": names(keySubdirectives),
		"limit": names(limitSubdirectives), "state": names(stateSubdirectives), "price": names(priceSubdirectives),
		"llm_dashboard": names(dashboardSubdirectives),
	}
}

func names[T any](s subdirectives[T]) []string { return slices.Sorted(maps.Keys(s)) }

// UnmarshalCaddyfile parses the directive:
//
//	llm_proxy [<addresses...>] {
//	    upstream <name> <kind> [<addresses...>] {
//	        api_key             <key>
//	        api_version         <version>
//	        insecure_http
//	        header_up           [+|-]<field> [<value> [<replacement>]]
//	        params              <name> <value>
//	        drop                <names...>
//	        api                 native|openai
//	        allow_options       <names...>
//	        dial_timeout        <duration>
//	        first_token_timeout <duration>
//	        idle_timeout        <duration>
//	        timeout             <duration>
//	        answer_timeout      <duration>
//	        load_timeout        <duration>
//	        warm                <models...>
//	        wake                <mac> [<broadcast>]
//	        max_concurrent      <number>
//	        queue               <places> [<longest_wait>]
//	        queue_per_key       <places>
//	        local
//	        remote
//	        context             [<model>] <tokens>
//	        can                 [<model>] <features...>
//	        cannot              [<model>] <features...>
//	        transport           <name> { ... }
//	    }
//	    @<name> <matcher> | { ... }
//	    model <name> <targets...>
//	    model <name> {
//	        to        <targets...>
//	        weight    <numbers...>
//	        lb_policy <policy>
//	        fallback  <targets...>
//	        spill     <duration>
//	        spill_budget <budgets...>
//	        local_only
//	        @<name> <matcher> | { ... }
//	        route [@<name>] <targets...> {
//	            shadow
//	        }
//	        limit     { ... }
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
//	    max_memory <size>
//	    log_prompts [<characters>]
//	    price  <target|model> <input> <output> [<cached>] [instead_of <model>]
//	    price  <target|model> <unit> <usd> [instead_of <model>]
//	    price  <target|model> [<input> <output> [<cached>]] {
//	        input            <usd>
//	        output           <usd>
//	        cached           <usd>
//	        cache_write      <usd>
//	        cache_write_hour <usd>
//	        reasoning        <usd>
//	        audio_input      <usd>
//	        audio_output     <usd>
//	        image_input      <usd>
//	        image_output     <usd>
//	        tier             priority|flex|batch <input> <output> [<cached>]
//	        per_minute       <usd>
//	        per_million_characters <usd>
//	        per_image        <usd>
//	        per_search       <usd>
//	        per_request      <usd>
//	        per_hour         <usd>
//	        instead_of       <model>
//	    }
//	    prices <file>
//	    allow_unmetered
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
//	        weight     <number>
//	        admin
//	        expires    <day|time>
//	        tags       <words...>
//	    }
//	    user <name> { ... }
//	    keys_file   <file>
//	    require_key
//	    rate_limit  <rates...>
//	    limit [<name>] {
//	        rate       <rates...>
//	        tokens     <rates...>
//	        concurrent <number>
//	        budget     <budgets...>
//	    }
//	    state <url> {
//	        tls_trust_pool  <module> ...
//	        tls_client_auth <certificate> <key>
//	        tls_server_name <name>
//	    }
//	    on_state_error allow|deny
//	    simple_chat [<model>]
//	}
//
// An address on the first line is an upstream of kind auto, named after its address.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	p := newDispenser(d)
	p.lines[""] = p.line()
	for _, address := range d.RemainingArgs() {
		p.enter("", "upstream")
		u := &Upstream{Name: hostOf(address), Addresses: []string{address}}
		if err := u.checkAddresses(); err != nil {
			return d.WrapErr(err)
		}
		h.Upstreams = append(h.Upstreams, u)
	}
	p.place = ""
	matchers := namedMatchers{}
	if err := parseBlock(p, "llm_proxy", handlerSubdirectives, h, matchers); err != nil {
		return err
	}
	if err := matchers.resolve(h, p.matchers); err != nil {
		return p.lines.locate(err)
	}
	if err := h.validate(); err != nil {
		return p.lines.locate(err)
	}
	adaptedLines.remember(h, p.lines)
	return nil
}

var handlerSubdirectives = subdirectives[*Handler]{
	"cache":           parseCache,
	"deadline":        func(d *dispenser, h *Handler) error { return parseDuration(d, &h.Deadline) },
	"allow_unmetered": func(d *dispenser, h *Handler) error { return parseFlag(d, &h.AllowUnmetered) },
	"discover":        func(d *dispenser, h *Handler) error { return parseFlag(d, &h.Discover) },
	"health":          parseHealth,
	"key":             parseKey,
	"keys_file":       func(d *dispenser, h *Handler) error { return parseString(d, &h.KeysFile) },
	"limit":           parseSiteLimit,
	"local_only":      parseLocalOnly,
	"log_prompts":     parseLogPrompts,
	"max_body":        func(d *dispenser, h *Handler) error { return parseSize(d, &h.MaxBody) },
	"max_memory":      func(d *dispenser, h *Handler) error { return parseSize(d, &h.MaxMemory) },
	"model":           parseModel,
	"on_state_error":  parseOnStateError,
	"price":           parsePrice,
	"prices":          parsePrices,
	"rate_limit":      parseRateLimit,
	"simple_chat":     parseSimpleChat,
	"require_key":     func(d *dispenser, h *Handler) error { return parseFlag(d, &h.RequireKey) },
	"state":           parseState,
	"upstream":        parseUpstream,
	"user":            parseUser,
}

// defaultLoggedPrompt is the number of characters that log_prompts logs by default.
const defaultLoggedPrompt = 100

func parseLogPrompts(d *dispenser, h *Handler) error {
	h.LogPrompts = defaultLoggedPrompt
	if args := d.RemainingArgs(); len(args) == 1 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > maxLoggedPrompt {
			return d.Errf("log_prompts: invalid number %q; use a number of characters from 1 to %d", args[0], maxLoggedPrompt)
		}
		h.LogPrompts = n
	} else if len(args) > 1 {
		return d.wrongCount("at most one value")
	}
	return nil
}

func parseHealth(d *dispenser, h *Handler) error {
	if err := parseString(d, &h.Health); err != nil {
		return err
	}
	if err := validateHealth(h.Health); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseSimpleChat(d *dispenser, h *Handler) error {
	if h.SimpleChat != nil {
		return d.Err("simple_chat: duplicate line; only one is allowed")
	}
	h.SimpleChat = new(SimpleChat)
	return parseOptional(d, &h.SimpleChat.Model)
}

func parsePrices(d *dispenser, h *Handler) error {
	if h.PricesFile != "" {
		return d.Err("prices: duplicate line; only one file is allowed")
	}
	return parseString(d, &h.PricesFile)
}

// stateOf returns the shared state as parsed so far: state and on_state_error may come in any order.
func stateOf(h *Handler) *State {
	if h.State == nil {
		h.State = new(State)
	}
	return h.State
}

// parseState does not quote the address in errors, because it may contain a password.
func parseState(d *dispenser, h *Handler) error {
	s := stateOf(h)
	args := d.RemainingArgs()
	if len(args) != 1 || s.URL != "" {
		return d.Err("state: use one address, such as redis://10.0.0.3:6379" + d.hintIfFewer(1))
	}
	s.URL = args[0]
	return parseBlock(d, "state", stateSubdirectives, s, nil)
}

// stateSubdirectives are those of the http transport of reverse_proxy.
var stateSubdirectives = subdirectives[*State]{
	"tls_trust_pool": parseTrustPool,
	"tls_client_auth": func(d *dispenser, s *State) error {
		if !d.AllArgs(&s.tls().ClientCertificateFile, &s.tls().ClientCertificateKeyFile) {
			return d.wrongCount("two values")
		}
		return nil
	},
	"tls_server_name": func(d *dispenser, s *State) error { return parseString(d, &s.tls().ServerName) },
}

// tls returns the TLS configuration to parse into.
func (s *State) tls() *reverseproxy.TLSConfig {
	if s.TLS == nil {
		s.TLS = new(reverseproxy.TLSConfig)
	}
	return s.TLS
}

func parseTrustPool(d *dispenser, s *State) error {
	if !d.NextArg() || s.tls().CARaw != nil {
		return d.wrongCount("a source")
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d.Dispenser, "tls.ca_pool.source."+name)
	if err != nil {
		return err
	}
	pool, ok := module.(caddytls.CA)
	if !ok {
		return d.Errf("tls_trust_pool: %s is not a source of certificate authorities", name)
	}
	s.tls().CARaw = caddyconfig.JSONModuleObject(pool, "provider", name, nil)
	return nil
}

func parseOnStateError(d *dispenser, h *Handler) error {
	return parseOneOf(d, &stateOf(h).OnError, onErrorAllow, onErrorDeny)
}

func parseCache(d *dispenser, h *Handler) error {
	if h.Cache != nil {
		return d.Err("cache: duplicate block; only one is allowed")
	}
	h.Cache = new(Cache)
	if err := parseOptional(d, &h.Cache.Name); err != nil {
		return err
	}
	return parseBlock(d, "cache", cacheSubdirectives, h.Cache, nil)
}

var cacheSubdirectives = subdirectives[*Cache]{
	"ttl":                parseTTL,
	"max_size":           func(d *dispenser, c *Cache) error { return parseSize(d, &c.MaxSize) },
	"max_entry":          func(d *dispenser, c *Cache) error { return parseSize(d, &c.MaxEntry) },
	"store":              func(d *dispenser, c *Cache) error { return parseOneOf(d, &c.Store, inMemory, inRedis) },
	"scope":              func(d *dispenser, c *Cache) error { return parseOneOf(d, &c.Scope, scopeKey, scopeSite) },
	"endpoints":          parseCacheEndpoints,
	"deterministic_only": func(d *dispenser, c *Cache) error { return parseFlag(d, &c.DeterministicOnly) },
	"keep_cut":           func(d *dispenser, c *Cache) error { return parseFlag(d, &c.KeepCut) },
	"vary":               func(d *dispenser, c *Cache) error { return parseStrings(d, &c.Vary) },
}

func parseCacheEndpoints(d *dispenser, c *Cache) error {
	if err := parseStrings(d, &c.Endpoints); err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return d.Errf("endpoints: %w", err)
	}
	return nil
}

func parseTTL(d *dispenser, c *Cache) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.wrongCount("one or two values")
	}
	for i, to := range []*caddy.Duration{&c.TTL, &c.MaxTTL}[:len(args)] {
		value, err := caddy.ParseDuration(args[i])
		if err != nil || value <= 0 {
			return d.Errf("ttl: invalid duration %q; use one such as 1h", args[i])
		}
		*to = caddy.Duration(value)
	}
	if c.MaxTTL != 0 && c.MaxTTL < c.TTL {
		return d.Errf("ttl: the maximum, %s, is shorter than the default, %s", args[1], args[0])
	}
	return nil
}
