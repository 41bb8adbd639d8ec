package llmproxy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// An Upstream is a server or service that generates.
type Upstream struct {
	// The name of the upstream in targets and headers. It has no slash, asterisk or white space.
	Name string `json:"name"`

	// What the upstream is: ollama, vllm, llamacpp, openai (every OpenAI-compatible service), anthropic, azure, gemini, openrouter, groq,
	// mistral, deepseek, together, fireworks, xai, cerebras, echo, or auto to detect it. Default: auto.
	Kind string `json:"kind,omitempty"`

	// The addresses of its replicas. Without a scheme they are http, or https for known services and
	// for port 443; without a path their base is /v1 or the service's. Global placeholders
	// such as {env.OLLAMA_URL} are replaced when the configuration is loaded. Default: that of the service for openai; echo
	// has none, and other kinds need one.
	Addresses []string `json:"addresses,omitempty"`

	// The API key, sent as a bearer token. Global placeholders such as {env.OPENAI_API_KEY} are replaced when the
	// configuration is loaded. Default: none.
	APIKey string `json:"api_key,omitempty"`

	// The version of Azure's older API, such as 2024-10-21, which has the deployment in the path. Only for azure. Default: the current
	// API, which has no version.
	APIVersion string `json:"api_version,omitempty"`

	// Send the API key also to a public address over http://, where everybody on the way can read it. Default: false, which makes
	// such a configuration an error.
	InsecureHTTP bool `json:"insecure_http,omitempty"`

	// Changes of the headers of requests to the upstream. Of the client's headers, only those on an allow-list are sent.
	// Default: none.
	Headers *headers.HeaderOps `json:"headers,omitempty"`

	// Members to add to the JSON of requests that do not have them. Default: none.
	Params map[string]json.RawMessage `json:"params,omitempty"`

	// Members to remove from the JSON of requests, including added ones. Default: none.
	Drop []string `json:"drop,omitempty"`

	// Which of its APIs an Ollama server is used by: native (/api/chat and /api/embed; the other endpoints by /v1), or openai
	// (/v1 alone). Default: native.
	API string `json:"api,omitempty"`

	// The options of an Ollama server that clients may set although they change how a model is loaded or how long it stays, such
	// as num_ctx and keep_alive. For OpenRouter, which of models, route, provider and plugins they may use. Default: none; what clients
	// send of them is left out.
	AllowOptions []string `json:"allow_options,omitempty"`

	// How to connect: any module of http.reverse_proxy.transport. Default: a lean client for http://, and Caddy's http
	// transport for https://.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// The maximum time to connect. A configured transport has its own instead. Default: 3s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// The maximum time to the first content of a stream, unless a local server shows that it is working. Default: while another
	// target is left, 30s and the time that the server may need to read the prompt, else 10m.
	FirstTokenTimeout caddy.Duration `json:"first_token_timeout,omitempty"`

	// The maximum silence between two events of a stream, unless a local server shows that it is working. Default: 5m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// The maximum time of an attempt. Default: none for streams; for other answers 10m, unless a local server shows that it is
	// working.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The maximum time of an attempt whose answer is not a stream. Default: that of timeout.
	AnswerTimeout caddy.Duration `json:"answer_timeout,omitempty"`

	// The maximum time to wait for a model that is loading, if no other target is left. Loading continues if the client
	// disconnects. Default: 5m.
	LoadTimeout caddy.Duration `json:"load_timeout,omitempty"`

	// How to wake the machine of the upstream when a request cannot reach it. Only for an upstream with one address, of kind ollama, vllm or
	// llamacpp. Default: it does not sleep.
	Wake *Wake `json:"wake,omitempty"`

	// The models that stay loaded at every replica, by their names there. They are loaded at the start and again every minute, without
	// generating. Only for ollama and llamacpp (router mode). Default: none.
	Warm []string `json:"warm,omitempty"`

	// The most slots of each replica: how many requests it may process at once, across all names and handlers. The server may show that
	// it has fewer. Default: 1 for ollama (= its OLLAMA_NUM_PARALLEL), the number of its slots for llamacpp, no limit for other kinds.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// Whether the upstream runs on machines of your own, so that requests that must stay local may go there. Default: true for
	// ollama, vllm, llamacpp and echo, false for others, and for auto until it is detected as one of these.
	Local *bool `json:"local,omitempty"`

	Capabilities

	// The capabilities of single models, by the name of the model at the upstream. They override those of the upstream.
	// Default: none.
	ModelLimits map[string]*Capabilities `json:"model_limits,omitempty"`

	// The admission queue in which requests wait for a slot: by the priority of their keys, and fairly among the keys of a
	// priority. Default: 64 places.
	Queue *Queue `json:"queue,omitempty"`

	// How many places of the queue the requests of one key may have, or of one client address without a key. Default: all
	// of them.
	QueuePerKey int `json:"queue_per_key,omitempty"`
}

