package upstream

import (
	"errors"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A detour is the way by chat of a request to an endpoint that the server does not have, or whose answers would lose something.
type detour struct {
	request openai.Request     // for chat
	answer  dialect.Answer     // makes the answer one of the endpoint
	members [8]jsonspan.Member // storage for those of the request
	memory  reqbody.Memory     // holds the request
}

var chatEndpoint, _ = openai.LookupEndpoint("/v1/chat/completions")

// newDetour returns the way by chat of a request.
func newDetour(e *openai.Endpoint, request *openai.Request, o dialect.ChatOptions) (*detour, *openai.Error) {
	d := &detour{}
	body, answer, err := dialect.ByChat(d.memory.Make(len(request.Body) + moreByChat)[:0], e, &request.Object, o)
	if err == nil {
		d.answer, d.request.Members = answer, d.members[:0]
		err = d.request.ParseTranslated(body)
	}
	if err != nil {
		d.memory.Release()
		return nil, err
	}
	return d, nil
}

// moreByChat is how much longer most requests become, in bytes.
const moreByChat = 192

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
	return translateWhole(account, res, start, func(m *wholeMemory) ([]byte, error) {
		answer := m.in.Bytes()
		var translated []byte
		translated, m.said, m.read = d.answer.Whole(m.out, answer)
		if d.answer = nil; m.read {
			return translated, nil
		}
		if failed, _ := openai.ParseError(answer); failed.Message == "" {
			return nil, errNotChat
		}
		return answer, nil
	})
}
