package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

const (
	maxCounting    = 8        // requests that one upstream counts for at once: counting takes the time of its CPU
	maxCountAnswer = 64 << 10 // bytes
)

// CountTokens asks a replica how many tokens the prompt of a request has, or which they are, without generating. The context must bound the
// time.
func (u *Upstream) CountTokens(ctx context.Context, t *Template, r *replica.Replica, model string) (*Count, error) {
	k := u.ActualKind()
	passes := t.Own != nil && k.api == t.Own.API || t.Endpoint == openai.InputTokens && k.besideResponses
	tokenizes := t.Endpoint == openai.Tokenize && k.tokenize != nil
	if !passes && !tokenizes && len(k.counters) == 0 {
		return nil, ErrCannotCount
	}
	defer u.counting.Add(-1)
	if u.counting.Add(1) > maxCounting {
		return nil, ErrCannotCount
	}
	p := &probe{ctx: ctx, u: u, base: u.base(r)}
	switch {
	case passes:
		return u.passCount(ctx, t, r, model)
	case tokenizes:
		return k.tokenize(p, &t.JSON.Object, model)
	}
	q, err := u.questionOf(t, model)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, count := range k.counters {
		n, err := count(p, q)
		if err == nil && n > 0 {
			return &Count{Status: http.StatusOK, Tokens: n}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// passCount passes the request on as it is, with the model's name there.
func (u *Upstream) passCount(ctx context.Context, t *Template, r *replica.Replica, model string) (*Count, error) {
	request, path := &t.JSON.Object, t.Endpoint.Path
	if t.Own != nil {
		request, path = &t.Original.Object, t.Own.Path
	}
	e := &t.edit
	e.Reset(request)
	e.SetString("model", model)
	withoutUnsigned(e)
	for _, name := range u.Drop {
		e.Drop(name)
	}
	t.body, t.path = reqbody.NewPayload(e.Segments(), t.Memory), path
	res, err := u.RoundTrip(u.NewRequest(ctx, t, r, model))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxCountAnswer))
	if err != nil {
		return nil, err
	}
	c := &Count{Status: res.StatusCode, Header: res.Header, Body: body}
	if res.StatusCode != http.StatusOK {
		return c, nil
	}
	var answer struct {
		Tokens *int64 `json:"input_tokens"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Tokens == nil {
		return nil, fmt.Errorf("the answer has no input_tokens (%w)", errors.Join(err, ErrCannotCount))
	}
	c.Tokens = *answer.Tokens
	return c, nil
}

// questionOf returns the prompt of a request to count.
func (u *Upstream) questionOf(t *Template, model string) (*question, error) {
	k := u.ActualKind()
	q := &question{model: model}
	var chat []byte
	var problem *openai.Error
	switch {
	case t.Own != nil:
		q.original = &t.Original.Object
		chat, _, problem = t.Own.Request(q.original, k.chat)
	case t.Endpoint == openai.InputTokens:
		chat, _, problem = dialect.ChatFromResponse(&t.JSON.Object, k.chat)
	default:
		chat, problem = dialect.ChatToTokenize(&t.JSON.Object)
	}
	if problem != nil {
		return nil, problem
	}
	if err := q.chat.Scan(chat); err != nil {
		return nil, err
	}
	if thinking.MayWish(&q.chat) { // the template may make another prompt of it
		e := &t.edit
		e.Reset(&q.chat)
		u.knob().Tell(e, thinking.About{Takes: u.knob().Takes, Translated: true})
		if err := q.chat.Scan(e.Bytes()); err != nil {
			return nil, err
		}
	}
	return q, nil
}
