package gateway

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

const (
	storedFor = 30 * 24 * time.Hour // as long as OpenAI stores a response
	maxStored = 10_000
)

// StoredResponses remembers which upstream may have stored a response of the Responses API, and for whom. A request that continues the
// response goes there, and nowhere else. When it is full, it forgets the response that was continued, or made, the longest time ago. A
// nil *StoredResponses remembers nothing.
type StoredResponses struct {
	recent recent[string, storedResponse]
}

// A storedResponse is where a response is, and the identity of the caller whose it is.
type storedResponse struct{ upstream, identity string }

// NewStoredResponses returns a StoredResponses that knows of no response.
func NewStoredResponses() *StoredResponses {
	return &StoredResponses{recent[string, storedResponse]{most: maxStored, idle: storedFor}}
}

// find returns the upstream that has stored the response which a request continues. It is empty if the request continues none, or if
// the upstream is not known: the response may be older than this process.
func (s *StoredResponses) find(x *exchange.Exchange, plan *router.Plan, local bool) (upstream string, err *openai.Error) {
	if s == nil || x.Own != nil || !x.Endpoint.IsResponses() || x.Record.JSON == nil {
		return "", nil
	}
	value, _ := x.Record.JSON.Get(previousResponse)
	id, _ := jsonspan.String(value)
	stored, known := s.recent.get(id)
	switch {
	case id == "" || !known:
		return "", nil
	case stored.identity != x.Record.Identity:
		return "", &openai.Error{Status: http.StatusBadRequest, Type: exchange.InvalidRequest, Param: previousResponse, Code: "previous_response_not_found",
			Message: fmt.Sprintf("Previous response with id %.100q not found.", id)}
	case !plan.Any(local, func(t router.Target) bool { return t.Upstream.Name == stored.upstream }):
		return "", &openai.Error{Status: http.StatusBadRequest, Type: exchange.InvalidRequest, Param: previousResponse, Code: "previous_response_not_found",
			Message: fmt.Sprintf("The response %.100q is stored at another server than those of the model %q. Send the whole conversation as input.", id, x.Record.Model)}
	}
	return stored.upstream, nil
}

const previousResponse = "previous_response_id"

// keep remembers which upstream has made a response.
func (s *StoredResponses) keep(rec *exchange.Record) {
	if s == nil || rec.ResponseID == "" || rec.JSON == nil {
		return
	}
	if store, _ := rec.JSON.Get("store"); string(store) != "false" {
		s.recent.put(rec.ResponseID, storedResponse{rec.Configured.Upstream.Name, rec.Identity})
	}
}
