package llmproxy

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// An Upstream is a server or service that generates.
type Upstream struct {
	// The name by which targets and headers call it. No slash, asterisk or white space.
	Name string `json:"name"`

	// What it speaks: ollama, vllm, llamacpp, openai (every OpenAI-compatible service), echo, or auto to find out by asking.
	// Default: auto.
	Kind string `json:"kind,omitempty"`

	// Its replicas. Without a scheme they are http, without a path their base is /v1. Global placeholders such as
	// {env.OLLAMA_URL} are replaced when the configuration is loaded. Default: the service's own for openai; echo has none, and
	// other kinds need one.
	Addresses []string `json:"addresses,omitempty"`

	// Sent as a bearer token. Global placeholders such as {env.OPENAI_API_KEY} are replaced when the configuration is
	// loaded. Default: none.
	APIKey string `json:"api_key,omitempty"`

	// Changes of the headers of requests to it. A client's own headers are sent by an allow-list only.
	Headers *headers.HeaderOps `json:"headers,omitempty"`

	// Members that are added to a request's JSON where the client did not send them.
	Params map[string]json.RawMessage `json:"params,omitempty"`

	// Members that are taken out of a request's JSON, also those that were added.
	Drop []string `json:"drop,omitempty"`

	// How connections are made: any module of http.reverse_proxy.transport. Default: a lean client for http://, and
	// Caddy's http transport for https://.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// The longest wait for a connection. Not for a transport of your own, which has its own. Default: 3s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// The longest wait for the first content of a stream. Default: 30s while another target is left, else 5m.
	FirstTokenTimeout caddy.Duration `json:"first_token_timeout,omitempty"`

	// The longest silence between two events of a stream. Default: 60s.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// The longest time of an attempt. Default: none for streams, 10m for other answers.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The longest wait for a model that is loading, where no other target is left. The load goes on when the client that asked
	// has left. Default: 5m.
	LoadTimeout caddy.Duration `json:"load_timeout,omitempty"`

	// How many requests may be at one replica at once, over all names and handlers. Default: 1 for ollama (its own
	// OLLAMA_NUM_PARALLEL), as many as it has slots for llamacpp, no limit for other kinds.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// Whether it runs on machines of one's own, so that requests that must stay local may go there. Default: true for
	// ollama, vllm, llamacpp and echo, false for others, and for auto until it is found to be one of these.
	Local *bool `json:"local,omitempty"`

	Limits

	// The limits of single models, by the model's name there. They go before those of the upstream.
	ModelLimits map[string]*Limits `json:"model_limits,omitempty"`

	// Where requests wait for one of these slots, first come, first served within the priority of their keys. Default: 64 places.
	Queue *Queue `json:"queue,omitempty"`
}

// Limits say what a model can take. They go before what the server tells.
type Limits struct {
	// How many tokens prompt and answer may have together. Default: what vLLM, llama.cpp and Ollama tell, and what
	// errors told.
	Context int `json:"context,omitempty"`

	// What it can: tools, images, audio, json_schema. Default: everything, unless llama.cpp or Ollama tells otherwise.
	Can []string `json:"can,omitempty"`

	// What it cannot, by the same names.
	Cannot []string `json:"cannot,omitempty"`
}

// A Queue is the waiting room of each replica of an upstream.
type Queue struct {
	// How many may wait at once. 0 means that nobody waits.
	Places int `json:"places"`

	// The longest wait. Who waited that long goes on to the next pool of targets, or gets status 429. Default: 30s while
	// another pool is left, else 5m.
	LongestWait caddy.Duration `json:"longest_wait,omitempty"`
}
