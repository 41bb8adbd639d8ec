package llmproxy

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

func init() {
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(new(MatchLLM))
	caddy.RegisterModule(admin.API{})
	for _, c := range admin.Commands() {
		caddycmd.RegisterCommand(c)
	}
	state.LogRedis()
}

// Handler makes LLM servers and hosted APIs look like one OpenAI-compatible server. Paths that are not an API's go to the
// next handler.
//
// Without any upstream it looks for Ollama, vLLM and llama.cpp on their usual ports of this machine, takes OpenAI if
// OPENAI_API_KEY is set, and has a built-in upstream that echoes; the model "auto" is then the first of these that is there.
//
// These placeholders are there once the request was served, for log_append for one:
//
// Placeholder | Description
// ------------|-------------
// `{llm.request_id}` | The request's id, as the client got it and the upstream was sent it
// `{llm.key}` | The name of the key or user that called; empty for anybody
// `{llm.priority}` | The key's priority: high, normal or low
// `{llm.endpoint}` | chat, completions, embeddings, …; models for the list
// `{llm.model}` | The model as the client asked for it
// `{llm.stream}` | Whether it asked for a stream
// `{llm.target}` | What answered: upstream/model
// `{llm.upstream}` | The upstream of it
// `{llm.route}` | The model or pattern that led there, or fallback: and a verdict
// `{llm.attempts}` | How many attempts were made
// `{llm.cache}` | What the cache did: hit, miss, coalesced, bypass; empty without one
// `{llm.status}` | The status; 499 if the client left
// `{llm.verdict}` | How the request ended: ok, unreachable, overloaded, …
// `{llm.tokens.input}`, `{llm.tokens.output}`, `{llm.tokens.cached}`, `{llm.tokens.reasoning}` | What the upstream counted
// `{llm.cost_usd}` | What the answer costs in US dollars; 0 where that is not known
// `{llm.queue_ms}` | The time spent waiting for a slot, in milliseconds
// `{llm.ttft_ms}` | The time to the first content, in milliseconds
// `{llm.duration_ms}` | The time to the end, in milliseconds
// `{llm.shadow}` | The first rule that is only tried out and would have taken the request
// `{llm.local_only}` | Whether it was not to leave for an upstream that is not local
// `{llm.warning}` | truncated, where the prompt was cut without a word
// `{llm.prompt_tokens}`, `{llm.messages}`, `{llm.tools}`, `{llm.images}`, `{llm.audio}`, `{llm.files}`, `{llm.json_schema}`, `{llm.max_tokens}`, `{llm.content}` | What the request says of itself; for the matchers of routes, too. Behind the end of a request only where the site has an access log, or what was asked for before
// `{llm.error.code}`, `{llm.error.type}`, `{llm.error.message}` | The error that the client was told
type Handler struct {
	// Servers and services that generate.
	Upstreams []*Upstream `json:"upstreams,omitempty"`

	// Names that clients use, and where they lead.
	Models []*Model `json:"models,omitempty"`

	// Serve every model that an upstream has under its own name, besides the configured ones. Always so where no
	// model is configured. Default: false.
	Discover bool `json:"discover,omitempty"`

	// What targets cost, before all tables; the first line that matches counts.
	Prices []*Price `json:"prices,omitempty"`

	// A file of prices in the shape of LiteLLM's model_prices_and_context_window.json, read when the configuration is
	// loaded. It goes before the built-in table. Default: none.
	PricesFile string `json:"prices_file,omitempty"`

	// Keeps answers and gives them to whoever asks the same again. Default: none.
	Cache *Cache `json:"cache,omitempty"`

	// The largest request body, in bytes, after decompression. Default: 33554432 (32 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// The longest time to the first content of an answer (to the end of one that is no stream), over all attempts and the waits
	// between them. Default: none.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// How many characters of the last user message stand in the log, with the words of upstreams' errors, which may quote
	// it. Default: 0, nothing that was said is logged.
	LogPrompts int `json:"log_prompts,omitempty"`

	// A path that tells whether a request for at least one model can be served now: status 200, else 503; with ?verbose the
	// models and replicas. The path with /live after it answers 200 as long as the process runs. Default: none.
	Health string `json:"health,omitempty"`

	// Requests never leave for an upstream that is not local, whatever fails. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`

	// Requests that match one of these sets of matchers never leave for an upstream that is not local. Default: none.
	LocalOnlyMatchRaw caddyhttp.RawMatcherSets `json:"local_only_match,omitempty" caddy:"namespace=http.matchers"`

	// Clients' keys. With one key, or user, nobody may call without.
	Keys []*keys.Entry `json:"keys,omitempty"`

	// Users that other handlers make sure of before this one, by their {http.auth.user.id}: basic_auth, JWT, and forward_auth with a map.
	Users []*keys.Entry `json:"users,omitempty"`

	// A file of more keys, in JSON, which is read again when it has changed. Keys that are made while Caddy runs are written
	// into it. Default: none.
	KeysFile string `json:"keys_file,omitempty"`

	// Nobody may call without a key, even while there is none yet. Default: false.
	RequireKey bool `json:"require_key,omitempty"`

	// Requests of callers without a key for each client address, such as 10/m; several all apply. IPv6 addresses count by
	// their /64. A key that is not known counts, too. Default: no limit.
	RateLimit []string `json:"rate_limit,omitempty"`

	// Limits of all requests together. Default: none.
	Limit *SiteLimit `json:"limit,omitempty"`

	// Where limits, budgets, keys and usage are kept for more than one Caddy. Default: on this machine.
	State *State `json:"state,omitempty"`

	ctx         caddy.Context
	logger      *zap.Logger
	gateway     *gateway.Gateway
	events      *caddyevents.App
	observer    *telemetry.Observer
	redisClient redis.UniversalClient
	used        state.UsageLedger

	named     map[string]caddy.ModuleMap // matchers of the Caddyfile's block
	localOnly caddyhttp.MatcherSets
	closer    state.Closer
	drain     context.CancelFunc
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_proxy", New: func() caddy.Module { return new(Handler) }}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
