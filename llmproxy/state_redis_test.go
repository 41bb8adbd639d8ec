//go:build redis

package llmproxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/redislimit"
)

// However the servers are run, two Caddys share keys, limits, usage and answers there.
func TestStateIsShared(t *testing.T) {
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			where, fake := start(t), fakellm.Start(t, "openai")
			there := where.client(t)
			caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u/real\n\t\trequire_key\n\t\tcache\n\t\t"+where.String()+"\n\t}")
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			err := keystore.NewRedis(there).Change(func(list []*keys.Entry) ([]*keys.Entry, error) {
				return append(list, &keys.Entry{Name: "alice", Secret: keys.Digest("secret-alice"), Limits: keys.Limits{Rate: []string{"5/d"}, Concurrent: 2}}), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the key is not known", func() bool { return status(t, url, "secret-alice") == http.StatusOK })
			limits := redislimit.New(there, redislimit.Config{})
			defer limits.Close()
			eventually(t, "the two do not hear of each other", func() bool { return there.ZCard(t.Context(), "llm_proxy:{limits}:present").Val() == 2 })
			rate, err := ratelimit.ParseRate(ratelimit.Requests, "5/d")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				one := ratelimit.Reservation{Limits: ratelimit.New("key/alice", []ratelimit.Rule{rate})}
				if err := limits.Take(t.Context(), &one); err != nil || one.Denied != nil {
					t.Fatal(err, one.Denied)
				}
			}
			var got []string
			for _, question := range []string{"one", "two", "three", "four"} {
				got = append(got, asAlice(t, url, question))
			}
			if diff := cmp.Diff([]string{"200 miss", "200 miss", "200 miss", "429 "}, got); diff != "" {
				t.Error(diff)
			}
			usage := ledger.NewShared(there, nil)
			defer usage.Close()
			usage.Add(ledger.Usage{Key: "bob", Model: "m", Target: "u/real", At: time.Now(), Sums: ledger.Sums{Requests: 1}})
			if err := usage.Flush(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]int64{"m": 4}, used(t)); diff != "" {
				t.Error("usage:", diff)
			}
			answers, found := caching.NewRedis(there, "default"), 0
			eventually(t, "answers are not kept", func() bool {
				n, err := answers.Purge(t.Context(), "m")
				if found += n; err != nil {
					t.Fatal(err)
				}
				return found == 3
			})
			answers.Put("m", []caching.Item{{Value: []byte("kept")}}, time.Hour)
			eventually(t, "an answer is not found", func() bool {
				return string(answers.Get(t.Context(), "m", make([]caching.Key, 1))[0]) == "kept"
			})
		})
	}
}

