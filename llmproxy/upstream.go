package llmproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
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

// upstreams makes the configured upstreams, or, without any, what is found on this machine.
func (h *Handler) upstreams() (list []*upstream.Upstream, auto bool, err error) {
	if len(h.Upstreams) == 0 && len(h.Models) == 0 {
		list, err = h.usual()
		return list, true, err
	}
	var errs []error
	for _, u := range h.Upstreams {
		made, err := h.upstream(u, false)
		if err != nil {
			errs = append(errs, fmt.Errorf("upstream %q: %w", u.Name, err))
			continue
		}
		list = append(list, made)
	}
	return list, false, errors.Join(errs...)
}

// usual are the upstreams of a handler that nobody configured, the one to prefer first.
func (h *Handler) usual() (list []*upstream.Upstream, err error) {
	configs := []*Upstream{}
	for _, k := range upstream.Kinds {
		switch u := (&Upstream{Name: k.Name, Kind: k.Name}); {
		case k.LocalAddress != "":
			u.Addresses = []string{k.LocalAddress}
			configs = append(configs, u)
		case k.KeyVariable != "" && os.Getenv(k.KeyVariable) != "":
			u.APIKey = "{env." + k.KeyVariable + "}"
			configs = append(configs, u)
		case k.BuiltIn():
			configs = append(configs, u)
		}
	}
	for _, u := range configs {
		made, err := h.upstream(u, len(u.Addresses) > 0)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		list = append(list, made)
	}
	return list, nil
}

func (h *Handler) upstream(u *Upstream, optional bool) (*upstream.Upstream, error) {
	if u.Name == "" || strings.ContainsAny(u.Name, "/* \t\n") {
		return nil, errors.New("a name without slash, asterisk and white space is needed")
	}
	kind, err := u.kind()
	if err != nil {
		return nil, err
	}
	bases, err := basesOf(u, kind)
	if err != nil {
		return nil, err
	}
	key, err := apiKey(u)
	if err != nil {
		return nil, err
	}
	transport, err := h.transport(u, bases)
	if err != nil {
		return nil, err
	}
	headerUp, err := h.headerUp(u)
	if err != nil {
		return nil, err
	}
	stands, err := fingerprint(u)
	if err != nil {
		return nil, err
	}
	can, modelCan, err := u.said()
	if err != nil {
		return nil, err
	}
	return upstream.New(upstream.Config{
		Name: u.Name, Fingerprint: stands, Kind: kind, Optional: optional, Bases: bases, APIKey: key, HeaderUp: headerUp, Params: params(u.Params), Drop: u.Drop,
		Timers:        upstream.Timers{FirstToken: time.Duration(u.FirstTokenTimeout), Idle: time.Duration(u.IdleTimeout), Total: time.Duration(u.Timeout), Load: time.Duration(u.LoadTimeout)},
		MaxConcurrent: u.MaxConcurrent, Queue: u.queue(), Local: u.Local, Override: can, ModelOverrides: modelCan,
		Transport: transport, Replica: h.replica,
	}), nil
}

func (u *Upstream) kind() (*upstream.Kind, error) {
	if u.Kind == "" {
		return upstream.Auto, nil
	}
	return upstream.KindNamed(u.Kind)
}

// checkAddresses finds, where a Caddyfile has its line, what would fail at load. A placeholder is not known before.
func (u *Upstream) checkAddresses() error {
	kind, err := u.kind()
	if err != nil || slices.ContainsFunc(u.Addresses, func(a string) bool { return strings.Contains(a, "{") }) {
		return err
	}
	_, err = basesOf(u, kind)
	return err
}

// basesOf gives where the replicas are. Placeholders are replaced.
func basesOf(u *Upstream, kind *upstream.Kind) (bases []*url.URL, err error) {
	addresses := u.Addresses
	switch {
	case kind.BuiltIn() && len(addresses) > 0:
		return nil, fmt.Errorf("kind %s is built in; remove its address", kind.Name)
	case len(addresses) == 0 && kind.ServiceBase != "":
		addresses = []string{kind.ServiceBase}
	case len(addresses) == 0:
		return nil, fmt.Errorf("no address: write where it is reached, such as `upstream %s %s http://127.0.0.1:8000`", u.Name, kind.Name)
	}
	for _, a := range addresses {
		base, err := kind.ParseAddress(caddy.NewReplacer().ReplaceKnown(a, ""))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(bases, func(b *url.URL) bool { return *b == *base }) {
			return nil, fmt.Errorf("duplicate address %s", base)
		}
		bases = append(bases, base)
	}
	return bases, nil
}

// apiKey replaces placeholders. An empty key would be told by the upstream only, and long after the load.
func apiKey(u *Upstream) (string, error) {
	if u.APIKey == "" {
		return "", nil
	}
	key := strings.TrimSpace(caddy.NewReplacer().ReplaceKnown(u.APIKey, ""))
	if key == "" {
		return "", errors.New("api_key is empty: set what its placeholder stands for, or leave the line out")
	}
	if strings.ContainsAny(key, "\r\n") {
		return "", errors.New("api_key holds a line break")
	}
	return key, nil
}

// headerUp makes the change of headers; nil for none.
func (h *Handler) headerUp(u *Upstream) (func(*http.Request), error) {
	if u.Headers == nil {
		return nil, nil
	}
	if err := u.Headers.Provision(h.ctx); err != nil {
		return nil, fmt.Errorf("header_up: %w", err)
	}
	return func(r *http.Request) {
		if r.Context().Value(caddy.ReplacerCtxKey) == nil { // a probe
			probe := r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
			u.Headers.ApplyToRequest(probe)
			r.Host = probe.Host
			return
		}
		u.Headers.ApplyToRequest(r)
	}, nil
}

// params are put into an order that is the same every time.
func params(configured map[string]json.RawMessage) (list []upstream.Param) {
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		list = append(list, upstream.Param{Name: name, Value: configured[name]})
	}
	return list
}

// said is what the configuration says of the upstream's models.
func (u *Upstream) said() (all upstream.Override, models map[string]upstream.Override, err error) {
	if all, err = u.Limits.said(); err != nil {
		return all, nil, err
	}
	for model, limits := range u.ModelLimits {
		one, err := limits.said()
		if err != nil {
			return all, nil, fmt.Errorf("model_limits of %s: %w", model, err)
		}
		if models == nil {
			models = map[string]upstream.Override{}
		}
		models[model] = one
	}
	return all, models, nil
}

func (l *Limits) said() (s upstream.Override, err error) {
	if l.Context < 0 {
		return s, fmt.Errorf("context %d is below zero", l.Context)
	}
	s.ContextWindow = l.Context
	if s.Can, err = abilities(l.Can); err != nil {
		return s, fmt.Errorf("can: %w", err)
	}
	if s.Cannot, err = abilities(l.Cannot); err != nil {
		return s, fmt.Errorf("cannot: %w", err)
	}
	if s.Can&s.Cannot != 0 {
		return s, fmt.Errorf("what it can and what it cannot overlap: can %s, cannot %s", strings.Join(l.Can, " "), strings.Join(l.Cannot, " "))
	}
	return s, nil
}

func abilities(names []string) (set router.Feature, err error) {
	for _, name := range names {
		a, ok := router.ParseFeature(name)
		if !ok {
			return 0, fmt.Errorf("unknown ability %q: use %s", name, strings.Join(router.FeatureNames[:], ", "))
		}
		set |= a
	}
	return set, nil
}
