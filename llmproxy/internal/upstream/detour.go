package upstream

import (
	"errors"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A detour is the way by chat of a request to an endpoint that the server does not have, or whose answers would lose something.
type detour struct {
	request openai.Request     // for chat
	answer  dialect.Answer     // makes the answer one of the endpoint
	members [8]jsonspan.Member // storage for those of the request
}

var chatEndpoint, _ = openai.LookupEndpoint("/v1/chat/completions")

// newDetour returns the way by chat of a request.
func newDetour(e *openai.Endpoint, request *openai.Request, o dialect.ChatOptions) (*detour, *openai.Error) {
	body, answer, err := dialect.ByChat(e, &request.Object, o)
	if err != nil {
		return nil, err
	}
	d := &detour{answer: answer}
	d.request.Members = d.members[:0]
	return d, d.request.ParseTranslated(body)
}

var errNotChat = errors.New("the answer is not one of the chat API")

// translateAnswer makes an answer of chat one of the endpoint that the client called.
func (d *detour) translateAnswer(account *memory.Account, res *http.Response) error {
	start := startOf(res.Body)
	if !startsJSON(start) {
		translateStream(res, start, func(b []byte, e *sse.Event) []byte {
			if !e.HasData || e.ErrorField != nil || string(e.Name) == "error" { // the relay reads errors
				return append(b, e.Raw...)
			}
			return d.answer.Append(b, e.Data)
		}, d.answer.Close)
		return nil
	}
	return translateWhole(account, res, start, func(b, answer []byte) ([]byte, error) {
		if translated, ok := d.answer.Whole(b, answer); ok {
			return translated, nil
		}
		if failed, _ := openai.ParseError(answer); failed.Message == "" {
			return nil, errNotChat
		}
		return answer, nil
	})
}