// Wake is how a machine that sleeps is woken: by a magic packet (Wake-on-LAN).
type Wake struct {
	// The MAC address of the machine.
	MAC string `json:"mac"`

	// Where the packet is sent: an IP address, with a UDP port unless that is 9. Default: 255.255.255.255, the local network.
	Broadcast string `json:"broadcast,omitempty"`
}

// wakeUp returns what wakes the machine of the upstream, or nil if it does not sleep.
func (u *Upstream) wakeUp(kind *upstream.Kind) (*upstream.WakeUp, error) {
	switch {
	case u.Wake == nil:
		return nil, nil
	case !kind.CanProbe():
		return nil, fmt.Errorf("wake needs a health check that shows when the machine is awake; write ollama, vllm or llamacpp instead of %s", kind.Name)
	case len(u.Addresses) > 1:
		return nil, errors.New("wake is for an upstream with one address; make each machine an upstream of its own")
	}
	w, err := upstream.NewWakeUp(u.Wake.MAC, u.Wake.Broadcast)
	if err != nil {
		return nil, fmt.Errorf("wake: %w", err)
	}
	return w, nil
}

// Capabilities are what a model can take. They override what the server reports.
type Capabilities struct {
	// The context window: how many tokens the prompt and the answer may have together. Default: what vLLM, llama.cpp and
	// Ollama report, and what errors revealed.
	Context int `json:"context,omitempty"`

	// The features that the model has: tools, images, audio, json_schema. Default: all, unless llama.cpp or Ollama reports
	// otherwise.
	Can []string `json:"can,omitempty"`

	// The features that the model does not have. Default: what llama.cpp or Ollama reports.
	Cannot []string `json:"cannot,omitempty"`
}

// A Queue is the admission queue of each replica of an upstream.
type Queue struct {
	// How many requests may wait at once. With 0, no request waits.
	Places int `json:"places"`

	// The maximum wait. A request that waited so long goes to the next pool of targets, or gets status 429. Default: 30s while
	// another pool is left, else 5m.
	LongestWait caddy.Duration `json:"longest_wait,omitempty"`
}

// defaultQueuePlaces bounds a queue that is not configured. Each waiting request may hold its body in memory.
const defaultQueuePlaces = 64

// usualUpstreams returns the upstreams of a handler without any configuration, in the order of preference.
func usualUpstreams() (list []*Upstream) {
	for _, k := range upstream.Kinds {
		u := &Upstream{Name: k.Name, Kind: k.Name}
		switch {
		case k.LocalAddress != "":
			u.Addresses = []string{k.LocalAddress}
		case k.KeyVariable != "" && os.Getenv(k.KeyVariable) != "":
			u.APIKey = "{env." + k.KeyVariable + "}"
		case !k.BuiltIn():
			continue
		}
		list = append(list, u)
	}
	return list
}

// provisionUpstreams returns the upstreams. If they are optional, those with an address are absent until a server answers there.
func provisionUpstreams(ctx caddy.Context, closer *state.Closer, configs []*Upstream, optional bool) (list []*upstream.Upstream, err error) {
	var errs []error
	for i, u := range configs {
		config, err := u.provision(ctx, closer, upstreamPlace(i))
		if err != nil {
			errs = append(errs, upstreamPlace(i).errorf("upstream %q: %w", u.Name, err))
			continue
		}
		config.Optional = optional && len(u.Addresses) > 0
		list = append(list, upstream.New(config))
	}
	return list, errors.Join(errs...)
}

