package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// ParseAddress returns the base URL of the API at an upstream's address. The default scheme is http, or https for port 443 and for
// known services, whatever scheme is written, because they serve nothing else. The default path is the service's, or the kind's, such
// as /v1. An address with a path is the base as SDKs know it, such as https://api.groq.com/openai/v1.
//
// Errors quote the address only if it cannot be an API key.
func (k *Kind) ParseAddress(address string) (*url.URL, error) {
	if err := k.mistakeIn(address); err != nil {
		return nil, err
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the address again
		}
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), "80"))
	switch {
	case err != nil || port < 1 || port > 65535:
		return nil, fmt.Errorf("address %q: invalid port %s; use 1 to 65535", address, u.Port())
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("address %q: unknown scheme %q; use http or https", address, u.Scheme)
	case u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("address %q has no host; write one, such as http://127.0.0.1:%s", address, cmp.Or(u.Port(), "8000"))
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("address %q: a base URL has no query and no fragment", address)
	}
	s := serviceAt(u.Hostname())
	if s != nil || u.Port() == "443" {
		u.Scheme = "https"
		u.Host = strings.TrimSuffix(strings.TrimSuffix(u.Host, ":443"), ":80")
	}
	u.Path, u.RawPath, u.ForceQuery = strings.TrimRight(u.Path, "/"), "", false
	if err := k.checkPath(u, s); err != nil {
		return nil, err
	}
	if u.Path == "" && s != nil {
		u.Path = s.base
	}
	u.Path = cmp.Or(u.Path, k.basePath)
	return u, nil
}

// A service is a hosted API.
type service struct {
	host string // a leading dot stands for any subdomain
	base string // the path of the base URL, or "" if it is not known
}

// services are served over https only.
var services = []service{
	{"api.openai.com", "/v1"}, {"api.anthropic.com", "/v1"}, {"generativelanguage.googleapis.com", "/v1beta/openai"},
	{"api.mistral.ai", "/v1"}, {"codestral.mistral.ai", "/v1"}, {"api.deepseek.com", "/v1"}, {"api.groq.com", "/openai/v1"},
	{"api.x.ai", "/v1"}, {"api.together.xyz", "/v1"}, {"api.together.ai", "/v1"}, {"api.fireworks.ai", "/inference/v1"},
	{"api.cerebras.ai", "/v1"}, {"openrouter.ai", "/api/v1"}, {"api.perplexity.ai", ""}, {"api.cohere.com", ""}, {"api.cohere.ai", ""},
	{"api.moonshot.ai", "/v1"}, {"api.sambanova.ai", "/v1"}, {"integrate.api.nvidia.com", "/v1"}, {"router.huggingface.co", "/v1"},
	{"api.deepinfra.com", "/v1/openai"}, {"api.novita.ai", ""}, {"dashscope.aliyuncs.com", "/compatible-mode/v1"},
	{"dashscope-intl.aliyuncs.com", "/compatible-mode/v1"}, {"api.minimax.io", "/v1"}, {"api.hyperbolic.xyz", "/v1"},
	{"api.voyageai.com", "/v1"}, {"api.jina.ai", "/v1"}, {"ollama.com", "/v1"}, {"models.github.ai", ""},
	{".openai.azure.com", "/openai/v1"}, {".services.ai.azure.com", "/openai/v1"}, {".cognitiveservices.azure.com", ""},
	{".models.ai.azure.com", ""}, {".googleapis.com", ""}, {".proxy.runpod.net", ""}, {".modal.run", ""},
	{".endpoints.huggingface.cloud", ""},
}

// serviceAt returns the service at a host, or nil.
func serviceAt(host string) *service {
	host = strings.ToLower(host)
	for i := range services {
		s := &services[i]
		if host == s.host || s.host[0] == '.' && strings.HasSuffix(host, s.host) {
			return s
		}
	}
	return nil
}

var (
	onlyPort     = regexp.MustCompile(`^:?(\d{1,5})([/?#].*)?$`)
	variable     = regexp.MustCompile(`^(?:os\.environ/|\$\{?|%)([A-Za-z_][A-Za-z0-9_]*)[}%]?`)
	placeholder  = regexp.MustCompile(`\{[^{}]*\}`)
	missingSlash = regexp.MustCompile(`^(https?):/?[^/]`)
	// keyForms are how API keys of services begin.
	keyForms = regexp.MustCompile(`^(Bearer\b|sk-|sk_|gsk_|xai-|hf_|pplx-|nvapi-|r8_|AIza|fw_|csk-|tgp_)`)
	longWord = regexp.MustCompile(`^[A-Za-z0-9_-]{24,}$`)
)

// looksLikeKey reports whether a text is an API key rather than an address.
func looksLikeKey(text string) bool {
	return !strings.ContainsAny(text, "./:") && keyForms.MatchString(text) || longWord.MatchString(text) && strings.ContainsAny(text, "0123456789") && strings.ToLower(text) != text
}

