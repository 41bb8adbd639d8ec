package gateway

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// follow reads along with a flight; false if there is nothing to follow, and the client got nothing yet.
func (c *call) follow(f *caching.Flight) bool {
	r := f.Follow()
	defer r.Close()
	ctx := c.r.Context()
	head, err := c.awaitHead(ctx, r)
	if err != nil {
		return c.left(err)
	}
	e := &caching.Entry{Form: head.Form, ContentType: head.ContentType, Target: head.Target, Created: time.Now()}
	if c.rec.Stream && head.Form == caching.Events {
		c.rec.Route = head.Route
		c.given(e, cacheCoalesced)
		m, err := relay.ReplayEvents(c.w, c.begunStream(e.ContentType), func() ([]byte, error) { return r.Next(ctx, c.head.IncludeUsage) })
		if errors.Is(err, io.ErrUnexpectedEOF) {
			// The error event that the leader's client got is among the events.
			c.rec.Verdict, err = router.Broken, nil
		}
		c.sent(m, err)
		return true
	}
	if e.Body, e.Extra, err = r.All(ctx); err != nil {
		return c.left(err)
	}
	shown, ok := c.inForm(e, c.wanted())
	if ok {
		c.rec.Route = head.Route
		c.given(shown, cacheCoalesced)
		c.play(shown)
	}
	return ok
}

// awaitHead waits for the answer to begin. Meanwhile the client of a stream gets its signs of life.
func (c *call) awaitHead(ctx context.Context, r *caching.Follower) (caching.Head, error) {
	for {
		now := time.Now()
		soon, cancel := context.WithTimeout(ctx, c.untilBeat(now, beatEvery))
		head, err := r.Head(soon)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return head, err
		}
		if c.untilBeat(time.Now(), beatEvery) < beatEvery {
			c.pulse.Beat(c.w)
		}
	}
}

// begunStream gives the type of a stream, or nothing if its header was sent already, with a sign of life.
func (c *call) begunStream(contentType string) string {
	if c.pulse.Stop() {
		return ""
	}
	return contentType
}

// left ends a request that waited for somebody else's answer: true if it is its client that left.
func (c *call) left(err error) bool {
	if errors.Is(err, caching.ErrAlone) {
		return false
	}
	c.gone()
	return true
}
