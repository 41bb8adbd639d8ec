package litellm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
)

// An upstreamBlock is an upstream of the Caddyfile, with the deployments that are there.
type upstreamBlock struct {
	name        string
	server      server
	deployments []*deployment
}

// newUpstreams joins deployments whose servers are equal, and names the upstreams.
func (c *converter) newUpstreams(all []*deployment, s *settings) (blocks []*upstreamBlock) {
	c.limitAddresses(all)
	byServer := map[string]*upstreamBlock{}
	for _, d := range all {
		id := fmt.Sprintf("%q", d.server.identity())
		b := byServer[id]
		if b == nil {
			b = &upstreamBlock{server: d.server}
			byServer[id] = b
			blocks = append(blocks, b)
		}
		b.deployments = append(b.deployments, d)
	}
	taken := map[string]bool{}
	for _, d := range all {
		taken[d.name] = true // a target must not be both a model and an upstream
	}
	for _, a := range s.aliases {
		taken[a[0]] = true
	}
	for _, b := range blocks {
		base := b.server.baseName()
		name := base
		for i := 2; taken[name] || b.isAmbiguous(name, taken); i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		b.name, taken[name] = name, true
		for _, d := range b.deployments {
			d.upstream = name
		}
	}
	return blocks
}

// isAmbiguous reports whether a target at the upstream would also be the name of a model, other than the one that it belongs to.
func (b *upstreamBlock) isAmbiguous(name string, models map[string]bool) bool {
	return slices.ContainsFunc(b.deployments, func(d *deployment) bool {
		target := name + "/" + d.model
		return target != d.name && models[target]
	})
}

// identity returns all that distinguishes a server from others.
func (s server) identity() []string {
	id := []string{s.kind, s.address, s.apiKey, s.apiVersion, s.trust, s.clientCert, s.alone, fmt.Sprint(s.skipVerify, s.timeouts, s.concurrent)}
	for _, pairs := range [][][2]string{s.headers, s.params} {
		id = append(id, fmt.Sprintf("%q", pairs))
	}
	return append(id, fmt.Sprintf("%q", s.drop))
}

// baseName returns what an upstream is called: by its service, or by its host if the service says nothing about it.
func (s server) baseName() string {
	switch s.service {
	case "openai", "custom_openai", "openai_like", "azure", "azure_ai", "litellm_proxy", "text-completion-openai":
		host := hostname(s.address)
		if host == "" || strings.Trim(host, "0123456789.:") == "" || host == "localhost" {
			break
		}
		host = strings.TrimPrefix(strings.TrimPrefix(host, "api."), "www.")
		name, _, _ := strings.Cut(host, ".")
		return cmp.Or(strings.Map(nameRune, name), s.service)
	case "hosted_vllm":
		return "vllm"
	case "ollama_chat":
		return "ollama"
	}
	return strings.Map(nameRune, strings.TrimSuffix(s.service, "_ai"))
}

func nameRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
		return r
	}
	return '-'
}

// limitAddresses adds up the slots of deployments at one address, because slots belong to the address here. If one of them has no limit, the
// address has none.
func (c *converter) limitAddresses(all []*deployment) {
	type sum struct{ slots, limited, all int }
	sums := map[string]*sum{}
	key := func(s server) string { return s.kind + " " + s.address }
	for _, d := range all {
		if sums[key(d.server)] == nil {
			sums[key(d.server)] = &sum{}
		}
		one := sums[key(d.server)]
		one.slots, one.all = one.slots+d.server.concurrent, one.all+1
		if d.server.concurrent > 0 {
			one.limited++
		}
	}
	for _, d := range all {
		if one := sums[key(d.server)]; one.all > 1 && one.limited > 0 {
			const slots = "slots belong to the address of an upstream and are shared by all models there; "
			if one.limited < one.all {
				if d.server.concurrent > 0 {
					c.noteAt(d.at, "max_parallel_requests", Changed, slots+"another deployment there has no limit, so max_concurrent is not set")
				}
				one.slots = 0
			} else {
				c.noteAt(d.at, "max_parallel_requests", Changed, slots+"the limits of the deployments there are added up")
			}
			d.server.concurrent, d.server.alone = one.slots, ""
		}
	}
}

// write writes the upstream.
func (b *upstreamBlock) write(to *draft.Block) {
	s := b.server
	words := []string{"upstream", b.name, s.kind}
	if s.address != "" {
		words = append(words, s.address)
	}
	if s.kind == "ollama" && s.concurrent == 0 {
		to.Comment("It gets one request at a time, as Ollama does by default. If its OLLAMA_NUM_PARALLEL is larger, write it as max_concurrent.")
	}
	block := to.Block(words...)
	line := func(name, value string) {
		if value != "" {
			block.Line(name, value)
		}
	}
	line("api_key", s.apiKey)
	line("api_version", s.apiVersion)
	if s.insecure {
		block.Line("insecure_http")
	}
	for _, h := range s.headers {
		block.Line("header_up", h[0], h[1])
	}
	for _, p := range s.params {
		block.Line("params", p[0], unquoted(p[1]))
	}
	if len(s.drop) > 0 {
		block.Line(append([]string{"drop"}, s.drop...)...)
	}
	s.timeouts.write(block)
	if s.concurrent > 0 {
		block.Line("max_concurrent", fmt.Sprint(s.concurrent))
	}
	b.writeCapabilities(block)
	if (s.skipVerify || s.trust != "" || s.clientCert != "") && !strings.HasPrefix(s.address, "http://") {
		transport := block.Block("transport", "http")
		if s.skipVerify {
			transport.Line("tls_insecure_skip_verify")
		}
		if s.trust != "" {
			transport.Line("tls_trust_pool", "file", s.trust)
		}
		if s.clientCert != "" {
			transport.Line("tls_client_auth", s.clientCert, s.clientCert)
		}
	}
}

// unquoted returns a value of `params` as a person writes it: a text without quotes, unless it would be JSON then.
func unquoted(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) != nil || text == "" || json.Valid([]byte(text)) {
		return value
	}
	return text
}

// write writes the timeouts. LiteLLM does not end a stream that sends something, however long it is.
func (t timeouts) write(to *draft.Block) {
	stream := cmp.Or(t.stream, t.whole)
	if first := cmp.Or(t.first, stream); first > 0 {
		to.Line("first_token_timeout", short(first))
	}
	if idle := cmp.Or(t.idle, stream); idle > 0 {
		to.Line("idle_timeout", short(idle))
	}
	if t.whole > 0 {
		to.Line("answer_timeout", short(t.whole))
	}
}

// short returns a duration as a person writes it.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// writeCapabilities writes what is known of the models. Of several deployments of one model, the first one counts.
func (b *upstreamBlock) writeCapabilities(to *draft.Block) {
	var seen []string
	for _, d := range b.deployments {
		if strings.Contains(d.model, "*") || slices.Contains(seen, d.model) {
			continue
		}
		seen = append(seen, d.model)
		if d.context > 0 {
			to.Line("context", d.model, fmt.Sprint(d.context))
		}
		if len(d.can) > 0 {
			to.Line(append([]string{"can", d.model}, d.can...)...)
		}
		if len(d.cannot) > 0 {
			to.Line(append([]string{"cannot", d.model}, d.cannot...)...)
		}
	}
}
