package exchange

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
)

// PingEvery is how long the client of a stream waits before the first ping, and between pings.
const PingEvery = 15 * time.Second

// ErrStreamBegun means that pings have already started the client's stream, so that an answer in any other form cannot be
// sent any more.
var ErrStreamBegun = errors.New("the upstream did not answer with a stream, and the client's stream has already begun")

// A Client receives an answer: the exchange's Writer, or something in front of it that records or buffers the answer.
type Client interface {
	relay.Client
	// Ping sends a keep-alive to a client that is waiting for its answer, or for more of its stream. It may be called from any
	// goroutine and returns at once, even if the client does not read.
	Ping()
	// Comment is Ping with a text of one line. Clients that do not look for it skip it.
	Comment(text string)
	// LastSent returns when Ping was last called or something else was last sent. It is zero before the first time.
	LastSent() time.Time
	// Busy reports whether a write to the client is in progress. It stays true while the client does not read.
	Busy() bool
	// Interrupt makes a blocked write to the client fail.
	Interrupt()
}

var _ Client = (*Writer)(nil)

// A Writer sends the answer to the client. It is the only one that knows whether anything has been committed.
//
// Pings may be written before the commit, and between the events of a stream, each by a goroutine of its own. Commit waits for the
// ping in progress, and no ping starts between the commit and the first event: middleware and net/http access the response headers
// while they write. Therefore, once a client may be pinged, only SetHeader sets headers until Commit has succeeded.
//
// No lock is held during network I/O, so a client that stops reading delays nothing but its own answer.
type Writer struct {
	client  http.ResponseWriter
	control http.ResponseController
	dialect Dialect
	id      string // the request's

	started  time.Time
	lastSent atomic.Int64 // as a duration since started; zero if nothing was sent
	writing  atomic.Bool  // a write is in progress; the goroutine that sets it may write
	flowing  atomic.Bool  // an event of the committed stream has been sent, so that pings may come between events
	unread   atomic.Bool  // the rest of the request's body is not read

	mu        sync.Mutex
	committed bool          // an answer has been committed
	stream    bool          // and it is a stream of events
	failed    bool          // the stream ends with an error event
	closed    bool          // the handler is returning; no more writes
	pinging   chan struct{} // closed when the current ping has been written; nil if there is no ping
	begun     bool          // a ping has sent the header of a stream
	panicked  any           // what a handler in front of this one panicked with during a ping
	pingBytes int64
}

func (w *Writer) init(client http.ResponseWriter, d Dialect, rec *Record) {
	w.client, w.dialect, w.id, w.started = client, d, rec.ID, rec.Started
	w.control = *http.NewResponseController(client)
}

// Header returns the headers of the answer. While the client may be pinged, use SetHeader.
func (w *Writer) Header() http.Header { return w.client.Header() }

// SetHeader sets a header of the answer, unless a ping has already sent the headers.
func (w *Writer) SetHeader(name, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		w.client.Header()[name] = []string{value}
	}
}

// Unwrap returns the client's own writer, for http.MaxBytesReader.
func (w *Writer) Unwrap() http.ResponseWriter { return w.client }

// StopReading makes a blocked read of the request's body fail, and every later one. It does not block. With HTTP/1, net/http then ends
// the request's context as if the client had left, but the client can still get an error.
func (w *Writer) StopReading() {
	w.unread.Store(true)
	_ = w.control.SetReadDeadline(time.Now()) // not every server supports it
}

// Committed reports whether an answer has been committed. Pings do not count.
func (w *Writer) Committed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.committed
}

// Ping implements Client. It does nothing while something is being written, nor between the commit of an answer and its first
// event. The first ping before the commit sends status 200, so that a later failure can only be reported as an event. Its header
// is written before Ping returns, because handlers in front of this one may read the record for it; that does not block.
func (w *Writer) Ping() { w.ping(w.dialect.Ping()) }

