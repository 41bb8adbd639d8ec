package delivery

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// promptHead returns the head of the prompt of a request, which is nil if it is a form. A pool with the policy prefix picks a replica by it.
func promptHead(x *exchange.Exchange, request *openai.Request) *prefix.Head {
	session := exchange.Session(x.Request.Header)
	if request == nil {
		return prefix.NewHead(session)
	}
	return prefix.NewHead(session, request.Prompt()...)
}
