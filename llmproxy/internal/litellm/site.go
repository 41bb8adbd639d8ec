package litellm

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// write writes the whole Caddyfile but its head.
func (c *converter) write(site string, upstreams []*upstreamBlock, models []*modelBlock, s *settings) *draft.Block {
	file, inside, proxy := new(draft.Block), new(draft.Block), new(draft.Block)
	callbacks := c.callbacks(s.litellm)
	if s.general.flag("use_x_forwarded_for") {
		c.note(s.general, "use_x_forwarded_for", Changed, "the header of private addresses is trusted; name the proxy in `trusted_proxies` if it has a public one")
		file.Block().Block("servers").Line("trusted_proxies", "static", "private_ranges")
		file.Gap()
	}
	keyHeader := s.general.text("litellm_key_header_name")
	c.writeLog(inside, s.litellm, keyHeader)
	if slices.Contains(callbacks, "otel") {
		inside.Block("tracing").Line("span", "llm_proxy")
	}
	if slices.Contains(callbacks, "prometheus") {
		inside.Comment("The metrics of llm_proxy have names of their own. Let only Prometheus reach them.")
		inside.Line("metrics", "/metrics")
		inside.Gap()
	}
	c.writeAccess(inside, s.general, keyHeader)
	writePaths(inside, s.general)
	c.writePassThrough(inside, s.general)

	for _, b := range upstreams {
		b.write(proxy)
	}
	proxy.Gap()
	for _, b := range models {
		b.write(proxy)
	}
	if len(models) == 0 {
		proxy.Comment("No model is left. Write an upstream and a model; until then, nobody has a key.")
		proxy.Line("require_key")
	}
	proxy.Gap()
	c.writeKey(proxy, s.general)
	c.writeLimits(proxy, s)
	proxy.Gap()
	c.writeCache(proxy, s.litellm)
	writePrices(proxy, upstreams)
	if mb, ok := s.general.number("max_request_size_mb"); ok && mb > 0 {
		proxy.Line("max_body", fmt.Sprintf("%dMiB", max(int(min(mb, 1<<20)), 1)))
	}
	proxy.Line("health", "/health")

	inside.Gap()
	*inside.Block("llm_proxy") = *proxy
	*file.Block(site) = *inside
	return file
}

// callbacks returns what is to be reported to, and reports callbacks that have no counterpart.
func (c *converter) callbacks(s *section) (found []string) {
	for _, key := range []string{"callbacks", "success_callback", "failure_callback", "service_callback", "service_callbacks"} {
		for _, name := range s.texts(key) {
			switch name {
			case "prometheus", "otel":
				found = append(found, name)
			default:
				c.note(s, key, Ignored, "%s has no counterpart; the access log, `metrics` and `tracing` of Caddy have what callbacks report", plainName(name))
			}
		}
	}
	return found
}

// writeLog writes the access log, without the headers in which clients send keys.
func (c *converter) writeLog(to *draft.Block, s *section, keyHeader string) {
	for _, key := range []string{"turn_off_message_logging", "redact_messages_in_exceptions", "redact_user_api_key_info", "check_provider_endpoint", "forward_traceparent_to_llm_provider"} {
		s.flag(key) // always so
	}
	if !s.flag("json_logs") {
		return
	}
	filter := to.Block("log").Block("format", "filter")
	filter.Line("wrap", "json")
	for _, name := range []string{"X-Api-Key", "Api-Key", keyHeader} {
		if name != "" {
			filter.Line("request>headers>"+name, "delete")
		}
	}
	to.Gap()
}

// writeAccess writes from where clients may come, and where their key is.
func (c *converter) writeAccess(to *draft.Block, s *section, keyHeader string) {
	if allowed := s.texts("allowed_ips"); len(allowed) > 0 {
		to.Line(append([]string{"@not_allowed", "not", "client_ip"}, allowed...)...)
		to.Line("respond", "@not_allowed", "403")
		to.Gap()
	}
	switch {
	case keyHeader == "" || strings.EqualFold(keyHeader, "Authorization") || strings.EqualFold(keyHeader, "X-Api-Key"):
	case headerName.MatchString(keyHeader):
		to.Comment("Clients may send their key in this header, as Bearer KEY.")
		to.Line("@key_header", "header", keyHeader, "*")
		to.Line("request_header", "@key_header", "Authorization", "{header."+keyHeader+"}")
		to.Gap()
	default:
		c.note(s, "litellm_key_header_name", Ignored, "this is no name of a header")
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// withoutV1 are the paths at which LiteLLM serves OpenAI's API besides those below /v1.
var withoutV1 = []string{"/chat/completions", "/completions", "/embeddings", "/models", "/models/*", "/moderations", "/rerank", "/responses", "/audio/*", "/images/*"}

// writePaths writes the paths that LiteLLM has besides those of OpenAI, without those of pass-through endpoints.
func writePaths(to *draft.Block, s *section) {
	paths := slices.Clone(withoutV1)
	if f := s.find("pass_through_endpoints"); f != nil {
		for _, e := range f.value.list {
			if own := e.find("path"); own != nil {
				paths = slices.DeleteFunc(paths, func(p string) bool { return p == own.value.text })
			}
		}
	}
	to.Comment("LiteLLM answers without /v1, too.")
	to.Line(append([]string{"@without_v1", "path"}, paths...)...)
	to.Line("rewrite", "@without_v1", "/v1{uri}")
	to.Line("rewrite", "/health/liveliness", "/health/live")
	to.Line("rewrite", "/health/liveness", "/health/live")
	to.Line("rewrite", "/health/readiness", "/health")
	to.Gap()
}

// writePassThrough writes the endpoints whose requests go to another server as they are.
func (c *converter) writePassThrough(to *draft.Block, s *section) {
	v := s.take("pass_through_endpoints")
	if v == nil {
		return
	}
	if v.kind != list {
		s.wrongType("pass_through_endpoints", "a list")
		return
	}
	for i, item := range v.list {
		e := c.section(item, fmt.Sprintf("%s[%d]", s.pathOf("pass_through_endpoints"), i), "pass_through")
		path, target := e.text("path"), e.text("target")
		u, err := url.Parse(target)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" ||
			!strings.HasPrefix(path, "/") || strings.ContainsAny(path, "*{}`\" \t\r\n") {
			c.noteAt(e.at, e.path, Ignored, "a path that begins with / and a target that is the URL of a server are needed")
			continue
		}
		matcher := fmt.Sprintf("@pass_through_%d", i+1)
		paths := []string{"path", path}
		if e.flag("include_subpath") {
			paths = append(paths, strings.TrimRight(path, "/")+"/*")
		}
		if methods := e.texts("methods"); len(methods) > 0 {
			m := to.Block(matcher)
			m.Line(paths...)
			m.Line(append([]string{"method"}, methods...)...)
		} else {
			to.Line(append([]string{matcher}, paths...)...)
		}
		handle := to.Block("handle", matcher)
		if at := strings.TrimRight(u.Path, "/"); at != strings.TrimRight(path, "/") {
			handle.Line("uri", "path_regexp", "^"+regexp.QuoteMeta(strings.TrimRight(path, "/")), at)
		}
		proxy := handle.Block("reverse_proxy", u.Scheme+"://"+u.Host)
		proxy.Line("header_up", "Host", "{upstream_hostport}")
		headers := c.headers(e, "headers")
		if !e.flag("forward_headers") {
			for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "Cookie"} {
				if !slices.ContainsFunc(headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) }) {
					proxy.Line("header_up", "-"+name)
				}
			}
		}
		for _, h := range headers {
			proxy.Line("header_up", h[0], h[1])
		}
		to.Gap()
	}
}

