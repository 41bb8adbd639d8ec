package llmproxy

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
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
