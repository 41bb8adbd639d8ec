package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// conversation returns a request with so many turns of a conversation, whose instructions all conversations have.
func conversation(model, name string, turns int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"messages":[{"role":"system","content":%q}`, strings.Repeat("You are an agent. ", 100))
	for i := range turns {
		fmt.Fprintf(&b, `,{"role":"user","content":"%s asks for the %dth time, %s"}`, name, i, strings.Repeat("at length, ", 100))
	}
	fmt.Fprintf(&b, `],"model":%q,"tools":[{"type":"function","function":{"name":"read"}}]}`, model)
	return b.String()
}

// With the policy prefix, each conversation goes on at the replica that has read it, under every name of the model, and whether its
// server says so or not. A replica that was restarted has read nothing.
func TestConversationsGoOnWhereTheyAreCached(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	var fakes []*fakellm.Server
	var addresses []string
	for range 3 {
		fake := fakellm.Start(t, "vllm")
		fakes, addresses = append(fakes, fake), append(addresses, fake.URL())
	}
	s.up("u", upstream.VLLM, nil, addresses...)
	for _, name := range []string{"m", "alias"} {
		s.models = append(s.models, router.Model{Name: name, Pools: []router.PoolConfig{{Targets: []string{"u/x"}, Policy: router.Prefix}}})
	}
	s.serve()
	ask := func(model, name string, turns int, header ...string) (replica int) {
		t.Helper()
		before := make([]int, len(fakes))
		for i, fake := range fakes {
			before[i] = len(fake.Requests())
		}
		if got := s.post("/v1/chat/completions", conversation(model, name, turns), header...); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
		for i, fake := range fakes {
			if len(fake.Requests()) > before[i] {
				return i
			}
		}
		t.Fatal("no server has got the request")
		return 0
	}
	at := map[string]int{}
	for turn := 1; turn <= 5; turn++ {
		for i := range 6 {
			name, model := fmt.Sprint("conversation ", i), []string{"m", "alias"}[turn%2]
			got := ask(model, name, turn)
			if want, known := at[name]; known && got != want {
				t.Errorf("turn %d of %s went to replica %d, the earlier ones to %d", turn, name, got, want)
			}
			at[name] = got
		}
	}
	session := []string{"X-Session-Affinity", "s"}
	was := ask("m", "first", 3, session...)
	if got := ask("m", "shortened", 1, session...); got != was {
		t.Errorf("after it was shortened, the session went to replica %d instead of %d", got, was)
	}

	fakes[was].Down()
	moved := ask("m", "first", 4, session...)
	fakes[was].Up(t)
	until(t, func() bool { return s.upstreams[0].Replicas[was].Ready("x") })
	if got := ask("m", "first", 5, session...); moved == was || got != moved {
		t.Errorf("while replica %d restarted, the conversation went to %d, and then to %d", was, moved, got)
	}
}