// writeKey writes the key that LiteLLM calls the master key. One that is written out is hashed.
func (c *converter) writeKey(to *draft.Block, s *section) {
	v := s.take("master_key")
	switch {
	case v == nil:
		c.noteAt(c.at, "general_settings.master_key", Changed,
			"the YAML has none, so everybody who reaches the site may use it; if LiteLLM gets it from its environment, remove the # before `key master`")
		to.Comment("key master {env.LITELLM_MASTER_KEY}")
	case environ.MatchString(v.text):
		to.Line("key", "master", s.placeholders("master_key", v.text))
	case len(v.text) < 4 || v.kind == list || v.kind == object:
		c.note(s, "master_key", Ignored, "it is too short for a key; create one with `caddy llm-key create`")
		to.Line("require_key")
	default:
		to.Comment("The digest of LiteLLM's master key: clients may go on using it.")
		to.Line("key", "master", keys.Digest(v.text))
	}
}

// writeLimits writes the limits of all requests together.
func (c *converter) writeLimits(to *draft.Block, s *settings) {
	limit := new(draft.Block)
	concurrent := s.general.count("global_max_parallel_requests")
	if concurrent == 0 {
		concurrent = s.litellm.count("max_parallel_requests")
	}
	if concurrent > 0 {
		limit.Line("concurrent", fmt.Sprint(concurrent))
	}
	usdLimit, ok := s.litellm.number("max_budget")
	window := s.litellm.text("budget_duration")
	if ok && usdLimit > 0 {
		switch span, valid := budgetWindow(window); {
		case !valid:
			c.note(s.litellm, "budget_duration", Ignored, "the duration is not understood; write a budget such as $20/30d")
		case window == "":
			c.note(s.litellm, "max_budget", Changed, "LiteLLM has no end of the budget without budget_duration; here, it is for 400 days, the longest window")
			limit.Line("budget", "$"+usd(usdLimit)+"/"+span)
		default:
			limit.Line("budget", "$"+usd(usdLimit)+"/"+span)
		}
	}
	if limit.Empty() {
		return
	}
	*to.Block("limit") = *limit
	if ok && usdLimit > 0 {
		to.Comment("LiteLLM counts what has no known price as free.")
		to.Line("allow_unmetered")
	}
}

var duration = regexp.MustCompile(`^([1-9][0-9]{0,3})(s|m|h|d|w|mo)$`)

// budgetWindow returns a duration of LiteLLM as the window of a budget.
func budgetWindow(text string) (window string, ok bool) {
	if text == "" {
		return "400d", true
	}
	m := duration.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	var n int
	fmt.Sscan(m[1], &n)
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "mo": 30 * 24 * time.Hour}[m[2]]
	span := time.Duration(n) * unit
	switch {
	case text == "1mo":
		return "month", true
	case span < time.Hour || span > 400*24*time.Hour:
		return "", false
	case span%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", span/(24*time.Hour)), true
	}
	return fmt.Sprintf("%ds", span/time.Second), true
}

// writePrices writes a line for each model whose price the YAML has.
func writePrices(to *draft.Block, upstreams []*upstreamBlock) {
	to.Gap()
	var seen []string
	for _, b := range upstreams {
		for _, d := range b.deployments {
			target := b.name + "/" + d.model
			if !d.price.set || slices.Contains(seen, target) {
				continue
			}
			seen = append(seen, target)
			words, lines := d.price.words(target)
			block := to.Block(words...)
			for _, l := range lines {
				block.Line(l[0], l[1])
			}
		}
	}
	to.Gap()
}
