package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Count is the answer of a server that was asked how many tokens a prompt has: {"input_tokens":…} or, if it has Anthropic's API, its
// error.
type Count struct {
	Status int
	Header http.Header
	Body   []byte
}

// ErrCannotCount means that a server has no way of counting, or that too many requests are asking it to.
var ErrCannotCount = errors.New("the upstream cannot count the tokens of this prompt now")

const (
	maxCounting    = 8        // requests that one upstream counts for at once: counting takes the time of its CPU
	maxCountAnswer = 64 << 10 // bytes
)

// CountTokens asks a replica how many tokens the prompt of a request for Anthropic's API has, without generating. The context must bound
// the time.
func (u *Upstream) CountTokens(ctx context.Context, t *Template, r *replica.Replica, model string) (*Count, error) {
	k := u.ActualKind()
	native := k.api == t.Own.API
	if !native && len(k.counters) == 0 {
		return nil, ErrCannotCount
	}
	defer u.counting.Add(-1)
	if u.counting.Add(1) > maxCounting {
		return nil, ErrCannotCount
	}
	if native {
		return u.countByAnthropic(ctx, t, r, model)
	}
	chat, _, problem := t.Own.Request(&t.Original.Object, k.chat)
	if problem != nil {
		return nil, problem
	}
	var translated jsonspan.Object
	if err := translated.Scan(chat); err != nil {
		return nil, err
	}
	if mayWish(&translated) { // the template may make another prompt of it
		e := &t.edit
		e.Reset(&translated)
		u.knob().tell(e, telling{takes: u.knob().takes, translated: true})
		if err := translated.Scan(e.Bytes()); err != nil {
			return nil, err
		}
	}
	p := &probe{ctx: ctx, u: u, base: u.base(r)}
	var errs []error
	for _, count := range k.counters {
		n, err := count(p, &t.Original.Object, &translated, model)
		if err == nil && n > 0 {
			return &Count{Status: http.StatusOK, Body: append(strconv.AppendInt([]byte(`{"input_tokens":`), n, 10), '}')}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// countByAnthropic passes the request on as it is, with the model's name there.
func (u *Upstream) countByAnthropic(ctx context.Context, t *Template, r *replica.Replica, model string) (*Count, error) {
	e := &t.edit
	e.Reset(&t.Original.Object)
	e.SetString("model", model)
	withoutUnsigned(e)
	for _, name := range u.Drop {
		e.Drop(name)
	}
	t.body, t.path = reqbody.NewPayload(e.Segments(), t.Memory), t.Own.Path
	res, err := u.RoundTrip(u.NewRequest(ctx, t, r, model))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxCountAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		var answer struct {
			Tokens *int64 `json:"input_tokens"`
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.Tokens == nil {
			return nil, fmt.Errorf("the answer has no input_tokens (%w)", errors.Join(err, ErrCannotCount))
		}
	}
	return &Count{res.StatusCode, res.Header, body}, nil
}