// Comment implements Client.
func (w *Writer) Comment(text string) { w.ping([]byte(": " + text + "\n\n")) }

func (w *Writer) ping(event []byte) {
	w.mu.Lock()
	w.sent()
	if w.closed || w.panicked != nil || w.committed && !w.flowing.Load() || !w.writing.CompareAndSwap(false, true) {
		w.mu.Unlock()
		return
	}
	w.pinging = make(chan struct{})
	first := !w.committed && !w.begun
	w.begun = w.begun || first
	w.mu.Unlock()
	if first {
		if panicked := recovered(w.beginStream); panicked != nil {
			w.pingDone(0, panicked)
			return
		}
	}
	go func() {
		var n int
		panicked := recovered(func() { n = w.writePing(event) })
		w.pingDone(n, panicked)
	}()
}

func (w *Writer) beginStream() {
	relay.StreamHeader(w.client.Header())
	w.dialect.SetHeaders(w.client.Header())
	w.client.WriteHeader(http.StatusOK)
}

func (w *Writer) writePing(event []byte) int {
	n, err := w.client.Write(event)
	if err == nil {
		_ = w.control.Flush() // the request's context reports that the client has left
	}
	return n
}

func (w *Writer) pingDone(sent int, panicked any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pingBytes += int64(sent)
	w.panicked = panicked
	close(w.pinging)
	w.pinging = nil
	w.writing.Store(false)
}

// recovered runs f and returns what it panicked with.
func recovered(f func()) (panicked any) {
	defer func() { panicked = recover() }()
	f()
	return nil
}

// LastSent implements Client.
func (w *Writer) LastSent() time.Time {
	if last := w.lastSent.Load(); last > 0 {
		return w.started.Add(time.Duration(last))
	}
	return time.Time{}
}

func (w *Writer) sent() { w.lastSent.Store(int64(max(time.Since(w.started), 1))) }

// Busy implements Client.
func (w *Writer) Busy() bool { return w.writing.Load() }

// Interrupt implements Client. Nothing more can be sent to the client afterwards.
func (w *Writer) Interrupt() { _ = w.control.SetWriteDeadline(time.Now()) }

// errClosed means that the handler is returning.
var errClosed = errors.New("the answer is closed")

// Commit implements relay.Client. If it fails, nothing is committed: because ctx ended while the client did not read a ping,
// with ErrStreamBegun, or because the writer was closed. If a ping has panicked, Commit panics in its place: net/http recovers
// panics of the handler's own goroutine only.
func (w *Writer) Commit(ctx context.Context, stream bool) (begun bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.pinging != nil {
		if err := w.awaitPing(ctx); err != nil {
			return false, err
		}
	}
	switch {
	case w.panicked != nil:
		panic(w.panicked)
	case w.closed:
		return false, errClosed
	case w.begun && !stream:
		return false, ErrStreamBegun
	}
	w.committed, w.stream = true, stream
	return w.begun, nil
}

// awaitPing waits until the current ping has been written or ctx ends. It releases the lock meanwhile.
func (w *Writer) awaitPing(ctx context.Context) error {
	pinging := w.pinging
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-pinging:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) {
	w.dialect.SetHeaders(w.client.Header())
	w.client.WriteHeader(status)
}

// Write implements http.ResponseWriter. The answer must have been committed. Each call writes complete events, or part of an
// answer that is not a stream.
func (w *Writer) Write(p []byte) (int, error) {
	w.beginWrite()
	defer w.endWrite()
	return w.client.Write(p)
}

// beginWrite waits for the ping that is being written, if there is one. If that has panicked, beginWrite panics in its place.
func (w *Writer) beginWrite() {
	for !w.writing.CompareAndSwap(false, true) {
		w.mu.Lock()
		pinging := w.pinging
		w.mu.Unlock()
		if pinging != nil {
			<-pinging
		}
		w.mu.Lock()
		panicked := w.panicked
		w.mu.Unlock()
		if panicked != nil {
			panic(panicked)
		}
	}
}

