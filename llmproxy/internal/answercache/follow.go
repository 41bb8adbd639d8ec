package answercache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// follow sends the answer of a leader as it arrives, and closes the follower. It returns false if the leader has no answer to share and the client got
// nothing yet.
func (l *lookup) follow(r *follower) (done bool, failed *openai.Error) {
	defer r.Close()
	head, err := l.awaitHead(r)
	if err != nil {
		return unlessNoAnswer(err)
	}
	e := &caching.Entry{Form: head.Form, ContentType: head.ContentType, Target: head.Target, Created: time.Now()}
	if l.x.Record.Stream && head.Form == caching.Events {
		l.x.Record.Route = head.Route
		begun, failed := l.begin(e, coalesced)
		if failed != nil {
			return true, failed
		}
		defer l.x.Attend(l.to)()
		m, err := relay.FollowStream(l.to, unlessBegun(begun, e.ContentType), func() ([]byte, error) { return r.Next(l.ctx, l.includesUsage()) })
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			// The error event that the leader's client got is a part of the recording.
			l.x.Record.Verdict, err = router.Failed, nil
		case errors.Is(err, coalesce.ErrTooSlow):
			l.x.Record.Err, l.x.Record.Verdict, err = tooSlow(), router.ClientClosed, nil
			relay.SendError(l.to, l.x.Record.Err, openai.ResponseState{})
		}
		return true, l.end(m, err)
	}
	if e.Body, e.Extra, err = r.All(l.ctx); err != nil {
		return unlessNoAnswer(err)
	}
	converted, ok := l.convert(e, l.wantedForm())
	if !ok {
		return false, nil
	}
	l.x.Record.Route = head.Route
	return true, l.replay(converted, coalesced)
}

// awaitHead waits until the answer begins. Meanwhile it pings the client of a stream.
func (l *lookup) awaitHead(r *follower) (caching.Head, error) {
	for {
		untilPing, cancel := context.WithTimeout(l.ctx, l.x.UntilPing(l.to, time.Now()))
		head, err := r.Head(untilPing)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || l.ctx.Err() != nil {
			return head, err
		}
		if l.x.UntilPing(l.to, time.Now()) == 0 {
			l.to.Ping()
		}
	}
}

// unlessNoAnswer returns what follow returns for an error of a follower: unless the leader has no answer to share, it is the
// client that left.
func unlessNoAnswer(err error) (done bool, failed *openai.Error) {
	if errors.Is(err, coalesce.ErrNoAnswer) {
		return false, nil
	}
	return true, exchange.ErrClientClosed
}

// tooSlow returns the error for a client that held up others which wanted the same answer.
func tooSlow() *openai.Error {
	return &openai.Error{Status: http.StatusRequestTimeout, Type: exchange.InvalidRequest, Code: "client_too_slow",
		Message: "The client read nothing for 30 s, and others were waiting for the same answer; the answer is not complete. Read the answer as it arrives."}
}
