package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

var (
	// wholes pools answers that were closed.
	wholes = sync.Pool{New: func() any { return new(wholeAnswer) }}
	// buffers pools the buffers into which answers are read, except those that have become large.
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

const maxPooled = 256 << 10

var jsonType = []string{"application/json"}

// A wholeAnswer is JSON that is read completely before the commit. Another target can therefore still answer if it is incomplete,
// contains an error or is not JSON. Only if it is larger than maxHeld, or no memory is left, the rest is relayed as it arrives, and its usage is read on the way.
type wholeAnswer struct {
	res      *http.Response
	progress Progress
	limited  io.LimitedReader // of the body
	open     openJSON         // the body, if its length is unknown
	head     *bytes.Buffer
	memory   holding
	endpoint *openai.Endpoint
	scanner  *openai.AnswerScanner    // reads an answer that is not kept as a whole, and counts images
	texts    bool                     // the answer is text
	count    bool                     // count the text even if the usage is known
	complete bool                     // head is the complete answer
	kept     bool                     // the client keeps a copy of the answer
	checked  bool                     // it is known to be JSON
	said     *openai.Answer           // what it says besides its content; nil if that is still to be read
	base64   *openai.EmbeddingEncoder // converts embeddings to base64; nil if the request did not ask for that
	naming   bool                     // name the reasoning
	meter    Meter
}

func newWhole(res *http.Response, expect Expect) *wholeAnswer {
	a := wholes.Get().(*wholeAnswer)
	a.res, a.progress, a.endpoint, a.memory, a.head = res, expect.Progress, expect.Endpoint, holding{account: expect.Memory}, buffers.Get().(*bytes.Buffer)
	a.naming = expect.NameReasoning
	a.count, a.kept, a.texts = expect.Count, expect.Whole, expect.Endpoint.Texts && !expect.Endpoint.Vectors
	a.head.Reset()
	if body, ok := res.Body.(translatedBody); ok {
		a.checked, a.said = body.Checked(), body.Said()
	}
	if expect.Base64 {
		a.base64 = new(openai.EmbeddingEncoder)
	}
	return a
}

// A translatedBody is a body that was made of parts of another one. Checked reports whether it is known to be one JSON object. Said returns
// what it says besides its content, or nil if the translation has not read that.
type translatedBody interface {
	Checked() bool
	Said() *openai.Answer
}

// read reads the answer until it ends, the limit is reached, or there is no memory left. It takes memory as the answer arrives.
func (a *wholeAnswer) read(limit int64) error {
	a.limited.R = a.res.Body
	if a.res.ContentLength < 0 {
		a.open = openJSON{res: a.res}
		a.limited.R = &a.open
		defer a.open.stop()
	}
	for size := int64(freeHolding); a.fits(size); size = min(4*size, limit) {
		if n := a.res.ContentLength; n > 0 {
			a.head.Grow(int(min(n, size)) - a.head.Len() + bytes.MinRead)
		}
		a.limited.N = size - int64(a.head.Len())
		if _, err := a.head.ReadFrom(&a.limited); err != nil {
			return incomplete(err)
		}
		if a.complete = a.limited.N > 0; a.complete || size == limit {
			return nil
		}
	}
	return nil
}

// fits reserves the memory for n bytes of the answer.
func (a *wholeAnswer) fits(n int64) bool {
	if a.kept && n > freeHolding {
		n *= 2
	}
	return a.memory.fits(n)
}

// prepared returns the answer, ready to be sent. It releases one that cannot be sent.
func (a *wholeAnswer) prepared() (*wholeAnswer, error) {
	if err := a.prepare(); err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

// ErrNotJSON means that an answer is not JSON, as it must be.
var ErrNotJSON = errors.New("the answer is not JSON")

func (a *wholeAnswer) prepare() error {
	if !a.complete || a.endpoint.Images {
		a.scanner = new(openai.AnswerScanner)
		a.scanner.Write(a.head.Bytes()) //nolint:errcheck // never fails
	}
	if a.complete {
		if err := a.parse(); err != nil {
			return err
		}
	}
	if a.naming && a.complete {
		if named, ok := openai.NameReasoning(a.head.Bytes()); ok {
			a.head.Reset()
			a.head.Write(named)
		}
	}
	if a.base64 != nil {
		return a.encodeHead()
	}
	return nil
}

// parse validates the answer and reads it.
func (a *wholeAnswer) parse() error {
	if a.said != nil {
		return a.take(a.said)
	}
	var answer openai.Answer
	if a.checked {
		answer.ParseChecked(a.head.Bytes())
		return a.take(&answer)
	}
	err := answer.Parse(a.head.Bytes())
	if err != nil && a.cutTrailer() {
		err = answer.Parse(a.head.Bytes())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	return a.take(&answer)
}

// take records what the answer says of itself, or returns the error that it is.
func (a *wholeAnswer) take(answer *openai.Answer) error {
	if answer.Err != nil {
		return eventError(answer.Err)
	}
	a.readUsage(answer)
	if a.endpoint.IsResponses() && !a.checked { // the ID of a translated one means nothing to an upstream
		a.meter.Response.Read(a.head.Bytes())
	}
	if a.texts && (a.count || a.meter.Usage.Output == 0) { // counting takes as long as parsing
		a.meter.Text = openai.CountText(a.head.Bytes())
	}
	return nil
}

// readUsage records what the answer consumed.
func (a *wholeAnswer) readUsage(answer *openai.Answer) {
	m := &a.meter
	m.Usage, m.HasUsage, m.ServiceTier, m.Timings = answer.Usage, answer.HasUsage, answer.ServiceTier, answer.Timings
	if a.endpoint.Images {
		m.Usage.Images = a.scanner.Images()
	}
	if a.endpoint.Transcribes && answer.AudioMillis > 0 {
		m.Usage.AudioMillis, m.HasUsage = max(m.Usage.AudioMillis, answer.AudioMillis), true
	}
}

// cutTrailer removes what a server that streams by default sends after a whole answer: comments and [DONE]. It reports whether there was
// nothing else.
func (a *wholeAnswer) cutTrailer() bool {
	end, ok := openai.ValueEnd(a.head.Bytes())
	if !ok {
		return false
	}
	for rest := bytes.TrimLeft(a.head.Bytes()[end:], " \t\r\n"); len(rest) > 0; {
		var e sse.Event
		if e, rest = sse.Cut(rest); !e.OnlyComments && string(bytes.TrimSpace(e.Data)) != "[DONE]" {
			return false
		}
	}
	a.head.Truncate(end)
	return true
}

// encodeHead converts the embeddings in head to base64.
func (a *wholeAnswer) encodeHead() error {
	encoded, err := a.base64.Append(nil, a.head.Bytes())
	if err != nil {
		return fmt.Errorf("converting embeddings to base64: %w", err)
	}
	a.head.Reset()
	a.head.Write(encoded)
	return nil
}

// Streams implements Answer. Nothing after half a JSON text can report an error.
func (a *wholeAnswer) Streams() bool { return false }

// Send implements Answer.
func (a *wholeAnswer) Send(w Client, _ bool) error {
	h := w.Header()
	copyHeader(h, a.res.Header)
	if !readsAsJSON(h.Get("Content-Type")) { // without a type, net/http would detect text
		h["Content-Type"] = jsonType
	}
	switch {
	case a.complete && a.base64 == nil && a.res.ContentLength == int64(a.head.Len()) && a.res.Header["Content-Length"] != nil:
		h["Content-Length"] = a.res.Header["Content-Length"]
	case a.complete:
		h["Content-Length"] = []string{strconv.Itoa(a.head.Len())}
	case a.res.ContentLength > 0 && a.base64 == nil:
		h["Content-Length"] = []string{strconv.FormatInt(a.res.ContentLength, 10)}
	}
	w.WriteHeader(http.StatusOK)
	n, err := w.Write(a.head.Bytes())
	a.meter.Bytes += int64(n)
	switch {
	case err != nil:
		return &ClientError{err}
	case a.complete:
		return nil
	}
	a.release() // before the client reads the rest, which may take long
	rest := &scannedBody{src: a.res.Body, scanner: a.scanner, progress: a.progress, isOpen: a.res.ContentLength < 0}
	if a.base64 != nil {
		err = a.sendEncoded(w, rest)
	} else {
		n64, failed := copyBody(w, rest, nil, a.progress)
		a.meter.Bytes += n64
		err = failed
	}
	answer := a.scanner.Answer()
	a.readUsage(&answer)
	if a.texts && a.meter.Usage.Output == 0 { // nothing is kept in which the text could be counted; most of the answer is text
		a.meter.Text.Bytes = int(a.meter.Bytes)
	}
	return err
}

// sendEncoded relays the rest of the body and converts its embeddings to base64.
func (a *wholeAnswer) sendEncoded(w io.Writer, rest io.Reader) error {
	to := &base64Writer{to: w, encoder: a.base64}
	_, err := copyBody(to, rest, nil, a.progress)
	a.meter.Bytes += to.sent
	if errors.Is(err, openai.ErrInvalidEmbedding) {
		return errors.Unwrap(err) // copyBody takes every error of its writer for a ClientError
	}
	return err
}

// A base64Writer converts the embeddings in what is written to base64.
type base64Writer struct {
	to      io.Writer
	encoder *openai.EmbeddingEncoder
	encoded []byte
	sent    int64
}

// Write implements io.Writer.
func (b *base64Writer) Write(p []byte) (int, error) {
	var err error
	if b.encoded, err = b.encoder.Append(b.encoded[:0], p); err != nil {
		return 0, err
	}
	n, err := b.to.Write(b.encoded)
	b.sent += int64(n)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Meter implements Answer.
func (a *wholeAnswer) Meter() Meter { return a.meter }

// Close implements Answer. The answer must not be used afterwards.
func (a *wholeAnswer) Close() {
	a.release()
	a.res.Body.Close()
	*a = wholeAnswer{}
	wholes.Put(a)
}

func (a *wholeAnswer) release() {
	a.memory.release()
	if a.head != nil && a.head.Cap() <= maxPooled {
		buffers.Put(a.head)
	}
	a.head = nil
}
