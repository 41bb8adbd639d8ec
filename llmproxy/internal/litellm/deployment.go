package litellm

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A deployment is an item of model_list: a model at a service, under a name that clients use.
type deployment struct {
	at     Place
	name   string // that clients use
	model  string // at the service
	id     string // for a comment
	server server

	order            int
	weight, rpm, tpm *float64
	context          int
	can, cannot      []string
	price            price

	upstream string // the name of the upstream, once there is one
}

// A server is what the upstream of a deployment needs to be: all but the model. Deployments with equal servers share an upstream.
type server struct {
	service    string // LiteLLM's prefix, for the name
	kind       string
	address    string // empty for that of the kind
	apiKey     string
	apiVersion string
	insecure   bool
	headers    [][2]string
	params     [][2]string // names and JSON
	drop       []string
	skipVerify bool
	trust      string // a file of certificates
	clientCert string
	timeouts   timeouts
	concurrent int
	// alone is the model of a deployment that needs an upstream of its own, because it has slots of its own.
	alone string
}

// A price is what a deployment costs: words of a price line, and lines of its block.
type price struct {
	input, output float64
	lines         [][2]string
	set           bool
}

// newDeployments reads the list of models. Deployments that cannot be carried over are reported and left out.
func (c *converter) newDeployments(config *section, s *settings) (all []*deployment) {
	v := config.take("model_list")
	if v == nil {
		return nil
	}
	if v.kind != list {
		config.wrongType("model_list", "a list")
		return nil
	}
	c.reserve(v)
	for i, item := range v.list {
		entry := c.section(item, fmt.Sprintf("model_list[%d]", i), "model")
		params := entry.inner("litellm_params", "litellm_params")
		params.open = true
		info := entry.inner("model_info", "model_info")
		if d := c.newDeployment(entry, params, info, s); d != nil {
			all = append(all, d)
		}
	}
	return all
}

// reserve reserves the names of all variables that the YAML uses, and of those in which LiteLLM looks for the keys of deployments without one.
func (c *converter) reserve(models *value) {
	for _, item := range models.list {
		params := item.find("litellm_params")
		if params == nil || params.value.find("api_key") != nil {
			continue
		}
		if model := params.value.find("model"); model != nil {
			prefix, _ := serviceOf(model.value.text, "", "")
			for _, name := range hosted[prefix].variables {
				c.names[name] = true
			}
		}
	}
}

func (c *converter) newDeployment(entry, params, info *section, s *settings) *deployment {
	d := &deployment{at: entry.at, name: entry.text("model_name"), id: info.text("id")}
	info.text("mode") // the path of a request says it
	if f := entry.find("model_name"); f != nil {
		d.at = f.at
	}
	full := params.text("model")
	if d.name == "" {
		d.name = full
	}
	leaveOut := func(format string, args ...any) *deployment {
		for _, f := range slices.Concat(params.fields, info.fields) { // one note about the whole deployment is enough
			f.noted, f.leftOut = true, true
		}
		c.noteAt(d.at, entry.path, Ignored, fmt.Sprintf("the deployment of %q is left out: ", plainName(d.name))+fmt.Errorf(format, args...).Error())
		return nil
	}
	switch {
	case d.name == "" || full == "":
		return leaveOut("it has no model; write `model` into its `litellm_params`")
	case strings.ContainsAny(d.name+full, " \t\r\n{}`\""):
		return leaveOut("its name has white space, quotes or braces")
	case info.flag("blocked"):
		return leaveOut("it is blocked")
	}
	base := cmp.Or(params.text("api_base"), params.text("base_url"))
	provider := params.text("custom_llm_provider")
	prefix, model := serviceOf(full, provider, base)
	service, known := hosted[prefix]
	switch {
	case prefix == "" && base == "":
		return leaveOut("LiteLLM cannot tell its service either; write one before the model's name, such as openai/%s", full)
	case prefix == "":
		prefix, service, known = "openai", hosted["openai"], true
		params.c.note(params, "model", Changed, "its service is not known, so it is an upstream of the kind openai")
	case !known && base != "":
		prefix, service = "openai", hosted["openai"]
		params.c.note(params, "model", Changed, "its service is not known, so it is an upstream of the kind openai")
	case !known:
		return leaveOut("llm_proxy does not know the service %q; write its `api_base`", prefix)
	case service.kind == "":
		return leaveOut("%s", service.why)
	}
	if service.why != "" {
		c.note(params, "model", Changed, "%s", service.why)
	}
	d.model = modelAt(prefix, model)
	switch stars := strings.Count(d.model, "*"); {
	case stars > 0 && !strings.Contains(d.name, "*"):
		return leaveOut("its model has a *, and its name has none")
	case stars > 1 || stars == 1 && strings.Count(d.name, "*") > 1:
		return leaveOut("a * may stand for one part of a name only")
	case d.model == "":
		return leaveOut("it has no model; write one after %s/", prefix)
	}
	if prefix == "azure_ai" && isAzure(base) {
		service.kind = "azure"
	}
	d.server = server{service: prefix, kind: service.kind}
	if err := c.setServer(&d.server, service, base, params, s); err != nil {
		return leaveOut("%w", err)
	}
	d.read(params, info, s)
	return d
}