// mistakeIn reports what was probably meant by text that is not an address.
func (k *Kind) mistakeIn(address string) error {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		scheme, rest = "", address
	}
	host, path, _ := strings.Cut(rest, "/")
	switch name := variable.FindStringSubmatch(address); {
	case strings.Contains(host, "@"):
		return fmt.Errorf("the address of host %s contains a password; use api_key or header_up", host[strings.LastIndexByte(host, '@')+1:])
	case strings.TrimSpace(address) == "":
		return errors.New("the address is empty; if it is a placeholder, set its value in Caddy's environment")
	case looksLikeKey(rest):
		return errors.New("there is an API key where an address is expected; write it in the block of the upstream, such as `api_key {env.NAME}`")
	case strings.HasPrefix(address, "unix/") || strings.HasPrefix(address, "unix+") || scheme == "unix":
		return fmt.Errorf("address %q: Unix sockets are not supported; let the server listen on 127.0.0.1", address)
	case name != nil:
		return fmt.Errorf("address %q: write the environment variable as {env.%s}", address, name[1])
	case placeholder.MatchString(address):
		return fmt.Errorf("address %q: unknown placeholder; write an environment variable as {env.NAME}", address)
	case strings.Contains(address, ","):
		return fmt.Errorf("address %q contains a comma; separate addresses with spaces only", address)
	case strings.ContainsAny(address, " \t\r\n"):
		return fmt.Errorf("address %q contains white space; remove it", address)
	case onlyPort.MatchString(rest):
		port := onlyPort.FindStringSubmatch(rest)
		return fmt.Errorf("address %q is only a port; write the host, too, such as 127.0.0.1:%s", address, port[1])
	case missingSlash.MatchString(address) && scheme == "":
		correct := missingSlash.FindStringSubmatch(address)[1]
		return fmt.Errorf("address %q: write %s://%s", address, correct, strings.TrimLeft(address[len(correct):], ":/"))
	case strings.HasPrefix(rest, "http://") || strings.HasPrefix(rest, "https://"):
		return fmt.Errorf("address %q has two schemes; remove one", address)
	}
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		return bareIPv6(address, host, path)
	}
	return nil
}

// bareIPv6 reports an IPv6 address without brackets. Its last group may be meant as a port.
func bareIPv6(address, host, path string) error {
	correct := "[" + host + "]"
	if i := strings.LastIndexByte(host, ':'); len(host)-i > 4 { // four digits may be a group or a port
		if _, err := netip.ParseAddr(host[:i]); err == nil {
			correct = "[" + host[:i] + "]" + host[i:]
		}
	}
	if path != "" {
		correct += "/" + path
	}
	return fmt.Errorf("address %q: write an IPv6 address in brackets, such as http://%s", address, correct)
}

// endpointPaths are the ends of URLs of endpoints, which are not bases. The longest ones come first.
var endpointPaths = []string{
	"/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models", "/rerank", "/moderations", "/audio/speech",
	"/images/generations", "/api/chat", "/api/generate", "/api/tags", "/api/embed", "/api/embeddings", "/api/show", "/api/version", "/api/ps",
}

// ollamaPort is the usual port of Ollama.
const ollamaPort = "11434"

// checkPath reports a path that is not that of a base URL.
func (k *Kind) checkPath(u *url.URL, s *service) error {
	correct := func(path string) string { return u.Scheme + "://" + u.Host + path }
	path := u.Path
	for _, end := range endpointPaths {
		base, ok := strings.CutSuffix(path, end)
		if !ok {
			continue
		}
		if s != nil && base == "" {
			base = s.base
		}
		return fmt.Errorf("address %q is the URL of an endpoint; write the base URL, %s", u, correct(base))
	}
	// Some servers do have their API at /api, Open WebUI for example. Ollama has it there in a format of its own.
	if path == "/api" {
		switch {
		case s != nil && s.base != "":
			return fmt.Errorf("address %q is not a base URL; write %s", u, correct(s.base))
		case k != OpenAI || u.Port() == ollamaPort:
			return fmt.Errorf("address %q is not a base URL; write %s", u, correct(""))
		}
	}
	return nil
}

// localSuffixes are those of names that are resolved in a private network only.
var localSuffixes = []string{
	".localhost", ".local", ".localdomain", ".lan", ".internal", ".intranet", ".private", ".corp", ".home", ".home.arpa", ".test",
	".svc", ".cluster.local", ".consul", ".ts.net",
}

// sharedAddresses are those of carriers' networks, which Tailscale uses, too.
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

// IsDummyKey reports whether an API key is one of those that people write for servers that need no key, so that it is no secret.
func IsDummyKey(key string) bool {
	switch strings.ToLower(key) {
	case "unset", "none", "empty", "dummy", "ollama", "no-key", "not-needed", "unused", "null", "x", "-", "sk-no-key-required":
		return true
	}
	return false
}

// IsPrivate reports whether a host is in a private network, as far as that is known without resolving its name.
func IsPrivate(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap()
		return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast() || address.IsUnspecified() || sharedAddresses.Contains(address)
	}
	if !strings.Contains(host, ".") { // such as localhost, or the name of a container
		return true
	}
	for _, suffix := range localSuffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}