func (w *Writer) endWrite() {
	w.sent()
	if w.stream && !w.flowing.Load() {
		w.flowing.Store(true)
	}
	w.writing.Store(false)
}

// Flush sends what has been written.
func (w *Writer) Flush() error {
	w.beginWrite()
	defer w.writing.Store(false)
	if err := w.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// ErrorEvent implements relay.Client.
func (w *Writer) ErrorEvent(e *openai.Error, state openai.ResponseState) []byte {
	w.mu.Lock()
	w.failed = true
	w.mu.Unlock()
	if state.ID == "" {
		state.ID = "resp_" + w.id
	}
	return w.dialect.AppendErrorEvent(nil, e, state)
}

// hasFailed reports whether the stream ends with an error event.
func (w *Writer) hasFailed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// stallGrace bounds how long an error waits for a client that does not read.
const stallGrace = 5 * time.Second

// sendError sends an error: with its status and header or, if pings have begun a stream, as an event. It returns the number of
// bytes sent, pings included, and whether the client got a stream.
func (w *Writer) sendError(ctx context.Context, e *openai.Error) (sent int64, streaming bool) {
	if w.Busy() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stallGrace)
		defer cancel()
	}
	if begun, err := w.Commit(ctx, true); err != nil || begun {
		if err == nil {
			n, _ := w.Write(w.ErrorEvent(e, openai.ResponseState{}))
			sent = int64(n)
			_ = w.Flush() // an error means that the client has left
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return sent + w.pingBytes, true
	}
	w.stream = false // nothing may follow a JSON error
	maps.Copy(w.Header(), e.Header)
	if e.Status == http.StatusServiceUnavailable && w.Header()["Retry-After"] == nil {
		w.Header()["Retry-After"] = retrySoon
	}
	return w.writeJSON(e.Status, w.dialect.AppendError(nil, e)), false
}

// retrySoon is the default Retry-After: a server that is loading or restarting may be ready by then.
var retrySoon = []string{"1"}

// sendJSON commits to a complete JSON answer and sends it.
func (w *Writer) sendJSON(ctx context.Context, status int, body []byte) (sent int64) {
	if _, err := w.Commit(ctx, false); err != nil {
		return 0
	}
	return w.writeJSON(status, body)
}

// sendText commits to a complete answer of plain text and sends it.
func (w *Writer) sendText(ctx context.Context, text string) (sent int64) {
	if _, err := w.Commit(ctx, false); err != nil {
		return 0
	}
	return w.write(http.StatusOK, textType, []byte(text))
}

func (w *Writer) writeJSON(status int, body []byte) (sent int64) {
	return w.write(status, jsonType, body)
}

func (w *Writer) write(status int, contentType []string, body []byte) (sent int64) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	n, _ := w.Write(body) // the client may have left; the record shows the intended answer
	return int64(n)
}

var (
	jsonType = []string{"application/json"}
	textType = []string{"text/plain; charset=utf-8"}
)

// abandon ends the answer because the client has left. The status is for the access log.
func (w *Writer) abandon(ctx context.Context) {
	if w.Committed() {
		return
	}
	if begun, err := w.Commit(ctx, true); err == nil && !begun {
		w.client.WriteHeader(StatusClientClosed)
	}
}

// pingGrace is how long a ping may take that is in progress when the answer is over.
const pingGrace = time.Second

// Close ends all writing: no ping starts any more, and the one in progress is interrupted if the client does not read it. It must be
// called before the handler returns.
func (w *Writer) Close() {
	w.mu.Lock()
	w.closed = true
	pinging := w.pinging
	w.mu.Unlock()
	if pinging == nil {
		return
	}
	select {
	case <-pinging:
	case <-time.After(pingGrace):
		w.Interrupt()
		<-pinging
	}
}