// plainName returns a name without what a terminal would obey.
func plainName(name string) string {
	q := strconv.QuoteToGraphic(name)
	return q[1 : len(q)-1]
}

// modelAt returns the name of a model at a service, where LiteLLM writes it in another way.
func modelAt(prefix, model string) string {
	switch {
	case prefix == "fireworks_ai" && !strings.Contains(model, "/") && !strings.Contains(model, "#") && !strings.Contains(model, "*"):
		return "accounts/fireworks/models/" + model
	case prefix == "openai" || prefix == "azure" || prefix == "litellm_proxy":
		for _, mode := range []string{"responses/", "chat/completions/", "o_series/", "gpt5_series/"} { // how LiteLLM asks for it
			model = strings.TrimPrefix(model, mode)
		}
	}
	return model
}

func isAzure(base string) bool {
	u, err := url.Parse(base)
	return err == nil && (strings.HasSuffix(u.Hostname(), ".services.ai.azure.com") || strings.HasSuffix(u.Hostname(), ".openai.azure.com"))
}

// setServer sets everything but timeouts and slots. It returns an error if the server has no address that is valid here.
func (c *converter) setServer(to *server, service service, base string, params *section, s *settings) error {
	address, different := service.addressFor(cmp.Or(base, service.address))
	if different != "" {
		c.note(params, "api_base", Changed, "%s", different)
	}
	kind, err := upstream.KindNamed(service.kind)
	switch {
	case err != nil:
		return err
	case address == "" && kind.ServiceBase == "":
		return errors.New("it has no address; write its `api_base`")
	}
	if to.address = address; address != "" && !strings.HasPrefix(address, "{env.") {
		if parsed, err := kind.ParseAddress(address); err != nil {
			return err
		} else if kind.ServiceBase != "" && parsed.String() == kind.ServiceBase {
			to.address = ""
		}
	}
	to.apiKey = c.apiKey(to, service, params, s)
	to.insecure = to.apiKey != "" && isPublic(to.address)
	if to.insecure {
		c.note(params, "api_base", Changed, "the API key is sent without encryption; write an address with https://, and remove insecure_http")
	}
	if v := params.text("api_version"); service.kind == "azure" {
		to.apiVersion = v
	} else if v != "" {
		c.note(params, "api_version", Ignored, "only Azure has versions of its API")
	}
	if organization := params.text("organization"); organization != "" {
		to.headers = append(to.headers, [2]string{"OpenAI-Organization", organization})
	}
	for _, key := range []string{"extra_headers", "headers", "default_headers"} {
		to.headers = append(to.headers, c.headers(params, key)...)
	}
	slices.SortStableFunc(to.headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	setTLS(to, params)
	c.setParams(to, params)
	return nil
}

// isPublic reports whether an address can be reached by others on the way to it, and is not encrypted.
func isPublic(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "http" && !upstream.IsPrivate(u.Hostname())
}

// apiKey returns the API key of a deployment: its own, that of its credential, or the usual variable of its service.
func (c *converter) apiKey(to *server, service service, params *section, s *settings) string {
	name := strings.ToUpper(to.service) + "_API_KEY"
	if len(service.variables) > 0 {
		name = service.variables[0]
	}
	if credential := params.text("litellm_credential_name"); credential != "" && !params.has("api_key") {
		shared := s.credentials[credential]
		if shared == nil {
			c.note(params, "litellm_credential_name", Ignored, "credential_list has no such credential")
			return ""
		}
		if to.address == "" {
			if address, _ := service.addressFor(shared.text("api_base")); address != "" {
				to.address = address
			}
		}
		return shared.credential("api_key", name)
	}
	if v := params.take("api_key"); v != nil && v.text != "" {
		if upstream.IsDummyKey(v.text) {
			return v.text
		}
		if to.address != "" && len(service.variables) > 0 && service.kind == "openai" {
			name = hostVariable(to.address) + "_API_KEY"
		}
		return params.credential("api_key", name)
	}
	if len(service.variables) == 0 || to.address != "" && to.service == "openai" && !isService(hostname(to.address)) {
		return "" // a server of one's own
	}
	c.names[name] = true
	return "{env." + name + "}"
}

func hostname(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// hostVariable returns the host of an address as the beginning of a variable's name.
func hostVariable(address string) string {
	host := hostname(address)
	if host == "" || strings.Trim(host, "0123456789.") == "" {
		return "UPSTREAM"
	}
	host = strings.TrimPrefix(host, "api.")
	name, _, _ := strings.Cut(host, ".")
	return variable(name)
}

// headers returns the headers below a key. Values that may be secrets are expected in the environment.
func (c *converter) headers(params *section, key string) (headers [][2]string) {
	v := params.take(key)
	if v == nil {
		return nil
	}
	if v.kind != object {
		params.wrongType(key, "a list of names and values")
		return nil
	}
	for _, f := range v.fields {
		if strings.ContainsAny(f.key, " \t\r\n:{}`\"") || f.key == "" || f.value.kind == list || f.value.kind == object {
			c.note(params, key, Ignored, "a header in it has an invalid name or value")
			continue
		}
		value := params.placeholders(key, f.value.text)
		if isSecret.MatchString(f.key) && !environ.MatchString(f.value.text) {
			value = c.secret(f.value.at, params.pathOf(key+"."+f.key), f.key, f.value.text)
		}
		headers = append(headers, [2]string{f.key, value})
	}
	return headers
}

// setTLS sets how certificates are checked.
func setTLS(to *server, params *section) {
	verify := params.take("ssl_verify")
	switch {
	case verify == nil:
	case verify.kind == boolean:
		to.skipVerify = !params.flag("ssl_verify")
	default:
		to.trust = params.text("ssl_verify")
	}
	to.clientCert = params.text("ssl_certificate")
}

// setParams sets the members that are added to requests or removed from them: extra_body, and every key that is not LiteLLM's own.
func (c *converter) setParams(to *server, params *section) {
	for _, f := range params.fields {
		if _, known := params.rules[f.key]; known || f.value.kind == null {
			continue
		}
		f.used = true
		c.addParam(to, params, f)
	}
	if body := params.take("extra_body"); body != nil {
		if body.kind != object {
			params.wrongType("extra_body", "a list of names and values")
		}
		for _, f := range body.fields {
			c.addParam(to, params, f)
		}
	}
	slices.SortStableFunc(to.params, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for _, name := range params.texts("additional_drop_params") {
		if strings.ContainsAny(name, ".[] \t\n{}`\"") {
			c.note(params, "additional_drop_params", Changed, "`drop` removes whole members; %s is not removed", plainName(name))
			continue
		}
		to.drop = append(to.drop, name)
	}
	slices.Sort(to.drop)
	to.drop = slices.Compact(to.drop)
}

func (c *converter) addParam(to *server, params *section, f *field) {
	switch {
	case isSecret.MatchString(f.key) && f.value.kind == text && !strings.HasSuffix(f.key, "_tokens"):
		c.noteAt(f.at, params.pathOf(f.key), Ignored, "its value may be a secret, which requests should not carry; if it is not a secret, write `params` by hand")
		f.noted = true
	case strings.ContainsAny(f.key, " \t\r\n{}`\"") || f.key == "":
		c.noteAt(f.at, params.pathOf(f.key), Ignored, "a member of a request cannot have this name here")
	case environ.MatchString(f.value.json()):
		c.noteAt(f.at, params.pathOf(f.key), Ignored, "`params` takes no value from the environment; write the value into the Caddyfile")
		f.noted = true
	case strings.Contains(f.value.json(), "{$"):
		c.noteAt(f.at, params.pathOf(f.key), Ignored, "the value contains {$, which Caddy replaces; write it into the Caddyfile by hand")
		f.noted = true
	default:
		to.params = slices.DeleteFunc(to.params, func(p [2]string) bool { return p[0] == f.key })
		to.params = append(to.params, [2]string{f.key, f.value.json()})
	}
}

// read reads what belongs to the deployment alone, its timeouts and its slots.
func (d *deployment) read(params, info *section, s *settings) {
	d.order = params.count("order")
	for key, to := range map[string]**float64{"weight": &d.weight, "rpm": &d.rpm, "tpm": &d.tpm} {
		if n, ok := params.number(key); ok {
			*to = &n
		}
	}
	d.server.timeouts = timeouts{whole: cmp.Or(params.seconds("timeout"), params.seconds("request_timeout")), stream: params.seconds("stream_timeout")}.or(s.timeouts)
	if d.server.concurrent = cmp.Or(params.count("max_parallel_requests"), s.maxParallel); d.server.concurrent > 0 {
		d.server.alone = d.model
	}
	d.context = info.count("max_input_tokens")
	for _, f := range []struct{ key, feature string }{
		{"supports_function_calling", "tools"}, {"supports_vision", "images"}, {"supports_audio_input", "audio"}, {"supports_response_schema", "json_schema"},
	} {
		switch {
		case !info.has(f.key):
		case info.flag(f.key):
			d.can = append(d.can, f.feature)
		default:
			d.cannot = append(d.cannot, f.feature)
		}
	}
	d.readPrice(params, info)
}

// million is how many tokens or characters a price of a Caddyfile is for.
const million = 1e6

// readPrice reads what the deployment costs. What litellm_params says precedes model_info.
func (d *deployment) readPrice(params, info *section) {
	cost := func(key string) (float64, bool) {
		a, inParams := params.number(key)
		b, inInfo := info.number(key)
		if inParams {
			return a, true
		}
		return b, inInfo
	}
	line := func(name, key string, times float64) {
		if n, ok := cost(key); ok {
			d.price.lines, d.price.set = append(d.price.lines, [2]string{name, usd(n * times)}), true
		}
	}
	input, in := cost("input_cost_per_token")
	output, out := cost("output_cost_per_token")
	d.price = price{input: input * million, output: output * million, set: in || out}
	line("cached", "cache_read_input_token_cost", million)
	line("cache_write", "cache_creation_input_token_cost", million)
	line("cache_write_hour", "cache_creation_input_token_cost_above_1hr", million)
	line("reasoning", "output_cost_per_reasoning_token", million)
	line("audio_input", "input_cost_per_audio_token", million)
	line("audio_output", "output_cost_per_audio_token", million)
	inSecond, _ := cost("input_cost_per_second")
	outSecond, _ := cost("output_cost_per_second")
	if n := max(inSecond, outSecond); n > 0 {
		// For transcriptions, seconds are those of the audio; for servers of one's own, those of the answer.
		name, times := "per_hour", 3600.0
		if mode := info.find("mode"); mode != nil && mode.value.text == "audio_transcription" {
			name, times = "per_minute", 60
		}
		d.price.lines, d.price.set = append(d.price.lines, [2]string{name, usd(n * times)}), true
	}
	line("per_million_characters", "input_cost_per_character", million)
	if _, ok := cost("output_cost_per_image"); ok {
		line("per_image", "output_cost_per_image", 1)
		cost("input_cost_per_image")
	} else {
		line("per_image", "input_cost_per_image", 1)
	}
	line("per_search", "input_cost_per_query", 1)
	line("per_request", "input_cost_per_request", 1)
}

// usd returns an amount without the noise of a multiplication.
func usd(n float64) string {
	text := strconv.FormatFloat(n, 'f', 9, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// cost returns what a million input and output tokens cost together, for cost-based routing. LiteLLM assumes a high price where none is known.
func (d *deployment) cost() float64 {
	if d.price.set {
		return d.price.input + d.price.output
	}
	return math.Inf(1)
}

// words returns the price line of a target, and the lines of its block.
func (p price) words(target string) (words []string, block [][2]string) {
	words = []string{"price", target}
	if p.input > 0 || p.output > 0 || len(p.lines) == 0 {
		words = append(words, usd(p.input), usd(p.output))
	}
	if len(p.lines) == 1 && p.lines[0][0] == "cached" && len(words) > 2 {
		return append(words, p.lines[0][1]), nil
	}
	return words, p.lines
}
