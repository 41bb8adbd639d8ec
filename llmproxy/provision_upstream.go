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

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

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
	for _, k := range []*upstream.Kind{upstream.Ollama, upstream.VLLM, upstream.LlamaCpp} {
		configs = append(configs, &Upstream{Name: k.Name, Kind: k.Name, Addresses: []string{k.LocalAddress}})
	}
	if os.Getenv("OPENAI_API_KEY") != "" {
		configs = append(configs, &Upstream{Name: "openai", Kind: "openai", APIKey: "{env.OPENAI_API_KEY}"})
	}
	configs = append(configs, &Upstream{Name: "echo", Kind: "echo"})
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
		MaxConcurrent: u.MaxConcurrent, Room: u.room(), Local: u.Local, Can: can, ModelCan: modelCan,
		Transport: transport,
	}, h.replica), nil
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
	case kind == upstream.Echo && len(addresses) > 0:
		return nil, errors.New("the echo is built in and has no address")
	case len(addresses) == 0 && kind.Service != "":
		addresses = []string{kind.Service}
	case len(addresses) == 0:
		return nil, fmt.Errorf("no address: write where it is reached, such as `upstream %s %s http://127.0.0.1:8000`", u.Name, kind.Name)
	}
	for _, a := range addresses {
		base, err := upstream.ParseAddress(caddy.NewReplacer().ReplaceKnown(a, ""))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(bases, func(b *url.URL) bool { return *b == *base }) {
			return nil, fmt.Errorf("the address %s stands twice", base)
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
