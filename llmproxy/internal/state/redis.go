package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The waits for a shared server. What a request waits for has a shorter deadline of its own, in its context.
const (
	redisDial   = time.Second
	redisAnswer = 500 * time.Millisecond
	redisPool   = 50 * time.Millisecond
)

// The library's own errors may hold the address, and it a password.
var (
	errNoAddress    = errors.New("not an address such as redis://10.0.0.3:6379; in a user and a password, only letters, digits and -._~ stand for themselves, others are percent-encoded")
	errWrongAddress = errors.New("the address is none that the client of Redis understands: redis://user:password@host:6379/0?option=value")
	errNoTLS        = errors.New("tls is given, and the address does not begin with rediss://")
)

// NewRedis returns the client of a server, of Sentinel's, or of a cluster. Trust is for TLS; nil for the system's authorities.
func NewRedis(address string, trust *tls.Config) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return nil, errNoAddress
	case trust != nil && u.Scheme != "rediss":
		return nil, errNoTLS
	case u.Query().Has("master_name"):
		return newSentinelRedis(address, trust)
	case u.Query().Has("addr"):
		return newClusterRedis(address, trust)
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errWrongAddress
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = trusting(trust, o.TLSConfig, u.Hostname())
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}

func newSentinelRedis(address string, trust *tls.Config) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(address)
	if err != nil {
		return nil, errWrongAddress
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = trusting(trust, o.TLSConfig, "")
	return redis.NewFailoverClient(o), nil
}

func newClusterRedis(address string, trust *tls.Config) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, errWrongAddress
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.TLSConfig = trusting(trust, o.TLSConfig, "")
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClusterClient(o), nil
}

// trusting gives what TLS needs; nil without it. A server's certificate is for the name given, or for that configured, or
// for the address at which it is found: servers that others tell of have each their own.
func trusting(trust, parsed *tls.Config, host string) *tls.Config {
	if parsed == nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: parsed.InsecureSkipVerify}
	if trust != nil {
		c = trust.Clone()
		c.InsecureSkipVerify = c.InsecureSkipVerify || parsed.InsecureSkipVerify
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}

// redisLog takes what the client library would write to the standard error, such as a line for each connection that fails.
type redisLog struct{}

// Printf implements the library's interface.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("http.handlers.llm_proxy.state").Debug(fmt.Sprintf(format, args...))
}

// SetLog takes what the client library would write to the standard error.
func SetLog() { redis.SetLogger(redisLog{}) }

// reach is how a server is reached: its address, and what is trusted there, as JSON.
type reach struct{ address, tls string }

// Redis returns the client of the server at an address; nothing is dialled before it is used. Trust describes what TLS needs,
// and build makes it, if no handler has a client of the same server yet.
func Redis(c *Closer, address, trust string, build func() (*tls.Config, error)) (redis.UniversalClient, error) {
	how := reach{address, trust}
	client, err := Acquire(RedisClients, how, func() (redis.UniversalClient, error) {
		config, err := build()
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		return NewRedis(address, config)
	}, redis.UniversalClient.Close)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	c.AddLasting(func() { RedisClients.Release(how) })
	return client, nil
}
