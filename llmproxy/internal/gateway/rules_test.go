package gateway

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// onHeader matches requests that have the header.
type onHeader string

func (name onHeader) Match(r *http.Request, _ *exchange.Record) bool {
	return r.Header.Get(string(name)) != ""
}

// ruled is a gateway whose nth route matches requests with a header X-N.
func ruled(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t}
	s.up("u", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.config.Affinity = NewAffinity()
	s.models = []router.Model{
		{Name: "auto", Routes: []router.RouteConfig{
			{Name: "@new", Matcher: onHeader("X-1"), Targets: []string{"u/new"}, Shadow: true},
			{Name: "@hard", Matcher: onHeader("X-2"), Targets: []string{"u/large"}},
			{Name: "@deep", Matcher: onHeader("X-3"), Targets: []string{"inner"}},
			{Targets: []string{"u/small"}},
		}},
		{Name: "inner", Routes: []router.RouteConfig{{Name: "@more", Matcher: onHeader("X-4"), Targets: []string{"u/more"}}, {Targets: []string{"u/less"}}}},
	}
	return s.serve()
}

func TestRules(t *testing.T) {
	t.Parallel()
	s := ruled(t)
	for _, tt := range []struct{ name, header, target, route, shadow string }{
		{"none matches", "", "u/small", "auto", ""},
		{"one matches", "X-2", "u/large", "auto/@hard", ""},
		{"the first of two", "X-2 X-3", "u/large", "auto/@hard", ""},
		{"a shadow", "X-1", "u/small", "auto", "auto/@new"},
		{"a shadow before another", "X-1 X-2", "u/large", "auto/@hard", "auto/@new"},
		{"to a model with rules", "X-3", "u/less", "auto/@deep>inner", ""},
		{"through both", "X-3 X-4", "u/more", "auto/@deep>inner/@more", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			for _, h := range strings.Fields(tt.header) {
				header = append(header, h, "1")
			}
			got := s.post("/v1/chat/completions", chat("auto", false), header...)
			if got.header.Get("X-Llm-Target") != tt.target || got.header.Get("X-Llm-Route") != tt.route {
				t.Errorf("target %q, route %q", got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
			}
		})
	}
}

func TestShadowIsRecorded(t *testing.T) {
	t.Parallel()
	s := ruled(t)
	s.post("/v1/chat/completions", chat("auto", false), "X-1", "1")
	if rec := s.record(); rec.Shadow != "auto/@new" || rec.Target != "u/small" {
		t.Errorf("shadow %q, target %q", rec.Shadow, rec.Target)
	}
}

func TestConversationsStay(t *testing.T) {
	t.Parallel()
	s := ruled(t)
	ask := func(header ...string) string {
		return s.post("/v1/chat/completions", chat("auto", false), header...).header.Get("X-Llm-Route")
	}
	for _, name := range []string{"X-Claude-Code-Session-Id", "X-Session-Affinity", "Session-Id", "Session_id", "X-Session-Id"} {
		if got := ask(name, name, "X-2", "1"); got != "auto/@hard" {
			t.Fatalf("the first went to %s", got)
		}
		if got := ask(name, name); got != "auto/@hard" {
			t.Errorf("with %s the second went to %s", name, got)
		}
		for _, credential := range []string{"Authorization", "X-Api-Key", "Api-Key"} {
			if got := ask(name, name, credential, "Bearer another"); got != "auto" {
				t.Errorf("with %s another caller, told by %s, went to %s", name, credential, got)
			}
		}
	}
	if got := ask("X-Session-Id", "another"); got != "auto" {
		t.Errorf("another conversation went to %s", got)
	}
	if got := ask("X-Session-Id", "another", "X-3", "1", "X-4", "1"); got != "auto" {
		t.Errorf("a conversation on the last rule went to %s", got)
	}
	if got := ask("X-Session-Id", "deep", "X-3", "1", "X-4", "1"); got != "auto/@deep>inner/@more" {
		t.Errorf("a new one went to %s", got)
	}
	if got := ask("X-Session-Id", "deep"); got != "auto/@deep>inner/@more" {
		t.Errorf("its second request went to %s", got)
	}
}

