package answercache

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// follow gives the answer of a leader as it comes; false if there is nothing to follow, and the client got nothing yet.
func (l *lookup) follow(f *leader) (done bool, failed *openai.Error) {
	r := f.Follow()
	defer r.Close()
	head, err := l.awaitHead(r)
	if err != nil {
		return clientLeft(err)
	}
	e := &caching.Entry{Form: head.Form, ContentType: head.ContentType, Target: head.Target, Created: time.Now()}
	if l.x.Record.Stream && head.Form == caching.Events {
		l.x.Record.Route = head.Route
		begun, failed := l.begin(e, coalesced)
		if failed != nil {
			return true, failed
		}
		m, err := relay.ReplayEvents(l.to, unless(begun, e.ContentType), func() ([]byte, error) { return r.Next(l.ctx, l.includesUsage()) })
		if errors.Is(err, io.ErrUnexpectedEOF) {
			// The error event that the leader's client got is among the events.
			l.x.Record.Verdict, err = router.Failed, nil
		}
		return true, l.sent(m, err)
	}
	if e.Body, e.Extra, err = r.All(l.ctx); err != nil {
		return clientLeft(err)
	}
	shown, ok := l.inForm(e, l.wanted())
	if !ok {
		return false, nil
	}
	l.x.Record.Route = head.Route
	return true, l.play(shown, coalesced)
}

// awaitHead waits for the answer to begin. The client of a stream is pinged meanwhile.
func (l *lookup) awaitHead(r *follower) (caching.Head, error) {
	for {
		soon, cancel := context.WithTimeout(l.ctx, l.x.UntilPing(l.to, time.Now()))
		head, err := r.Head(soon)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || l.ctx.Err() != nil {
			return head, err
		}
		if l.x.UntilPing(l.to, time.Now()) == 0 {
			l.to.Ping()
		}
	}
}

// clientLeft judges the end of a wait for another request's answer: done if it is the client that left.
func clientLeft(err error) (done bool, failed *openai.Error) {
	if errors.Is(err, coalesce.ErrNothing) {
		return false, nil
	}
	return true, exchange.ClientClosed
}
