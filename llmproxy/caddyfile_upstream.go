package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// hostOf returns the host and port of an address. They become the name of an upstream that is configured by its address alone.
func hostOf(address string) string {
	_, rest, found := strings.Cut(address, "://")
	if !found {
		rest = address
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

func parseUpstream(d *dispenser, h *Handler) error {
	u := new(Upstream)
	if !d.Args(&u.Name, &u.Kind) {
		return d.Err(incompleteUpstream(d.words) + d.hintIfFewer(2))
	}
	u.Addresses = d.RemainingArgs()
	if err := u.checkKind(); err != nil {
		return d.WrapErr(err)
	}
	if kind, _ := u.kind(); len(u.Addresses) == 0 && kind.ServiceBase == "" {
		return d.Errf("upstream %q: missing address; add it, such as `upstream %[1]s %s %s`%s", u.Name, kind.Name, "http://"+exampleAddress(kind), d.hintIfFewer(3))
	}
	if err := parseBlock(d, "upstream", upstreamSubdirectives, u, nil); err != nil {
		return err
	}
	if err := u.checkAPIVersion(); err != nil {
		return d.WrapErr(err)
	}
	if kind, _ := u.kind(); kind != nil {
		if err := u.checkWarm(kind); err != nil {
			return d.WrapErr(err)
		}
		if _, err := u.wakeUp(kind); err != nil {
			return d.WrapErr(err)
		}
	}
	h.Upstreams = append(h.Upstreams, u)
	return nil
}

// incompleteUpstream says what is missing in a line of an upstream with fewer than two words.
func incompleteUpstream(words []string) string {
	const example = "upstream gpu ollama http://127.0.0.1:11434"
	if len(words) == 0 {
		return "upstream: missing name and kind; use " + example
	}
	if kind, err := upstream.KindNamed(words[0]); err == nil && (kind.ServiceBase != "") {
		return fmt.Sprintf("upstream: missing kind; the first word is the name, so write upstream %s %[1]s", words[0])
	}
	return "upstream: missing name or kind; use " + example
}

// otherKinds are kinds that people write for servers and services that have another one here.
var otherKinds = map[string]string{
	"azure_openai": "azure", "azure-openai": "azure", "azure_ai": "azure", "google": "gemini", "google_ai_studio": "gemini", "open_router": "openrouter",
	"mistralai": "mistral", "together_ai": "together", "togetherai": "together", "fireworks_ai": "fireworks", "grok": "xai", "x.ai": "xai",

	"llama.cpp": "llamacpp", "llama-cpp": "llamacpp", "llama_cpp": "llamacpp", "llama-server": "llamacpp", "gpt": "openai", "chatgpt": "openai",
	"compatible": "openai", "openai-compatible": "openai", "openai_compatible": "openai", "custom": "openai", "custom_openai": "openai",
	"lmstudio": "openai", "lm-studio": "openai", "lm_studio": "openai", "localai": "openai", "litellm": "openai", "sglang": "openai", "tgi": "openai",
	"perplexity": "openai", "hosted_vllm": "vllm",
	"ollama_chat": "ollama", "local": "auto",
}

// checkKind says what was probably meant by a word that should be a kind, but is not.
func (u *Upstream) checkKind() error {
	_, err := upstream.KindNamed(u.Kind)
	if err == nil {
		return nil
	}
	switch kind, nameErr := upstream.KindNamed(u.Name); {
	case strings.ContainsAny(u.Kind, "./:{") && otherKinds[u.Kind] == "":
		if nameErr == nil && len(u.Addresses) == 0 {
			return fmt.Errorf("upstream %q: the kind is missing before the address; write upstream %s %[2]s %[3]s", u.Name, kind.Name, u.Kind)
		}
		return fmt.Errorf("upstream %q: the kind is missing before the address; write one, such as ollama, or auto to detect it", u.Name)
	case nameErr == nil && u.Kind != "":
		return fmt.Errorf("upstream: the name comes before the kind; write upstream %s %s", u.Kind, u.Name)
	}
	if other := otherKinds[strings.ToLower(u.Kind)]; other != "" {
		kind, _ := upstream.KindNamed(other)
		address := ", and its base URL as the address"
		if kind.ServiceBase != "" && kind != upstream.OpenAI {
			address = ""
		}
		return fmt.Errorf("upstream %q: unknown kind of upstream %q; write %s%s", u.Name, u.Kind, other, address)
	}
	var names []string
	for _, k := range upstream.Kinds {
		names = append(names, k.Name)
	}
	if near := nearest(strings.ToLower(u.Kind), names); near != "" {
		return fmt.Errorf("upstream %q: unknown kind of upstream %q; did you mean %s?", u.Name, u.Kind, near)
	}
	return fmt.Errorf("upstream %q: %w", u.Name, err)
}

var upstreamSubdirectives = subdirectives[*Upstream]{
	"insecure_http":       func(d *dispenser, u *Upstream) error { return parseFlag(d, &u.InsecureHTTP) },
	"api_key":             parseAPIKey,
	"api_version":         func(d *dispenser, u *Upstream) error { return parseString(d, &u.APIVersion) },
	"header_up":           parseHeaderUp,
	"params":              parseParams,
	"drop":                func(d *dispenser, u *Upstream) error { return parseStrings(d, &u.Drop) },
	"api":                 func(d *dispenser, u *Upstream) error { return parseOneOf(d, &u.API, nativeAPI, openAIAPI) },
	"allow_options":       func(d *dispenser, u *Upstream) error { return parseStrings(d, &u.AllowOptions) },
	"dial_timeout":        func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.DialTimeout) },
	"first_token_timeout": func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.FirstTokenTimeout) },
	"idle_timeout":        func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.IdleTimeout) },
	"timeout":             func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.Timeout) },
	"answer_timeout":      func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.AnswerTimeout) },
	"load_timeout":        func(d *dispenser, u *Upstream) error { return parseDuration(d, &u.LoadTimeout) },
	"warm":                func(d *dispenser, u *Upstream) error { return parseStrings(d, &u.Warm) },
	"wake":                parseWake,
	"max_concurrent":      parseMaxConcurrent,
	"queue":               parseQueue,
	"queue_per_key":       parseQueuePerKey,
	"local":               parseLocal,
	"remote":              parseLocal,
	"context":             parseContext,
	"can":                 parseCapabilities,
	"cannot":              parseCapabilities,
	"transport":           parseTransport,
}

