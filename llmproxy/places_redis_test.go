//go:build redis

package llmproxy

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const (
	redisUser     = "caddy"
	redisPassword = "p@ss/w?rd#%20"
)

// redisRules are what docs/shared-state.md says that a user needs.
var redisRules = []string{"~llm_proxy:*", "+@all", "-@dangerous"}

// A place is where facts are shared, as the state subdirective names it.
type place struct{ address, block string }

func (p place) String() string { return "state " + p.address + p.block }

// places are the ways to run servers.
var places = map[string]func(*testing.T) place{
	"redis": func(t *testing.T) place { return place{address: redistest.Start(t).URL() + "/3"} },
	"valkey": func(t *testing.T) place {
		return place{address: redistest.Setup{Binary: "valkey-server"}.Start(t).URL()}
	},
	"socket": func(t *testing.T) place {
		socket := filepath.Join(t.TempDir(), "redis.sock")
		redistest.Setup{Args: []string{"--unixsocket", socket}}.Start(t)
		return place{address: "unix://" + socket}
	},
	"user": func(t *testing.T) place {
		t.Setenv("REDIS_PASSWORD", redisPassword)
		s := redistest.Setup{User: redisUser, Password: redisPassword, Rules: redisRules}.Start(t)
		return place{address: "redis://caddy:{env.REDIS_PASSWORD}@" + s.Address}
	},
	"user, whole address in a file": func(t *testing.T) place {
		s := redistest.Setup{User: redisUser, Password: redisPassword, Rules: redisRules}.Start(t)
		file := filepath.Join(t.TempDir(), "redis_url")
		if err := os.WriteFile(file, []byte(s.URL()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return place{address: "{file." + file + "}"}
	},
	"TLS": func(t *testing.T) place {
		a := redistest.NewAuthority(t)
		s := redistest.Setup{TLS: a, User: redisUser, Password: redisPassword, Rules: redisRules, Args: []string{"--tls-auth-clients", "no"}}.Start(t)
		t.Setenv("REDIS_PASSWORD", redisPassword)
		return place{"rediss://caddy:{env.REDIS_PASSWORD}@" + s.Address, " {\n\t\t\ttls_trust_pool file " + a.CA + "\n\t\t}"}
	},
	"TLS with a client's certificate": func(t *testing.T) place {
		a := redistest.NewAuthority(t)
		return place{redistest.Setup{TLS: a, Binary: "valkey-server"}.Start(t).URL(), withTLS(a)}
	},
	"cluster": func(t *testing.T) place {
		_, url := redistest.Setup{}.StartCluster(t)
		return place{address: url}
	},
	"cluster of Valkey with TLS": func(t *testing.T) place {
		a := redistest.NewAuthority(t)
		_, url := redistest.Setup{Binary: "valkey-server", TLS: a}.StartCluster(t)
		return place{url, withTLS(a)}
	},
	"sentinel": func(t *testing.T) place { return place{address: redistest.Setup{}.StartPair(t).URL} },
	"sentinel of Valkey with TLS": func(t *testing.T) place {
		a := redistest.NewAuthority(t)
		return place{redistest.Setup{Binary: "valkey-server", TLS: a}.StartPair(t).URL, withTLS(a)}
	},
}

func withTLS(a *redistest.Authority) string {
	return " {\n\t\t\ttls_trust_pool file " + a.CA + "\n\t\t\ttls_client_auth " + a.Certificate + " " + a.Key + "\n\t\t}"
}

// client is that of another Caddy with the same configuration.
func (p place) client(t *testing.T) redis.UniversalClient {
	t.Helper()
	var h Handler
	d := caddyfile.NewTestDispenser(p.String())
	d.Next()
	if err := parseState(d, &h); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	var trust *tls.Config
	if h.State.TLS != nil {
		var err error
		if trust, err = h.State.TLS.MakeTLSClientConfig(ctx); err != nil {
			t.Fatal(err)
		}
	}
	client, err := state.NewRedis(state.ExpandAddress(caddy.NewReplacer(), p.address), trust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