func (u *Upstream) provision(ctx caddy.Context, closer *state.Closer, here place) (c upstream.Config, err error) {
	c = upstream.Config{
		Name: u.Name, APIVersion: u.APIVersion, Params: sortedParams(u.Params), Drop: u.Drop, MaxConcurrent: u.MaxConcurrent, Local: u.Local,
		Timers: upstream.Timers{FirstToken: time.Duration(u.FirstTokenTimeout), Idle: time.Duration(u.IdleTimeout), Total: time.Duration(u.Timeout), Whole: time.Duration(u.AnswerTimeout), Load: time.Duration(u.LoadTimeout)},
		Queue:  admission.Config{Size: defaultQueuePlaces},
	}
	if u.Queue != nil {
		c.Queue = admission.Config{Size: u.Queue.Places, MaxWait: time.Duration(u.Queue.LongestWait)}
	}
	c.Queue.PerCaller = u.QueuePerKey
	if c.Kind, err = u.kind(); err != nil {
		return c, err
	}
	c.OpenAI, c.AllowOptions, c.Warm = u.API == openAIAPI, u.AllowOptions, u.Warm
	if err = u.checkWarm(c.Kind); err != nil {
		return c, at(here.in("warm", 0), err)
	}
	if c.WakeUp, err = u.wakeUp(c.Kind); err != nil {
		return c, at(here.in("wake", 0), err)
	}
	if err = u.checkAPIVersion(); err != nil {
		return c, at(here.in("api_version", 0), err)
	}
	if c.Bases, err = u.bases(c.Kind); err != nil {
		return c, err
	}
	if c.APIKey, err = u.expandAPIKey(); err != nil {
		return c, at(here.in("api_key", 0), err)
	}
	c.Replica = func(base string) *replica.Replica {
		return acquireReplica(closer, base, u.account(c.Kind, base, c.APIKey))
	}
	if c.Transport, err = u.transport(ctx, closer, c.Bases); err != nil {
		return c, at(here.in("transport", 0), err)
	}
	if c.HeaderUp, err = u.headerUp(ctx); err != nil {
		return c, at(here.in("header_up", 0), err)
	}
	if c.Fingerprint, err = u.fingerprint(c.Bases); err != nil {
		return c, err
	}
	if c.Override, err = u.Capabilities.override(); err != nil {
		return c, err
	}
	c.ModelOverrides = map[string]upstream.Override{}
	for model, capabilities := range u.ModelLimits {
		if c.ModelOverrides[model], err = capabilities.override(); err != nil {
			return c, fmt.Errorf("model_limits of %s: %w", model, err)
		}
	}
	return c, nil
}

// checkWarm returns an error if the upstream has models to keep loaded, and its servers cannot be told to load any.
func (u *Upstream) checkWarm(kind *upstream.Kind) error {
	switch {
	case len(u.Warm) == 0 || kind.CanWarm():
		return nil
	case kind == upstream.Auto:
		return errors.New("warm needs to know the kind of the server; write ollama or llamacpp instead of auto")
	}
	return fmt.Errorf("warm is only for the kinds ollama and llamacpp; remove it: %s has its models loaded", kind.Name)
}

// checkAPIVersion returns an error if the upstream has a version of an API that only Azure has.
func (u *Upstream) checkAPIVersion() error {
	if u.APIVersion != "" && u.Kind != upstream.Azure.Name {
		return fmt.Errorf("api_version is only for the kind azure; remove it, or write azure instead of %s", cmp.Or(u.Kind, upstream.Auto.Name))
	}
	return nil
}

func (u *Upstream) kind() (*upstream.Kind, error) {
	if u.Kind == "" {
		return upstream.Auto, nil
	}
	return upstream.KindNamed(u.Kind)
}

// The APIs of an Ollama server.
const (
	nativeAPI = "native"
	openAIAPI = "openai"
)

// checkAddresses reports invalid addresses when the configuration is checked, unless one has a placeholder, whose value is not known
// yet.
func (u *Upstream) checkAddresses() error {
	kind, err := u.kind()
	if err != nil {
		return err
	}
	for _, a := range u.Addresses {
		if secretPlaceholder.MatchString(a) {
			return fmt.Errorf("%s is not an address; write it in the block of the upstream: api_key %[1]s", a)
		}
	}
	if slices.ContainsFunc(u.Addresses, hasPlaceholder) {
		return nil
	}
	_, err = u.bases(kind)
	return err
}

// secretPlaceholder matches placeholders whose names say that they stand for a key.
var secretPlaceholder = regexp.MustCompile(`(?i)^\{(env|file)\.[^{}]*(key|token|secret)[^{}]*\}$`)

// bases returns the base URLs of the replicas, with placeholders replaced.
func (u *Upstream) bases(kind *upstream.Kind) (bases []*url.URL, err error) {
	addresses := u.Addresses
	switch {
	case kind.BuiltIn() && len(addresses) > 0:
		return nil, fmt.Errorf("kind %s is built in; remove its address", kind.Name)
	case len(addresses) == 0 && kind.ServiceBase != "":
		addresses = []string{kind.ServiceBase}
	case len(addresses) == 0:
		return nil, fmt.Errorf("missing address; add it, such as http://%s", exampleAddress(kind))
	}
	for _, a := range addresses {
		expanded := caddy.NewReplacer().ReplaceKnown(a, "")
		if expanded == "" && a != "" {
			return nil, fmt.Errorf("the address %s is empty; set its value in Caddy's environment", a)
		}
		base, err := kind.ParseAddress(expanded)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(bases, func(b *url.URL) bool { return *b == *base }) {
			return nil, fmt.Errorf("duplicate address %s", base)
		}
		if base.Scheme == "http" && !kind.BuiltIn() && !u.InsecureHTTP && u.sendsKey() && !upstream.IsPrivate(base.Hostname()) {
			return nil, fmt.Errorf("the API key would be sent to %s without encryption; write https://%[1]s, or add insecure_http if the way there is protected", base.Host)
		}
		bases = append(bases, base)
	}
	return bases, nil
}