func parseAPIKey(d *dispenser, u *Upstream) error {
	if len(d.words) == 2 {
		if err := checkSecret("api_key", strings.Join(d.words, " ")); err != nil { // Bearer and a key
			return d.WrapErr(err)
		}
	}
	return parseString(d, &u.APIKey)
}

func parseHeaderUp(d *dispenser, u *Upstream) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 3 {
		return d.wrongCount("one to three values")
	}
	if u.Headers == nil {
		u.Headers = new(headers.HeaderOps)
	}
	value, replacement := "", (*string)(nil)
	if len(args) > 1 {
		value = args[1]
	}
	if len(args) > 2 {
		replacement = &args[2]
	}
	if err := headers.CaddyfileHeaderOp(u.Headers, args[0], value, replacement); err != nil {
		return d.Errf("header_up: %w", err)
	}
	return nil
}

// parseParams parses one parameter on the line, or several in a block.
func parseParams(d *dispenser, u *Upstream) error {
	if args := d.RemainingArgs(); len(args) > 0 {
		return addParam(d, u, args)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := addParam(d, u, append([]string{d.Val()}, d.RemainingArgs()...)); err != nil {
			return err
		}
	}
	if len(u.Params) == 0 {
		return d.wrongCount("a name and a value")
	}
	return nil
}

