package gateway

import (
	"net/http"
	"path"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Match is like the function Match for a gateway that may serve the simple chat.
func (g *Gateway) Match(r *http.Request) (Task, Claim) {
	if g.SimpleChat == "" {
		return Match(r)
	}
	e, ok := SimpleChatEndpoint(r.URL.Path)
	if !ok {
		return Match(r)
	}
	task := Task{endpoint: e, api: dialect.Simple}
	if isWebSocket(r) {
		task = Task{upgrade: true, api: dialect.Simple}
	}
	return task, Ours
}

// SimpleChatEndpoint returns the endpoint of the simple chat at a path. Differences that do not matter to Caddy's path matchers do not
// matter here either.
func SimpleChatEndpoint(p string) (e *openai.Endpoint, ok bool) {
	switch strings.ToLower(path.Clean("/" + strings.TrimSpace(p))) {
	case dialect.SimpleChat.Path:
		return dialect.SimpleChat, true
	case dialect.SimpleChatStream.Path:
		return dialect.SimpleChatStream, true
	}
	return nil, false
}