// exampleAddress is where a server of a kind usually is.
func exampleAddress(kind *upstream.Kind) string { return cmp.Or(kind.LocalAddress, "127.0.0.1:8000") }

// keyHeaders are the headers in which APIs expect keys.
var keyHeaders = []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Proxy-Authorization"}

// sendsKey reports whether requests to the upstream have an API key.
func (u *Upstream) sendsKey() bool {
	if u.APIKey != "" {
		return true
	}
	if u.Headers == nil {
		return false
	}
	return slices.ContainsFunc(keyHeaders, func(name string) bool {
		return len(u.Headers.Set[name]) > 0 || len(u.Headers.Add[name]) > 0
	})
}

// expandAPIKey returns the key with placeholders replaced. It rejects a key that could only fail later, with the first request.
func (u *Upstream) expandAPIKey() (string, error) {
	key := strings.TrimSpace(state.WithoutMark(caddy.NewReplacer().ReplaceKnown(u.APIKey, "")))
	switch {
	case u.APIKey != "" && key == "":
		return "", fmt.Errorf("api_key is empty; set the value of %s in Caddy's environment, or remove the line", strings.TrimSpace(u.APIKey))
	case strings.ContainsAny(key, "\r\n"):
		return "", errors.New("api_key contains a line break; remove it")
	}
	return key, checkSecret("api_key", key)
}

// account returns what stands for an API key in the state of a replica: its digest for a service, which refuses and limits each key by itself,
// and nothing for a server of one's own, whose slots all keys share.
func (u *Upstream) account(kind *upstream.Kind, base, key string) string {
	address, err := url.Parse(base)
	own := u.Local != nil && *u.Local || u.Local == nil && err == nil && upstream.IsPrivate(address.Hostname())
	if own || key == "" || kind.CanProbe() {
		return ""
	}
	digest := sha256.Sum256([]byte(key))
	return " " + hex.EncodeToString(digest[:8])
}

// headerUp returns a function that changes the headers of a request, or nil if no changes are configured.
func (u *Upstream) headerUp(ctx caddy.Context) (func(*http.Request), error) {
	if u.Headers == nil {
		return nil, nil
	}
	if err := u.Headers.Provision(ctx); err != nil {
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

// sortedParams returns parameters in the order of their names, so that equal requests have equal bytes.
func sortedParams(configured map[string]json.RawMessage) (list []upstream.Param) {
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		list = append(list, upstream.Param{Name: name, Value: configured[name]})
	}
	return list
}

// fingerprint returns a hash of what answers depend on in the configuration of an upstream, for the cache: which service it is, and what
// the configuration changes in requests. The first address stands for the service, because further ones are replicas of it. How the
// upstream is reached, how long requests wait for it, and which requests it can take do not count.
//
// A new field of Upstream needs a line in TestFingerprintHasOnlyWhatAnswersDependOn, which says whether it counts.
func (u *Upstream) fingerprint(bases []*url.URL) (string, error) {
	counts := struct {
		Kind, Base string
		APIVersion string `json:",omitempty"`
		Headers    *headers.HeaderOps
		Params     map[string]json.RawMessage
		Drop       []string
		API        string
		Allow      []string
	}{Kind: u.Kind, APIVersion: u.APIVersion, Headers: u.Headers, Params: u.Params, Drop: slices.Sorted(slices.Values(u.Drop)), API: cmp.Or(u.API, nativeAPI), Allow: slices.Sorted(slices.Values(u.AllowOptions))}
	if len(bases) > 0 {
		counts.Base = bases[0].String()
	}
	text, err := json.Marshal(counts)
	if err != nil {
		return "", fmt.Errorf("encoding the configuration: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// override returns the capabilities with the names of features parsed.
func (c *Capabilities) override() (o upstream.Override, err error) {
	if c.Context < 0 {
		return o, fmt.Errorf("context %d is negative", c.Context)
	}
	o.ContextWindow = c.Context
	if o.Can, err = parseFeatures(c.Can); err != nil {
		return o, fmt.Errorf("can: %w", err)
	}
	if o.Cannot, err = parseFeatures(c.Cannot); err != nil {
		return o, fmt.Errorf("cannot: %w", err)
	}
	if o.Can&o.Cannot != 0 {
		return o, fmt.Errorf("can %s contradicts cannot %s", strings.Join(c.Can, " "), strings.Join(c.Cannot, " "))
	}
	return o, nil
}

func parseFeatures(names []string) (set router.Feature, err error) {
	for _, name := range names {
		feature, ok := router.ParseFeature(name)
		if !ok {
			return 0, fmt.Errorf("unknown feature %q; use %s", name, strings.Join(router.FeatureNames[:], ", "))
		}
		set |= feature
	}
	return set, nil
}
