package llmproxy

import (
	"crypto/tls"
	"errors"
	"net/url"
	"time"

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

// newRedis makes the client of a server, of Sentinel's, or of a cluster. Trust is for TLS; nil for the system's authorities.
func newRedis(address string, trust *tls.Config) (redis.UniversalClient, error) {
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