// addParam adds a parameter. A value that is not JSON is a string.
func addParam(d *dispenser, u *Upstream, args []string) error {
	if len(args) != 2 {
		return d.Err("params: use a name and a value, such as params temperature 0.2")
	}
	value := json.RawMessage(args[1])
	if !json.Valid(value) {
		quoted, err := json.Marshal(args[1])
		if err != nil {
			return d.Errf("params: %w", err)
		}
		value = quoted
	}
	if u.Params == nil {
		u.Params = map[string]json.RawMessage{}
	}
	u.Params[args[0]] = value
	return nil
}

func parseMaxConcurrent(d *dispenser, u *Upstream) (err error) {
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	u.MaxConcurrent, err = parseCount(d, "max_concurrent", text, 1)
	return err
}

func parseWake(d *dispenser, u *Upstream) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.wrongCount("a MAC address, and optionally where to send the packet")
	}
	u.Wake = &Wake{MAC: args[0]}
	if len(args) == 2 {
		u.Wake.Broadcast = args[1]
	}
	return nil
}

func parseQueue(d *dispenser, u *Upstream) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.wrongCount("one or two values")
	}
	places, err := parseCount(d, "queue", args[0], 0)
	if err != nil {
		return err
	}
	u.Queue = &Queue{Places: places}
	if len(args) == 2 {
		wait, err := caddy.ParseDuration(args[1])
		if err != nil || wait <= 0 {
			return d.Errf("queue: invalid duration %q; use one such as 30s", args[1])
		}
		u.Queue.LongestWait = caddy.Duration(wait)
	}
	return nil
}

func parseQueuePerKey(d *dispenser, u *Upstream) (err error) {
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	u.QueuePerKey, err = parseCount(d, "queue_per_key", text, 1)
	return err
}

func parseLocal(d *dispenser, u *Upstream) error {
	local := d.Val() == "local"
	if d.NextArg() {
		return d.wrongCount("no value")
	}
	if u.Local != nil && *u.Local != local {
		return d.Err("local and remote contradict each other; remove one")
	}
	u.Local = &local
	return nil
}

// capabilitiesOf returns the capabilities of a model, or those of the upstream for an empty name.
func capabilitiesOf(u *Upstream, model string) *Capabilities {
	if model == "" {
		return &u.Capabilities
	}
	if u.ModelLimits == nil {
		u.ModelLimits = map[string]*Capabilities{}
	}
	if u.ModelLimits[model] == nil {
		u.ModelLimits[model] = new(Capabilities)
	}
	return u.ModelLimits[model]
}

func parseContext(d *dispenser, u *Upstream) error {
	args, model := d.RemainingArgs(), ""
	if len(args) == 2 {
		model, args = args[0], args[1:]
	}
	if len(args) != 1 {
		return d.wrongCount("a number of tokens, optionally after a model")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 {
		return d.Errf("context: invalid number %q; use a number of tokens such as 32768", args[0])
	}
	capabilitiesOf(u, model).Context = n
	return nil
}

// parseCapabilities parses features that the upstream has or lacks, or, if a model's name comes first, that the model does.
func parseCapabilities(d *dispenser, u *Upstream) error {
	name, args, model := d.Val(), d.RemainingArgs(), ""
	if len(args) > 1 {
		if _, ok := router.ParseFeature(args[0]); !ok {
			model, args = args[0], args[1:]
		}
	}
	if len(args) == 0 {
		return d.wrongCount("at least one feature")
	}
	if _, err := parseFeatures(args); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	c := capabilitiesOf(u, model)
	if name == "can" {
		c.Can = append(c.Can, args...)
	} else {
		c.Cannot = append(c.Cannot, args...)
	}
	return nil
}

func parseTransport(d *dispenser, u *Upstream) error {
	if !d.NextArg() {
		return d.wrongCount("the name of a transport")
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d.Dispenser, "http.reverse_proxy.transport."+name)
	if err != nil {
		return err
	}
	if _, ok := module.(http.RoundTripper); !ok {
		return d.Errf("transport: module %s is not an http.RoundTripper", name)
	}
	u.TransportRaw = caddyconfig.JSONModuleObject(module, "protocol", name, nil)
	return nil
}
