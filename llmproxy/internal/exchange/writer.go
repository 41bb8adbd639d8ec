package exchange

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
)

// PingEvery is how long the client of a stream waits for its first sign of life, and then for the next one.
const PingEvery = 15 * time.Second

// ErrStreamBegun means that the client, which has waited long for its stream, got the header of one already, so that it
// cannot be given an answer of another form.
var ErrStreamBegun = errors.New("the upstream did not answer with a stream, and the client's stream has already begun")

// A Writer is the client's end of an exchange and the one owner of "has anything been committed?". Two goroutines write:
// the request's own, and the timer that sends signs of life. They take turns. Nothing waits for a turn longer than its
// context lasts, and no lock is held while bytes are on their way to the network, so that a client that stops reading holds
// up nothing but its own answer.
type Writer struct {
	client  http.ResponseWriter
	control http.ResponseController
	dialect Dialect

	turn      atomic.Int32 // whose turn it is
	committed bool         // written and read by the request's own goroutine

	mu     sync.Mutex    // guards what follows; never held while something is sent
	pinged chan struct{} // closed when the ping that is on its way was sent; nil while there is none
	begun  bool          // a ping has sent the header of a stream
	last   time.Time     // of the last ping
	sent   int64         // bytes of all pings
}

// Whose turn it is to write.
const (
	nobody int32 = iota
	answer
	ping
	closed // nobody writes any more
)

var _ relay.Client = (*Writer)(nil)

func (w *Writer) init(client http.ResponseWriter, d Dialect) {
	w.client, w.dialect = client, d
	w.control = *http.NewResponseController(client)
}

// Header returns the headers of the answer.
func (w *Writer) Header() http.Header { return w.client.Header() }

// Committed reports whether the client got a part of an answer. A ping is none.
func (w *Writer) Committed() bool { return w.committed }

// Ping sends a sign of life, unless something else is being sent. With the first one the status is 200, so that what goes
// wrong afterwards can only be told as an event.
func (w *Writer) Ping() {
	w.mu.Lock()
	if !w.turn.CompareAndSwap(nobody, ping) {
		w.mu.Unlock()
		return
	}
	sent := make(chan struct{})
	w.pinged = sent
	first := !w.begun && !w.committed
	w.begun = w.begun || first
	w.mu.Unlock()

	if first {
		relay.StreamHeader(w.client.Header())
		w.client.WriteHeader(http.StatusOK)
	}
	n, err := w.client.Write(w.dialect.Ping())
	if err == nil {
		_ = w.control.Flush() // a client that has left is noticed elsewhere
	}

	w.mu.Lock()
	w.pinged, w.last, w.sent = nil, time.Now(), w.sent+int64(n)
	w.turn.CompareAndSwap(ping, nobody)
	w.mu.Unlock()
	close(sent)
}

// LastPing returns when the last ping was sent; zero if none was.
func (w *Writer) LastPing() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Busy reports whether something is on its way to the client: with one that does not read, for long.
func (w *Writer) Busy() bool { return w.turn.Load() != nobody }

// take waits for the turn of the answer.
func (w *Writer) take(ctx context.Context) error {
	for !w.turn.CompareAndSwap(nobody, answer) {
		w.mu.Lock()
		pinged := w.pinged
		w.mu.Unlock()
		if w.turn.Load() == closed {
			return errClosed
		}
		if pinged == nil {
			continue // it was sent just now
		}
		select {
		case <-pinged:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// errClosed means that the handler is returning.
var errClosed = errors.New("the answer is closed")

func (w *Writer) give() { w.turn.CompareAndSwap(answer, nobody) }

// Commit implements relay.Client. It fails, and nothing is committed, if ctx ends while a client that does not read holds up
// a ping, or with ErrStreamBegun.
func (w *Writer) Commit(ctx context.Context, stream bool) (begun bool, err error) {
	if err := w.take(ctx); err != nil {
		return false, err
	}
	defer w.give()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun && !stream {
		return false, ErrStreamBegun
	}
	w.committed = true
	return w.begun, nil
}

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) { w.client.WriteHeader(status) }

// Write implements http.ResponseWriter. Each call is whole events, or a part of an answer that is no stream.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.take(context.Background()); err != nil { // a ping that is on its way ends when the client reads, or leaves
		return 0, err
	}
	defer w.give()
	return w.client.Write(p)
}

// Flush sends what was written.
func (w *Writer) Flush() error {
	if err := w.take(context.Background()); err != nil {
		return err
	}
	defer w.give()
	if err := w.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// ErrorEvent implements relay.Client.
func (w *Writer) ErrorEvent(e *openai.Error) []byte { return w.dialect.AppendErrorEvent(nil, e) }

// Interrupt makes a write that is held up by the client fail. Nothing more can be told to the client then.
func (w *Writer) Interrupt() { _ = w.control.SetWriteDeadline(time.Now()) }

// stallGrace is how long an error waits for a client that does not read.
const stallGrace = 5 * time.Second

// fail tells the client of an error: with its status, or as an event where pings have begun a stream.
func (w *Writer) fail(ctx context.Context, e *openai.Error) (sent int64, streaming bool) {
	if w.Busy() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stallGrace)
		defer cancel()
	}
	if begun, err := w.Commit(ctx, true); err != nil || begun {
		if err == nil {
			n, _ := w.Write(w.ErrorEvent(e))
			sent = int64(n)
			_ = w.Flush() // the client is told, or it has left
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return sent + w.sent, true
	}
	for name, values := range e.Header {
		w.Header()[name] = values
	}
	if e.Status == http.StatusServiceUnavailable && w.Header()["Retry-After"] == nil {
		w.Header()["Retry-After"] = soon
	}
	return w.whole(ctx, e.Status, w.dialect.AppendError(nil, e)), false
}

// soon is when to come back where nobody knows better: a server that is loading or restarting may be there by then.
var soon = []string{"1"}

// whole sends a complete JSON answer.
func (w *Writer) whole(ctx context.Context, status int, body []byte) (sent int64) {
	if !w.committed {
		if _, err := w.Commit(ctx, false); err != nil {
			return 0
		}
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	n, _ := w.Write(body) // the client may have left; the record says what it was to be told
	return int64(n)
}

var jsonType = []string{"application/json"}

// abandon gives the answer up because the client has left. The status is for the access log.
func (w *Writer) abandon(ctx context.Context) {
	if w.committed {
		return
	}
	if begun, err := w.Commit(ctx, true); err == nil && !begun {
		w.client.WriteHeader(StatusClientClosed)
	}
}

// Close ends all writing. It must be called before the handler returns.
func (w *Writer) Close() {
	for !w.turn.CompareAndSwap(nobody, closed) {
		w.mu.Lock()
		pinged := w.pinged
		w.mu.Unlock()
		if pinged != nil {
			w.Interrupt()
			<-pinged
		}
	}
}

// A Client is who an answer is delivered to: the exchange's Writer, or what records or holds back the answer in front of it.
type Client interface {
	relay.Client
	// Ping sends a sign of life. It may be called from any goroutine, and may be held up by a client that does not read.
	Ping()
	// LastPing returns when the last ping was sent; zero if none was.
	LastPing() time.Time
	// Busy reports whether something is on its way to the client: with one that does not read, for long.
	Busy() bool
	// Interrupt makes a write that is held up by the client fail.
	Interrupt()
}

var _ Client = (*Writer)(nil)

// Unwrap returns the client's own writer, for what net/http wants to be told of it.
func (w *Writer) Unwrap() http.ResponseWriter { return w.client }
