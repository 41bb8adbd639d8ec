package llmproxy

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A cached is what a client of the cache sees.
type cached struct {
	Status        int
	Cache, Target string
}

// askAs asks a question with a key.
func askAs(t *testing.T, url, key, model, question string) cached {
	t.Helper()
	res, _ := post(t, url, `{"model":"`+model+`","messages":[{"role":"user","content":"`+question+`"}]}`, "Authorization", "Bearer "+key)
	return cached{res.StatusCode, res.Header.Get("X-LLM-Cache"), res.Header.Get("X-LLM-Target")}
}

func expect(t *testing.T, what string, got, want cached) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

// Keys share answers only where the site says so, and nobody gets one of a model that is not his.
func TestCacheOfKeys(t *testing.T) {
	for _, scope := range []string{"key", "site"} {
		t.Run(scope, func(t *testing.T) {
			fake := fakellm.Start(t, "openai")
			caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		cache `+t.Name()+` {
			scope `+scope+`
		}
		key alice alices-secret
		key bob bobs-secret
		key carol carols-secret {
			models other
		}
	}`)
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			miss, hit := cached{200, "miss", "u/real"}, cached{200, "hit", "u/real"}
			others, reached := miss, 2
			if scope == "site" {
				others, reached = hit, 1
			}
			expect(t, "the first", askAs(t, url, "alices-secret", "m", "Hi"), miss)
			expect(t, "another", askAs(t, url, "bobs-secret", "m", "Hi"), others)
			expect(t, "the first again", askAs(t, url, "alices-secret", "m", "Hi"), hit)
			expect(t, "the other again", askAs(t, url, "bobs-secret", "m", "Hi"), hit)
			expect(t, "one who may not", askAs(t, url, "carols-secret", "m", "Hi"), cached{Status: http.StatusForbidden})
			expect(t, "nobody", askAs(t, url, "wrong", "m", "Hi"), cached{Status: http.StatusUnauthorized})
			if n := len(fake.Requests()); n != reached {
				t.Errorf("%d requests reached the upstream, want %d", n, reached)
			}
		})
	}
}

// A hit is a request, and nothing else.
func TestCacheAndLimits(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
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
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	left := func() map[string]float64 {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/llm/usage", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer alices-secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var usage struct {
			Limits []struct {
				Unit string
				Left float64
			}
		}
		if err := json.NewDecoder(res.Body).Decode(&usage); err != nil {
			t.Fatal(err)
		}
		left := map[string]float64{}
		for _, l := range usage.Limits {
			left[l.Unit] = l.Left
		}
		return left
	}
	before := left()
	expect(t, "the first time", askAs(t, url, "alices-secret", "m", "Hi"), cached{200, "miss", "u/real"})
	paid := left()
	if len(before) != 3 {
		t.Fatalf("limits %v", before)
	}
	for unit, n := range before {
		if paid[unit] >= n {
			t.Errorf("a miss left %v of %v %s", paid[unit], n, unit)
		}
	}
	for i := range 2 {
		expect(t, "the same again, "+strconv.Itoa(i), askAs(t, url, "alices-secret", "m", "Hi"), cached{200, "hit", "u/real"})
	}
	for unit, n := range left() {
		if want := map[bool]float64{true: 0, false: paid[unit]}[unit == "requests"]; n != want {
			t.Errorf("after two hits %v %s are left, want %v", n, unit, want)
		}
	}
	expect(t, "once too often", askAs(t, url, "alices-secret", "m", "Hi"), cached{Status: http.StatusTooManyRequests})
}

// What a remote upstream answered before is here: giving it to a request that must stay sends nothing away. What may not be
// asked at all is not answered from what is kept either.
func TestCacheAndLocalOnly(t *testing.T) {
	remote, local := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
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
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"m", "away"} {
		expect(t, "who may", askAs(t, url, "alices-secret", model, "Hi"), cached{200, "miss", "far/real"})
	}
	expect(t, "what is here", askAs(t, url, "doras-secret", "m", "Hi"), cached{200, "hit", "far/real"})
	expect(t, "what is not here", askAs(t, url, "doras-secret", "m", "Ho"), cached{200, "miss", "near/real"})
	expect(t, "a model that is remote", askAs(t, url, "doras-secret", "away", "Hi"), cached{Status: http.StatusForbidden})
	if n := len(remote.Requests()); n != 2 {
		t.Errorf("%d requests left", n)
	}
}

// What header_up says to an upstream counts, whatever its placeholders stand for; what only identifies the request does not.
func TestCacheAndHeaderUp(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+` {
			header_up X-Tenant {http.request.uri.query.tenant}
			header_up X-Request-Id {http.request.uuid}
		}
		model m u/real
		cache `+t.Name()+`
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"?tenant=a", "?tenant=b", "?tenant=a", "?tenant=b", ""} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions"+query, strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		res.Body.Close()
	}
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream, want one for each tenant and one without", n)
	}
}
