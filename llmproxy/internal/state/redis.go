package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The timeouts of the client. Requests that wait for the server have a shorter deadline of their own, in their context.
const (
	redisDialTimeout   = time.Second
	redisAnswerTimeout = 500 * time.Millisecond
	redisPoolTimeout   = 50 * time.Millisecond
)

// Errors of the client library may quote the address, and with it a password. These errors replace them.
var (
	errInvalidAddress = errors.New("invalid address; use redis://user:password@host:6379/0, rediss:// or unix://, and percent-encode all characters of the user and password except letters, digits and -._~")
	errInvalidOption  = errors.New("invalid address or option; use redis://user:password@host:6379/0?option=value with the options of go-redis")
	errTLSWithout     = errors.New("tls options need an address that begins with rediss://")
)

// Redis returns the client of the server at an address. It dials when it is first used. The tlsID identifies the configuration
// that makeTLS returns: handlers with the same address and the same tlsID share a client.
func Redis(c *Closer, address, tlsID string, makeTLS func() (*tls.Config, error)) (redis.UniversalClient, error) {
	type server struct{ address, tls string }
	client, err := Acquire(c.AddLasting, RedisClients, server{address, tlsID}, func() (redis.UniversalClient, error) {
		config, err := makeTLS()
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		return NewRedis(address, config)
	})
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return client, nil
}

// CheckAddress reports an address that NewRedis does not accept, with options for TLS or without.
func CheckAddress(address string, withTLS bool) error {
	var config *tls.Config
	if withTLS {
		config = new(tls.Config)
	}
	client, err := NewRedis(address, config)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return client.Close() // it has not dialed
}

// NewRedis returns the client of a server, of Sentinel, or of a cluster. Config is for TLS; if it is nil, the
// system's certificate authorities are used.
func NewRedis(address string, config *tls.Config) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return nil, errInvalidAddress
	case config != nil && u.Scheme != "rediss":
		return nil, errTLSWithout
	case u.Query().Has("master_name"):
		return newSentinelRedis(address, config)
	case u.Query().Has("addr"):
		return newClusterRedis(address, config)
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errInvalidOption
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDialTimeout, redisAnswerTimeout, redisAnswerTimeout, redisPoolTimeout
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = mergeTLS(config, o.TLSConfig, u.Hostname())
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

func newSentinelRedis(address string, config *tls.Config) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(address)
	if err != nil {
		return nil, errInvalidOption
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDialTimeout, redisAnswerTimeout, redisAnswerTimeout, redisPoolTimeout
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = mergeTLS(config, o.TLSConfig, "")
	return redis.NewFailoverClient(o), nil
}

func newClusterRedis(address string, config *tls.Config) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, errInvalidOption
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDialTimeout, redisAnswerTimeout, redisAnswerTimeout, redisPoolTimeout
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = mergeTLS(config, o.TLSConfig, "")
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClusterClient(o), nil
}

// mergeTLS merges the configured TLS with that of the parsed address, which is nil without TLS. A certificate must be for the
// configured server name, else for the host. With Sentinel and clusters, which announce other servers, the host is empty and
// each certificate must be for the address of its own server.
func mergeTLS(configured, parsed *tls.Config, host string) *tls.Config {
	if parsed == nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: parsed.InsecureSkipVerify}
	if configured != nil {
		c = configured.Clone()
		c.InsecureSkipVerify = c.InsecureSkipVerify || parsed.InsecureSkipVerify
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}

// LogRedis sends the messages of the client library to Caddy's log, at level debug, instead of the standard error. The
// library logs each connection that fails.
func LogRedis() { redis.SetLogger(redisLog{}) }

type redisLog struct{}

// Printf implements the library's interface.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("http.handlers.llm_proxy.state").Debug(fmt.Sprintf(format, args...))
}

// placeholder matches a placeholder in an address.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// ExpandAddress replaces the placeholders of an address. A placeholder may stand for a part of the address or for all of it.
// In the user, the password and the options, where any character may occur, its value is percent-encoded.
func ExpandAddress(r *caddy.Replacer, address string) string {
	// The placeholders are masked, because their characters must not be taken for parts of the address.
	masked := placeholder.ReplaceAllStringFunc(address, func(p string) string { return strings.Repeat("x", len(p)) })
	from := strings.Index(masked, "://") + len("://")
	if from < len("://") {
		return WithoutMark(r.ReplaceKnown(address, ""))
	}
	options := len(masked)
	if i := strings.IndexByte(masked[from:], '?'); i >= 0 {
		options = from + i
	}
	host := from + strings.LastIndexByte(masked[from:options], '@') + 1
	return WithoutMark(r.ReplaceKnown(address[:from], "") + expandEncoded(r, address[from:host]) +
		r.ReplaceKnown(address[host:options], "") + expandEncoded(r, address[options:]))
}

// WithoutMark removes the byte order mark that a placeholder such as {file./run/secrets/key} takes over from a file. It may be anywhere
// in the text, because the placeholder may be.
func WithoutMark(text string) string { return strings.ReplaceAll(text, "\ufeff", "") }

// expandEncoded replaces placeholders by their percent-encoded values.
func expandEncoded(r *caddy.Replacer, text string) string {
	text, _ = r.ReplaceFunc(text, func(_ string, value any) (any, error) { // it fails only if the function does
		return strings.ReplaceAll(url.QueryEscape(WithoutMark(fmt.Sprint(value))), "+", "%20"), nil
	})
	return text
}

// HasPlainPassword reports whether an address holds a password, or a part of one, in plain text.
func HasPlainPassword(address string) bool {
	u, err := url.Parse(placeholder.ReplaceAllString(address, ""))
	if err != nil {
		return false
	}
	password, _ := u.User.Password()
	return password != "" || u.Query().Get("password") != ""
}