// A reload takes up what a file says now, and drops what nobody uses any more.
func TestStateIsReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "redis_url")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t\tcache\n\t\tlimit {\n\t\t\trate 1/d\n\t\t}\n\t\tstate {file."+file+"}\n\t}")
	for _, server := range []*redistest.Server{redistest.Start(t), redistest.Start(t)} {
		if err := os.WriteFile(file, []byte(server.URL()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load(t, caddyfile); err != nil {
			t.Fatal(err)
		}
		client := server.Client(t)
		eventually(t, "Caddy does not come", func() bool { return client.ZCard(t.Context(), "llm_proxy:{limits}:present").Val() == 1 })
		for _, want := range []int{200, 429} {
			if res, body, _ := answer(t, url); res.StatusCode != want {
				t.Errorf("status %d, want %d: %s", res.StatusCode, want, body)
			}
		}
	}
	for name, pool := range map[string]*state.Pool{"clients": state.RedisClients, "limits": state.Limits, "caches": state.CacheServers} {
		eventually(t, name+" of the old server are kept", func() bool { return pool.Len() == 1 })
	}
}

// The password appears nowhere, whether it is right or wrong, whether the server is there, away or not understood; a plain one
// is warned of.
func TestStatePasswordAppearsNowhere(t *testing.T) {
	const secret = "s3cret/p@ss"
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("REDIS_PASSWORD", secret)
	server := redistest.Setup{User: redisUser, Password: secret}.Start(t)
	away := redistest.Setup{User: redisUser, Password: secret}.Start(t)
	away.Down()
	pair := redistest.Setup{}.StartPair(t)
	warning := "the password of the shared state is written in the configuration"
	for _, test := range []struct {
		name, address, says string
		status              int
	}{
		{"right", "redis://caddy:{env.REDIS_PASSWORD}@" + server.Address, "", 200},
		{"wrong", "redis://caddy:{env.REDIS_PASSWORD}{env.REDIS_PASSWORD}@" + server.Address, "WRONGPASS", 503},
		{"away", "redis://caddy:{env.REDIS_PASSWORD}@" + away.Address, "connection refused", 503},
		{"plain", "redis://caddy:s3cret%2Fp%40ss@" + server.Address, warning, 200},
		{"plain and away", "redis://caddy:s3cret%2Fp%40ss@" + away.Address, warning, 503},
		{"of a sentinel that wants none", strings.Replace(pair.URL, "//", "//x:{env.REDIS_PASSWORD}@", 1), "", 503},
		{"of a pair that wants none", pair.URL + "&username=caddy&password={env.REDIS_PASSWORD}", "", 503},
		{"not understood", "redis://caddy:{env.REDIS_PASSWORD}@" + server.Address + "?unknown={env.REDIS_PASSWORD}", "", 0},
		{"not understood, plain", "redis://caddy:s3cret/p@ss@" + server.Address, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "all.log")
			caddyfile, url := site(t, "\tmetrics /metrics\n\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t\tcache\n\t\tlimit {\n\t\t\trate 100/d\n\t\t}\n\t\tstate "+test.address+"\n\t\ton_state_error deny\n\t}")
			caddyfile = strings.Replace(caddyfile, "{\n", "{\n\tlog {\n\t\toutput file "+log+"\n\t\tlevel debug\n\t}\n", 1)
			var seen bytes.Buffer
			err := load(t, caddyfile)
			fmt.Fprintln(&seen, err)
			if (err != nil) != (test.status == 0) {
				t.Fatal(err)
			}
			if err == nil {
				eventually(t, "requests are not answered as they must be", func() bool {
					res, body, _ := answer(t, url)
					fmt.Fprintln(&seen, res.Header, body)
					return res.StatusCode == test.status
				})
				for name := range scrape(t, url, "") {
					seen.WriteString(name + "\n")
				}
				for _, path := range []string{"/llm_proxy/keys", "/llm_proxy/usage", "/llm_proxy/upstreams", "/llm_proxy/cache"} {
					_, answer := callAdmin("GET", path, "")
					seen.WriteString(answer)
				}
				if err := caddy.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			logged, err := os.ReadFile(log)
			if err != nil && (test.status != 0 || !errors.Is(err, fs.ErrNotExist)) { // a Caddyfile that is refused opens no log
				t.Fatal(err)
			}
			seen.Write(logged)
			for _, part := range []string{secret, "s3cret", "p%40ss"} {
				if i := strings.Index(seen.String(), part); i >= 0 {
					t.Errorf("…%s…", seen.String()[max(0, i-200):min(seen.Len(), i+40)])
				}
			}
			if !strings.Contains(string(logged), test.says) {
				t.Errorf("the log does not say %q:\n%s", test.says, logged)
			}
			if plain := strings.Contains(string(logged), warning); plain != (test.says == warning) {
				t.Errorf("warned: %v", plain)
			}
		})
	}
}

// asAlice sends a question with Alice's key and returns the status and what the cache did.
func asAlice(t *testing.T, url, question string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"`+question+`"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret-alice")
	res := send(t, req)
	defer res.Body.Close()
	text(t, res)
	return strconv.Itoa(res.StatusCode) + " " + res.Header.Get("X-LLM-Cache")
}

// Where another server takes over, or all of them come back, requests go on meanwhile, none waits for long, and what was
// granted is used in the end.
func TestStateFailsOver(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(*testing.T) (address string, cut, mend func())
	}{
		{"sentinel, the master is killed", func(t *testing.T) (string, func(), func()) {
			p := redistest.Setup{}.StartPair(t)
			return p.URL, func() { caughtUp(t, p); p.Master.Down() }, func() {}
		}},
		{"sentinel, the master hangs", func(t *testing.T) (string, func(), func()) {
			p := redistest.Setup{Binary: "valkey-server"}.StartPair(t)
			return p.URL, func() { caughtUp(t, p); p.Master.Hang() }, func() {}
		}},
		{"cluster, killed and started anew", func(t *testing.T) (string, func(), func()) {
			nodes, address := redistest.Setup{Lasting: true}.StartCluster(t)
			each := func(do func(*redistest.Server)) func() {
				return func() {
					for _, n := range nodes {
						do(n)
					}
				}
			}
			return address, each((*redistest.Server).Down), each((*redistest.Server).Up)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, cut, mend := test.start(t)
			caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t\tlimit {\n\t\t\trate 6/d\n\t\t}\n\t\tstate "+address+"\n\t}")
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			other := sharedPlace{address: address}.client(t)
			eventually(t, "Caddy does not come", func() bool { return other.ZCard(t.Context(), "llm_proxy:{limits}:present").Val() == 1 })
			ask := func(n, want int) {
				t.Helper()
				for range n {
					res, body, took := answer(t, url)
					if res.StatusCode != want || took > stalled {
						t.Errorf("status %d after %s, want %d: %s", res.StatusCode, took, want, body)
					}
				}
			}
			ask(2, http.StatusOK)
			cut()
			ask(2, http.StatusOK)
			mend()
			eventually(t, "what was granted is not known", func() bool { return leftOfSix(t, other) == 2 })
			ask(2, http.StatusOK)
			ask(2, http.StatusTooManyRequests)
		})
	}
}

