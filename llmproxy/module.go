// Package llmproxy is the Caddy module http.handlers.llm_proxy: its configuration in JSON and Caddyfile, its life cycle, and
// the few lines of ServeHTTP that hand a request to the gateway.
//
// It decides nothing about a request: gateway does, with the upstreams, models and limits that are built here. It stands on the
// highest floor. Besides it, only admin, telemetry, keystore and state know Caddy.
package llmproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

func init() {
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(admin.API{})
	for _, c := range commands() {
		caddycmd.RegisterCommand(c)
	}
	state.LogRedis()
}

// Handler makes LLM servers and hosted APIs look like one OpenAI-compatible server. Requests to other paths go to the next
// handler.
//
// Without any upstream, it looks for Ollama, vLLM and llama.cpp on their usual ports of this machine, uses OpenAI if
// OPENAI_API_KEY is set, and has a built-in upstream that echoes. The model "auto" is then the first of these that is present.
//
// These placeholders are set after a request, for example for log_append:
//
// Placeholder | Description
// ------------|-------------
// `{llm.request_id}` | The ID of the request, as the client and the upstream got it
// `{llm.key}` | The name of the client's key or user, if any
// `{llm.priority}` | The priority of the key: high, normal or low
// `{llm.endpoint}` | chat, completions, embeddings, …; models for the list of models
// `{llm.model}` | The model that the client asked for
// `{llm.stream}` | Whether the client asked for a stream
// `{llm.target}` | The target that answered, as upstream/model
// `{llm.upstream}` | The upstream of this target
// `{llm.route}` | The model, pattern or route that led to the target; spill, or fallback: and a verdict
// `{llm.attempts}` | The number of attempts
// `{llm.cache}` | What the cache did, if there is one: hit, miss, coalesced or bypass
// `{llm.status}` | The status; 499 if the client disconnected
// `{llm.verdict}` | How the request ended: ok, unreachable, overloaded, …
// `{llm.tokens.input}`, `{llm.tokens.output}`, `{llm.tokens.cached}`, `{llm.tokens.reasoning}` | The tokens that the upstream counted
// `{llm.cost_usd}` | The cost of the answer in US dollars, or 0 if the price is not known
// `{llm.queue_ms}` | The time spent waiting for a slot, in milliseconds
// `{llm.ttft_ms}` | The time to the first content, in milliseconds
// `{llm.duration_ms}` | The time to the end of the answer, in milliseconds
// `{llm.shadow}` | The first shadow route that would have taken the request
// `{llm.local_only}` | Whether the request had to stay on local upstreams
// `{llm.warning}` | truncated, if the upstream silently cut the prompt
// `{llm.prompt_tokens}`, `{llm.messages}`, `{llm.tools}`, `{llm.images}`, `{llm.audio}`, `{llm.files}`, `{llm.json_schema}`, `{llm.max_tokens}`, `{llm.content}` | What the request contains; also for the matchers of routes. After the request, they are set only if the site has an access log, or if they were used before
// `{llm.error.code}`, `{llm.error.type}`, `{llm.error.message}` | The error that the client got
type Handler struct {
	// The servers and services that generate. Default: those that are found, see above.
	Upstreams []*Upstream `json:"upstreams,omitempty"`

	// The names that clients use, and the targets that they lead to. Default: every model of every upstream, under its own name.
	Models []*Model `json:"models,omitempty"`

	// Serve every model that an upstream has under its own name, besides the configured ones. Always on if no model is
	// configured. Default: false.
	Discover bool `json:"discover,omitempty"`

	// The prices of targets, before those of any table. The first that matches applies. Default: none.
	Prices []*Price `json:"prices,omitempty"`

	// Whether requests to which a budget applies may go to targets where their cost cannot be metered, because no price is known for
	// what they use. They then count nothing. Default: false, such requests are refused.
	AllowUnmetered bool `json:"allow_unmetered,omitempty"`

	// A file of prices in the format of LiteLLM's model_prices_and_context_window.json, read when the configuration is
	// loaded. It precedes the built-in table. Default: none.
	PricesFile string `json:"prices_file,omitempty"`

	// The response cache. Default: none.
	Cache *Cache `json:"cache,omitempty"`

	// The maximum size of a request body in bytes, after decompression. Default: 33554432 (32 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// The maximum memory in bytes for all requests together: their bodies, the answers that are held back, and the answers that
	// are being recorded for the cache. All sites of the process are counted together. Requests beyond it wait for up to 10
	// seconds, and are then rejected with status 503 and Retry-After. Stored answers do not count. Default: a quarter of the
	// container's or the machine's memory.
	MaxMemory int64 `json:"max_memory,omitempty"`

	// The maximum time to the first content of an answer (to the end of an answer that is not a stream), over all attempts
	// and the waits between them. Default: none.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// How many characters of the last user message to log. With any number, the log also shows the messages of upstreams'
	// errors, which may quote the prompt. Default: 0, which logs no text of prompts and answers.
	LogPrompts int `json:"log_prompts,omitempty"`

	// The path of the health endpoint: status 200 if a request for at least one model can be served now, else 503; with
	// ?verbose, the models and replicas. This path followed by /live answers 200 as long as the process runs. Default: none.
	Health string `json:"health,omitempty"`

	// Never send requests to an upstream that is not local, whatever fails. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`

	// Never send requests that match one of these sets of matchers to an upstream that is not local. Default: none.
	LocalOnlyMatchRaw caddyhttp.RawMatcherSets `json:"local_only_match,omitempty" caddy:"namespace=http.matchers"`

	// The keys of clients. With at least one key or user, every client needs one. Default: none.
	Keys []*keys.Entry `json:"keys,omitempty"`

	// Users that handlers before this one authenticate, by their {http.auth.user.id}: basic_auth, JWT, or forward_auth with
	// a map. Default: none.
	Users []*keys.Entry `json:"users,omitempty"`

	// A JSON file of more keys, which is read again when it changes. Keys that are created while Caddy runs are written to
	// it. Default: none.
	KeysFile string `json:"keys_file,omitempty"`

	// Require a key even if no key is configured yet. Default: false.
	RequireKey bool `json:"require_key,omitempty"`

	// The rate limits of each client address without a key, such as 10/m. Several apply together. IPv6 addresses are counted
	// by /64. A request with an unknown key counts, too. Default: no limit.
	RateLimit []string `json:"rate_limit,omitempty"`

	// The limits of all requests together. Default: none.
	Limit *SiteLimit `json:"limit,omitempty"`

	// The simplest chat there is, at /chat and /chat/stream. Default: none, these paths belong to the next handler.
	SimpleChat *SimpleChat `json:"simple_chat,omitempty"`

	// Where several Caddys share limits, budgets, keys, usage and the cache. Default: each keeps its own.
	State *State `json:"state,omitempty"`

	gateway  *gateway.Gateway
	observer *telemetry.Observer
	usage    state.UsageLedger
	closer   state.Closer
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_proxy", New: func() caddy.Module { return new(Handler) }}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	task, claim := h.match(r)
	if claim != gateway.Ours {
		if admin.ServeHealth(w, r, h.Health, h.gateway.Status) {
			return nil
		}
		if claim == gateway.NotOurs {
			return next.ServeHTTP(w, r)
		}
		if answered, err := tryNext(w, r, next); answered || err != nil {
			return err
		}
	}
	rec := new(exchange.Record)
	h.closer.Enter()
	defer h.closer.Leave()
	h.observer.Begin(r, rec)
	defer h.observer.End(r, rec)
	h.gateway.Serve(w, r, task, rec)
	return nil
}

// match returns the task of a request, and whose it is. The quota and the status are also found at the path that the client wrote, because
// handle_path /llm/* takes away the beginning of its path. It is not inlined, because its copy of a request would be on the stack of every
// open stream.
//
//go:noinline
func (h *Handler) match(r *http.Request) (gateway.Task, gateway.Claim) {
	task, claim := h.gateway.Match(r)
	if claim == gateway.Ours {
		return task, claim
	}
	original, _ := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if original.URL != nil && (original.URL.Path == access.QuotaPath || original.URL.Path == gateway.StatusPath) {
		task, _ = gateway.TaskOf(original.URL.Path)
		return task, gateway.Ours
	}
	return task, claim
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
