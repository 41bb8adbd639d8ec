package upstream

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A question is a prompt whose tokens are to be counted.
type question struct {
	original *jsonspan.Object // the request of a client of Anthropic's API, or nil
	chat     jsonspan.Object  // the same as a request for chat
	model    string           // its name there
}

// A Count is the answer of a server that was asked how many tokens a prompt has, or which.
type Count struct {
	// Tokens is how many tokens the prompt has.
	Tokens int64
	// List are the tokens and Pieces their texts, as JSON, if the server says them and the client wants them.
	List, Pieces []json.RawMessage
	// Status, Header and Body are the answer of a server that has the endpoint that the client called, errors included. Without a Body, only
	// the number is known.
	Status int
	Header http.Header
	Body   []byte
}

// ErrCannotCount means that a server has no way of counting, or that too many requests are asking it to.
var ErrCannotCount = errors.New("the upstream cannot count the tokens of this prompt now")
