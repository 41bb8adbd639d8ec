package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// atOnce is how many texts are embedded at once.
const atOnce = 8

// What the record says of the call of the embedder.
const (
	embedOK     = "ok"
	embedFailed = "failed"
	embedRests  = "resting"
)

// learn gives a phrase its vector, and those that wait for one theirs; false if the embedder did not.
func (c *call) learn(ctx context.Context, p *caching.Phrase, waiting []caching.Phrase) bool {
	s := c.g.Cache.Semantic
	if !s.rest.Open() {
		c.rec.Embedding = embedRests
		return false
	}
	texts := []string{p.Text}
	for i := range waiting {
		texts = append(texts, waiting[i].Text)
	}
	began := time.Now()
	vectors, err := c.embed(ctx, texts)
	c.rec.Embedded += time.Since(began)
	if ctx.Err() != nil && err != nil {
		return false // nobody waits any more: nobody's fault
	}
	s.rest.Judge(err)
	if err != nil {
		c.rec.Embedding = embedFailed
		if s.Failed != nil {
			s.Failed(err)
		}
		return false
	}
	c.rec.Embedding = embedOK
	p.Vector = vectors[0]
	for i := range waiting {
		c.g.Cache.Shared.Index.Learn(p.Frame, waiting[i].Answer, vectors[i+1])
	}
	return true
}

var (
	errNoVectors = errors.New("the answer does not hold a vector of finite numbers for each text")
	errCutVector = errors.New("the answer broke off")
)

// embed asks the embedder for the vectors of texts. The request is the gateway's own: it goes the way of all requests, but
// nothing of the client's goes with it, and nobody is charged for it.
func (c *call) embed(ctx context.Context, texts []string) (vectors [][]float32, err error) {
	s := c.g.Cache.Semantic
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"model": s.Model, "input": texts})
	if err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	task, _ := Match("/v1/embeddings")
	held := &holder{header: http.Header{}}
	request := (&http.Request{Method: http.MethodPost, URL: &url.URL{Path: task.endpoint.Path}, Header: http.Header{}}).WithContext(ctx)
	own := &call{
		g: c.g, w: held, r: request, task: task, hurried: true, localOnly: c.localOnly,
		rec: &Record{ID: c.rec.ID, Endpoint: task.endpoint.Name, Model: s.Model, Rule: s.Plan.Rule, Started: time.Now()},
	}
	if err := own.head.Parse(body); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	own.rec.head, own.up.Head = &own.head, &own.head
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // a panic's value
			err = errCutVector
		} else if p != nil {
			panic(p)
		}
	}()
	own.deliver(s.Plan)
	if held.status != http.StatusOK {
		return nil, own.refusal(held.status)
	}
	return units(held.body.Bytes(), len(texts))
}

// refusal is why there is no answer.
func (c *call) refusal(status int) error {
	for _, a := range c.rec.Attempts {
		if a.Err != nil {
			return a.Err
		}
	}
	if c.rec.Err != nil {
		return c.rec.Err
	}
	if status == StatusClientGone {
		return errors.New("no answer in time")
	}
	return fmt.Errorf("status %d", status)
}

// units reads vectors and brings them to length 1.
func units(body []byte, n int) ([][]float32, error) {
	vectors, ok := wire.EmbeddingNumbers(body, n)
	if !ok {
		return nil, errNoVectors
	}
	for i := range vectors {
		if vectors[i] = caching.Unit(vectors[i]); vectors[i] == nil {
			return nil, errNoVectors
		}
	}
	return vectors, nil
}
