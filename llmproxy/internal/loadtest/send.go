package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// An outcome is what is known of a request when it is over.
type outcome struct {
	intended, sent, ended time.Time
	events                []time.Time // those with content, in order
	usage                 tokens.Usage
	size                  int    // bytes of the text of an answer that is not a stream
	estimated             bool   // the output tokens were not counted by the server
	cache                 string // what the gateway says about its cache
	failure               *Failure
	canceled              bool // by us, so that it is neither an answer nor a failure
}

// A client sends one request in a dialect.
type client interface {
	// open returns the answer once its headers are there. A status that is not a success is an error.
	open(context.Context, Prompt) (answer, error)
}

// An answer is read event by event. An answer that is not a stream is one event.
type answer interface {
	// next returns the next event, valid until the following call, and io.EOF after the last one.
	next() (openai.Event, error)
	header() http.Header
	close()
}

// sender sends requests one at a time to a server, from any number of goroutines.
type sender struct {
	client  client
	timeout time.Duration
	key     string // must not appear in messages
}

var (
	errTimeout    = errors.New("the request took longer than --timeout")
	errIncomplete = errors.New("the answer ended before its finish reason")
	errEmpty      = errors.New("the answer has no content")
)

// send sends a request and reads its answer. Count, unless nil, counts events with content as they arrive.
func (s *sender) send(ctx context.Context, p Prompt, intended time.Time, count *atomic.Int64) outcome {
	limited, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	o := outcome{intended: intended, sent: time.Now()}
	err := s.exchange(limited, p, &o, count)
	o.ended = time.Now()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		o.canceled = true
	case limited.Err() != nil:
		o.failure = classify(errTimeout, s.key)
	default:
		o.failure = classify(err, s.key)
	}
	return o
}

func (s *sender) exchange(ctx context.Context, p Prompt, o *outcome, count *atomic.Int64) error {
	a, err := s.client.open(ctx, p)
	if err != nil {
		return err
	}
	defer a.close()
	o.cache = a.header().Get("X-LLM-Cache")
	finished := false
	for {
		e, err := a.next()
		switch {
		case err == io.EOF && !finished:
			return errIncomplete
		case err == io.EOF && len(o.events) == 0:
			return errEmpty
		case err == io.EOF:
			if o.usage.Output == 0 {
				o.usage.Output, o.estimated = int64(max(len(o.events), o.size/4)), true
			}
			return nil
		case err != nil:
			return err
		case e.Err != nil:
			return newStreamError(e.Err)
		case e.Malformed:
			return fmt.Errorf("%w: an event is not a JSON object", errMalformed)
		}
		if e.Content {
			o.events = append(o.events, time.Now())
			if count != nil {
				count.Add(1)
			}
		}
		o.size += e.Text.Bytes
		finished = finished || e.Finish
		if usage, counts := openai.ParseUsage(e.Usage); counts {
			o.usage.Update(usage)
		}
	}
}
