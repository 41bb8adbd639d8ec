package litellm

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
)

// callTypes are the endpoints of LiteLLM's call types.
var callTypes = map[string]string{
	"completion": "chat", "text_completion": "completions", "embedding": "embeddings", "rerank": "rerank", "responses": "responses", "moderation": "moderations",
}

// writeCache writes the cache, and the server that it is in.
func (c *converter) writeCache(to *draft.Block, s *section) {
	params := s.inner("cache_params", "cache_params")
	on := s.flag("cache")
	if !on {
		if s.has("cache_params") {
			c.note(s, "cache_params", Ignored, "the cache is off, because `cache` is not true")
			for _, f := range params.fields {
				f.noted, f.leftOut = true, true
			}
		}
		return
	}
	kind := params.text("type")
	switch {
	case strings.Contains(kind, "semantic"):
		c.note(params, "type", Ignored, "there is no semantic cache: a request is answered from the cache if it is the same. To have such a cache, write `cache`")
		return
	case params.text("mode") == "default_off":
		c.note(params, "mode", Ignored, "a cache that requests have to ask for is not possible; with `cache`, all requests use it, and `Cache-Control: no-store` keeps one out")
		return
	}
	inRedis := false
	switch kind {
	case "local", "disk":
	case "redis", "":
		inRedis = c.writeState(to, params, kind)
	default:
		c.note(params, "type", Changed, "answers are stored in memory")
	}
	words := []string{"cache"}
	if name := params.text("namespace"); cacheName.MatchString(name) {
		words = append(words, name)
	} else if name != "" {
		c.note(params, "namespace", Changed, "the name of a cache has letters, digits, - and _ only")
	}
	block := to.Block(words...)
	ttl := params.seconds("ttl")
	for _, key := range []string{"default_in_redis_ttl", "default_in_memory_ttl", "default_ttl"} {
		if other := params.seconds(key); ttl == 0 {
			ttl = other
		}
	}
	if ttl == 0 && !inRedis {
		ttl = 10 * time.Minute // LiteLLM's default in memory
	}
	if ttl >= time.Second {
		block.Line("ttl", short(ttl))
	}
	block.Comment("All clients share answers, as in LiteLLM. Without this line, each key has its own.")
	block.Line("scope", "site")
	c.writeEndpoints(block, params)
}

var cacheName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c *converter) writeEndpoints(to *draft.Block, params *section) {
	var names []string
	for _, call := range params.texts("supported_call_types") {
		name := cmp.Or(callTypes[call], callTypes[strings.TrimPrefix(call, "a")]) // acompletion is completion
		switch {
		case name == "":
			c.note(params, "supported_call_types", Changed, "answers of the call type %s are not stored", plainName(call))
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		to.Line(append([]string{"endpoints"}, names...)...)
	}
}

// writeState writes the Redis server of the cache. It returns false if the YAML does not say where that is.
func (c *converter) writeState(to *draft.Block, params *section, kind string) bool {
	address := ""
	password := params.credential("password", "REDIS_PASSWORD")
	host, port := params.text("host"), params.text("port")
	user, number := params.text("username"), params.text("db")
	scheme := "redis"
	if params.flag("ssl") {
		scheme = "rediss"
	}
	login := ""
	if password != "" {
		login = url.PathEscape(user) + ":" + password + "@"
		if strings.HasPrefix(user, "{") {
			login = user + ":" + password + "@"
		}
	}
	switch {
	case params.has("url"):
		address = c.redisURL(params)
	case params.has("sentinel_nodes"):
		address = c.sentinels(params, scheme, login)
	case params.has("redis_startup_nodes"):
		address = c.cluster(params, scheme, login)
	case host != "" && !(redisHost.MatchString(host) && redisPort.MatchString(port) && redisPort.MatchString(number)):
		c.note(params, "host", Ignored, "the host, the port or the number of the database is not one")
	case host != "":
		if port == "" {
			port = "6379"
		}
		if strings.HasPrefix(host, "{") || strings.HasPrefix(port, "{") {
			address = scheme + "://" + login + host + ":" + port
		} else {
			address = scheme + "://" + login + net.JoinHostPort(host, port)
		}
		if number != "" && number != "0" {
			address += "/" + number
		}
	}
	if address == "" {
		if kind == "" {
			c.noteAt(params.at, "litellm_settings.cache", Changed,
				"answers are stored in memory. LiteLLM stores them in the Redis server that REDIS_HOST names; to share them among several Caddys, write `state redis://:{env.REDIS_PASSWORD}@{env.REDIS_HOST}:{env.REDIS_PORT}`")
		} else {
			c.note(params, "type", Changed,
				"answers are stored in memory, because the YAML does not say where Redis is; to share them among several Caddys, write `state redis://:{env.REDIS_PASSWORD}@{env.REDIS_HOST}:{env.REDIS_PORT}`")
		}
		return false
	}
	c.note(params, "type", Changed, "Redis is `state`, which also shares limits, keys and usage with other Caddys; stored answers of LiteLLM are not used")
	to.Line("state", address)
	return true
}

var (
	redisHost = regexp.MustCompile(`^(\{env\.\w+\}|[A-Za-z0-9._:-]+)$`)
	redisPort = regexp.MustCompile(`^(\{env\.\w+\}|[0-9]{0,5})$`)
)

// redisURL returns the address of a Redis server. One with a password is expected in the environment.
func (c *converter) redisURL(params *section) string {
	v := params.find("url").value
	if u, err := url.Parse(v.text); err == nil && u.User == nil && !environ.MatchString(v.text) {
		return params.text("url")
	}
	return params.credential("url", "REDIS_URL")
}

// nodes returns the addresses in a list of pairs, or of objects with host and port.
func nodes(v *value) (list []string) {
	for _, n := range v.list {
		host, port := "", ""
		switch {
		case len(n.list) == 2:
			host, port = n.list[0].text, n.list[1].text
		case n.find("host") != nil && n.find("port") != nil:
			host, port = n.find("host").value.text, n.find("port").value.text
		}
		if host == "" || port == "" || strings.ContainsAny(host+port, " \t\r\n{}`\"/?&#@") {
			return nil
		}
		list = append(list, net.JoinHostPort(host, port))
	}
	return list
}

func (c *converter) sentinels(params *section, scheme, login string) string {
	list := nodes(params.take("sentinel_nodes"))
	name := params.text("service_name")
	sentinelPassword := params.credential("sentinel_password", "REDIS_SENTINEL_PASSWORD")
	if len(list) == 0 || name == "" {
		params.wrongType("sentinel_nodes", "a list of hosts and ports")
		return ""
	}
	address := scheme + "://"
	if sentinelPassword != "" {
		address += ":" + sentinelPassword + "@"
	}
	address += list[0] + "/0?master_name=" + url.QueryEscape(name)
	for _, n := range list[1:] {
		address += "&addr=" + n
	}
	if _, password, ok := strings.Cut(strings.TrimSuffix(login, "@"), ":"); ok {
		address += "&password=" + password
	}
	return address
}

func (c *converter) cluster(params *section, scheme, login string) string {
	list := nodes(params.take("redis_startup_nodes"))
	if len(list) == 0 {
		params.wrongType("redis_startup_nodes", "a list of hosts and ports")
		return ""
	}
	address := scheme + "://" + login + list[0]
	for i, n := range list[1:] {
		separator := "&"
		if i == 0 {
			separator = "?"
		}
		address += separator + "addr=" + n
	}
	return address
}