// A request on a sessionless route is not part of the conversation in whose session it is sent: it neither follows the session nor
// changes it.
func TestSessionlessRoutes(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	s.up("u", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.config.Affinity = NewAffinity()
	s.models = []router.Model{{Name: "auto", Routes: []router.RouteConfig{
		{Name: "@title", Matcher: onHeader("X-1"), Targets: []string{"u/tiny"}, Sessionless: true},
		{Name: "@hard", Matcher: onHeader("X-2"), Targets: []string{"u/large"}},
		{Targets: []string{"u/small"}},
	}}}
	s.serve()
	for _, step := range []struct{ header, want string }{
		{"X-1", "auto/@title"}, // the title comes first, and the conversation does not follow it
		{"X-2", "auto/@hard"},
		{"X-1", "auto/@title"}, // another one does not follow the conversation
		{"", "auto/@hard"},
	} {
		header := []string{"X-Session-Id", "s"}
		if step.header != "" {
			header = append(header, step.header, "1")
		}
		if got := s.post("/v1/chat/completions", chat("auto", false), header...).header.Get("X-Llm-Route"); got != step.want {
			t.Errorf("with %q: %s, want %s", step.header, got, step.want)
		}
	}
}

// A key and a user of the same name are different callers, whatever tells them apart.
func TestCallersOfOneName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		first, second []string
		same          bool
	}{
		{"one key in two headers", []string{"Authorization", "Bearer secret-carol"}, []string{"X-Api-Key", "secret-carol"}, true},
		{"one user", []string{"Test-User", "carol"}, []string{"Test-User", "carol"}, true},
		{"a key and a user", []string{"Api-Key", "secret-carol"}, []string{"Test-User", "carol"}, false},
		{"a user and a key", []string{"Test-User", "carol"}, []string{"X-Api-Key", "secret-carol"}, false},
		{"two keys", []string{"X-Api-Key", "secret-carol"}, []string{"X-Api-Key", "secret-bob"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			s.config.Cache = rules(t, nil)
			s.up("u", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
			s.config.Affinity = NewAffinity()
			s.guarded(&keys.Entry{Name: "carol"}, &keys.Entry{Name: "bob"})
			s.models = []router.Model{{Name: "auto", Routes: []router.RouteConfig{
				{Name: "@hard", Matcher: onHeader("X-2"), Targets: []string{"u/large"}}, {Targets: []string{"u/small"}}}}}
			s.serve()
			s.settled("/v1/chat/completions", chat("auto", false), append(test.first, "X-Session-Id", "s", "X-2", "1")...)
			got := s.settled("/v1/chat/completions", chat("auto", false), append(test.second, "X-Session-Id", "s")...)
			cache, target := "miss", "u/small"
			if test.same {
				cache, target = "hit", "u/large"
			}
			if got.cache() != cache || got.header.Get("X-Llm-Target") != target {
				t.Errorf("%s from %s, want %s from %s", got.cache(), got.header.Get("X-Llm-Target"), cache, target)
			}
		})
	}
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recent[int, string]{most: 100, idle: time.Hour}
		has := func(key int) bool { _, ok := r.get(key); return ok }
		for i := range 200 {
			r.put(i, "a")
		}
		if len(r.byKey) != 100 || r.order.Len() != 100 || has(99) || !has(100) {
			t.Errorf("%d and %d are kept", len(r.byKey), r.order.Len())
		}
		time.Sleep(time.Hour)
		r.put(150, "b")
		time.Sleep(time.Second)
		if has(151) {
			t.Error("an hour of idleness did not end a value")
		}
		if got, _ := r.get(150); got != "b" {
			t.Errorf("one that was used again is %q", got)
		}
	})
}