// caughtUp waits until the replica knows what the server knows.
func caughtUp(t *testing.T, p *redistest.Pair) {
	t.Helper()
	conn := p.Master.Client(t).Conn() // it waits for what was written by it, and before
	defer conn.Close()
	if err := conn.Set(t.Context(), "mark", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Wait(t.Context(), 1, time.Minute).Result(); n != 1 || err != nil {
		t.Fatal("the replica does not follow: ", err)
	}
}

// leftOfSix is what another Caddy sees of the site's limit; -1 if it sees nothing.
func leftOfSix(t *testing.T, client redis.UniversalClient) int64 {
	t.Helper()
	rate, err := ratelimit.ParseRate(ratelimit.Requests, "6/d")
	if err != nil {
		t.Fatal(err)
	}
	s := redislimit.New(client, redislimit.Config{})
	defer s.Close()
	one := ratelimit.Reservation{Limits: ratelimit.New("site/site", []ratelimit.Rule{rate})}
	if s.Peek(t.Context(), &one) != nil {
		return -1
	}
	return one.Left[0].Left
}

const (
	redisUser     = "caddy"
	redisPassword = "p@ss/w?rd#%20"
)

// redisRules are what docs/shared-state.md says that a user needs.
var redisRules = []string{"~llm_proxy:*", "+@all", "-@dangerous"}

// A sharedPlace is where facts are shared, as the state subdirective names it.
type sharedPlace struct{ address, block string }

func (p sharedPlace) String() string { return "state " + p.address + p.block }

// places are the ways to run servers.
var places = map[string]func(*testing.T) sharedPlace{
	"redis": func(t *testing.T) sharedPlace { return sharedPlace{address: redistest.Start(t).URL() + "/3"} },
	"valkey": func(t *testing.T) sharedPlace {
		return sharedPlace{address: redistest.Setup{Binary: "valkey-server"}.Start(t).URL()}
	},
	"socket": func(t *testing.T) sharedPlace {
		socket := filepath.Join(t.TempDir(), "redis.sock")
		redistest.Setup{Args: []string{"--unixsocket", socket}}.Start(t)
		return sharedPlace{address: "unix://" + socket}
	},
	"user": func(t *testing.T) sharedPlace {
		t.Setenv("REDIS_PASSWORD", redisPassword)
		s := redistest.Setup{User: redisUser, Password: redisPassword, Rules: redisRules}.Start(t)
		return sharedPlace{address: "redis://caddy:{env.REDIS_PASSWORD}@" + s.Address}
	},
	"user, whole address in a file": func(t *testing.T) sharedPlace {
		s := redistest.Setup{User: redisUser, Password: redisPassword, Rules: redisRules}.Start(t)
		file := filepath.Join(t.TempDir(), "redis_url")
		if err := os.WriteFile(file, []byte(s.URL()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return sharedPlace{address: "{file." + file + "}"}
	},
	"TLS": func(t *testing.T) sharedPlace {
		a := redistest.NewAuthority(t)
		s := redistest.Setup{TLS: a, User: redisUser, Password: redisPassword, Rules: redisRules, Args: []string{"--tls-auth-clients", "no"}}.Start(t)
		t.Setenv("REDIS_PASSWORD", redisPassword)
		return sharedPlace{"rediss://caddy:{env.REDIS_PASSWORD}@" + s.Address, " {\n\t\t\ttls_trust_pool file " + a.CA + "\n\t\t}"}
	},
	"TLS with a client's certificate": func(t *testing.T) sharedPlace {
		a := redistest.NewAuthority(t)
		return sharedPlace{redistest.Setup{TLS: a, Binary: "valkey-server"}.Start(t).URL(), withTLS(a)}
	},
	"cluster": func(t *testing.T) sharedPlace {
		_, url := redistest.Setup{}.StartCluster(t)
		return sharedPlace{address: url}
	},
	"cluster of Valkey with TLS": func(t *testing.T) sharedPlace {
		a := redistest.NewAuthority(t)
		_, url := redistest.Setup{Binary: "valkey-server", TLS: a}.StartCluster(t)
		return sharedPlace{url, withTLS(a)}
	},
	"sentinel": func(t *testing.T) sharedPlace { return sharedPlace{address: redistest.Setup{}.StartPair(t).URL} },
	"sentinel of Valkey with TLS": func(t *testing.T) sharedPlace {
		a := redistest.NewAuthority(t)
		return sharedPlace{redistest.Setup{Binary: "valkey-server", TLS: a}.StartPair(t).URL, withTLS(a)}
	},
}

func withTLS(a *redistest.Authority) string {
	return " {\n\t\t\ttls_trust_pool file " + a.CA + "\n\t\t\ttls_client_auth " + a.Certificate + " " + a.Key + "\n\t\t}"
}

// client is that of another Caddy with the same configuration.
func (p sharedPlace) client(t *testing.T) redis.UniversalClient {
	t.Helper()
	var h Handler
	d := newDispenser(caddyfile.NewTestDispenser(p.String()))
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
