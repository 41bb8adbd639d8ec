package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// cached is how a request to a site with a cache was answered.
type cached struct {
	Status        int
	Cache, Target string
}

// askCache sends a chat request with a key.
func askCache(t *testing.T, url, key, model, content string) cached {
	t.Helper()
	res, _ := post(t, url, question(model, content), "Authorization", "Bearer "+key)
	return cached{res.StatusCode, res.Header.Get("X-LLM-Cache"), res.Header.Get("X-LLM-Target")}
}

func expect(t *testing.T, what string, got, want cached) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

// With scope site, keys share answers, but only those of models that they may use.
func TestCacheScope(t *testing.T) {
	miss, hit := cached{200, "miss", "u/real"}, cached{200, "hit", "u/real"}
	for _, test := range []struct {
		scope    string
		bob      cached // after alice
		requests int
	}{
		{"key", miss, 2},
		{"site", hit, 1},
	} {
		t.Run(test.scope, func(t *testing.T) {
			fake := fakellm.Start(t, "openai")
			url := run(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		cache `+t.Name()+` {
			scope `+test.scope+`
		}
		key alice alices-secret
		key bob bobs-secret
		key carol carols-secret {
			models other
		}
	}`)
			expect(t, "alice", askCache(t, url, "alices-secret", "m", "Hi"), miss)
			expect(t, "bob", askCache(t, url, "bobs-secret", "m", "Hi"), test.bob)
			expect(t, "alice again", askCache(t, url, "alices-secret", "m", "Hi"), hit)
			expect(t, "bob again", askCache(t, url, "bobs-secret", "m", "Hi"), hit)
			expect(t, "carol, who may not use the model", askCache(t, url, "carols-secret", "m", "Hi"), cached{Status: http.StatusForbidden})
			expect(t, "an unknown key", askCache(t, url, "wrong", "m", "Hi"), cached{Status: http.StatusUnauthorized})
			if n := len(fake.Requests()); n != test.requests {
				t.Errorf("%d requests reached the upstream, want %d", n, test.requests)
			}
		})
	}
}

// A cache hit counts as a request, but uses no tokens and costs nothing.
func TestCacheAndLimits(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	url := run(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		price u/real 1000 1000
		cache `+t.Name()+`
		key alice alices-secret {
			rate 3/d
			tokens 100000/d
			budget $100/day
		}
	}`)
	left := func() map[string]float64 {
		t.Helper()
		_, body := get(t, url+"/llm/usage", "Authorization", "Bearer alices-secret")
		var usage struct {
			Limits []struct {
				Unit string
				Left float64
			}
		}
		if err := json.Unmarshal([]byte(body), &usage); err != nil {
			t.Fatal(err)
		}
		left := map[string]float64{}
		for _, l := range usage.Limits {
			left[l.Unit] = l.Left
		}
		return left
	}
	before := left()
	expect(t, "first request", askCache(t, url, "alices-secret", "m", "Hi"), cached{200, "miss", "u/real"})
	afterMiss := left()
	if len(before) != 3 {
		t.Fatalf("limits %v", before)
	}
	for unit, n := range before {
		if afterMiss[unit] >= n {
			t.Errorf("a miss left %v of %v %s", afterMiss[unit], n, unit)
		}
	}
	for i := range 2 {
		expect(t, fmt.Sprintf("repetition %d", i), askCache(t, url, "alices-secret", "m", "Hi"), cached{200, "hit", "u/real"})
	}
	for unit, n := range left() {
		if want := afterMiss[unit]; unit == "requests" && n != 0 || unit != "requests" && n < want { // more tokens are left after a while
			t.Errorf("two hits left %v of %v %s", n, want, unit)
		}
	}
	expect(t, "a request over the rate limit", askCache(t, url, "alices-secret", "m", "Hi"), cached{Status: http.StatusTooManyRequests})
}

// A request that must stay local may be answered with the cached answer of a remote upstream, because that sends nothing away,
// but not for a model that it may not use at all.
func TestCacheAndLocalOnly(t *testing.T) {
	remote, local := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	url := run(t, `	llm_proxy {
		upstream far openai `+remote.URL()+`
		upstream near openai `+local.URL()+` {
			local
		}
		model m {
			to far/real near/real
			lb_policy first
		}
		model away far/real
		cache `+t.Name()+` {
			scope site
		}
		key alice alices-secret
		key dora doras-secret {
			local_only
		}
	}`)
	for _, model := range []string{"m", "away"} {
		expect(t, "alice, "+model, askCache(t, url, "alices-secret", model, "Hi"), cached{200, "miss", "far/real"})
	}
	expect(t, "dora, a cached answer", askCache(t, url, "doras-secret", "m", "Hi"), cached{200, "hit", "far/real"})
	expect(t, "dora, another question", askCache(t, url, "doras-secret", "m", "Ho"), cached{200, "miss", "near/real"})
	expect(t, "dora, a remote model", askCache(t, url, "doras-secret", "away", "Hi"), cached{Status: http.StatusForbidden})
	if n := len(remote.Requests()); n != 2 {
		t.Errorf("%d requests reached the remote upstream", n)
	}
}

// Headers that header_up sets are part of the cache key, with their placeholders replaced, except those that only identify the
// request.
func TestCacheAndHeaderUp(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	url := run(t, `	llm_proxy {
		upstream u openai `+fake.URL()+` {
			header_up X-Tenant {http.request.header.Tenant}
			header_up X-Request-Id {http.request.uuid}
		}
		model m u/real
		cache `+t.Name()+`
	}`)
	for _, tenant := range []string{"a", "b", "a", "b", ""} {
		post(t, url, question("m", "Hi"), "Tenant", tenant)
	}
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream, want one for each tenant and one without", n)
	}
}

// Answers survive a reload, unless it changes how they would be generated.
func TestCacheSurvivesReload(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		cache reloaded
	}`)
	for _, test := range []struct{ name, old, new, want string }{
		{"first load", "", "", "miss"},
		{"nothing changed", "", "", "hit"},
		{"max_size changed", "cache reloaded", "cache reloaded {\n\t\t\tmax_size 1MiB\n\t\t}", "hit"},
		{"params changed", "u openai " + fake.URL(), "u openai " + fake.URL() + " {\n\t\t\tparams temperature 0\n\t\t}", "miss"},
		{"target changed", "model m u/real", "model m u/tiny", "miss"},
	} {
		if err := load(t, strings.Replace(caddyfile, test.old, test.new, 1)); err != nil {
			t.Fatal(err)
		}
		if res, _ := post(t, url, `{"messages":[],"model":"m","stream":true}`); res.Header.Get("X-LLM-Cache") != test.want {
			t.Errorf("%s: %q, want %q", test.name, res.Header.Get("X-LLM-Cache"), test.want)
		}
	}
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
