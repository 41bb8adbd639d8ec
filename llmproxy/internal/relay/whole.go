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

// wholes pools answers that were closed.
var wholes = sync.Pool{New: func() any { return new(wholeAnswer) }}

var jsonType = []string{"application/json"}

// A wholeAnswer is JSON that is read completely before the commit. Another target can therefore still answer if it is incomplete,
// contains an error or is not JSON. Only if it is larger than maxHeld, or no memory is left, the rest is relayed as it arrives, and its usage is
// read on the way. If it is known to be larger, only its opening is read before the commit.
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

// read reads the answer until it ends, the limit is reached, or there is no memory left. It takes memory only after an answer has begun to
// arrive: all at once if its length is known, and else as it arrives.
func (a *wholeAnswer) read(limit int64) error {
	length := a.res.ContentLength
	a.limited.R = a.res.Body
	if length < 0 {
		a.open = openJSON{res: a.res}
		a.limited.R = &a.open
		defer a.open.stop()
	}
	for size := int64(freeHolding); a.fits(size); size = min(max(4*size, length+1), limit) {
		switch {
		case length > 0:
			a.head = enlarged(a.head, int(min(length, size)))
		case size > freeHolding:
			a.head = enlarged(a.head, int(size))
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
		if err := a.encodeHead(); err != nil {
			return err
		}
	}
	if !a.complete {
		a.scan() // what the client gets: in base64, there are no numbers to scan
	}
	return nil
}

// scan starts a scanner of the answer, and scans what was read of it.
func (a *wholeAnswer) scan() {
	a.scanner = new(openai.AnswerScanner)
	a.scanner.Write(a.head.Bytes()) //nolint:errcheck // never fails
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
		if a.scanner == nil {
			a.scan()
		}
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
	to := largeBuffer(max(a.head.Len(), freeHolding+1))
	encoded, err := a.base64.Append(to.AvailableBuffer(), a.head.Bytes())
	if err != nil {
		return fmt.Errorf("converting embeddings to base64: %w", err)
	}
	releaseBuffer(a.head)
	a.head = bytes.NewBuffer(encoded) // in most cases to's, because base64 is shorter
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
	err = a.sendRest(w)
	answer := a.scanner.Answer()
	a.readUsage(&answer)
	if a.texts && a.meter.Usage.Output == 0 { // nothing is kept in which the text could be counted; most of the answer is text
		a.meter.Text.Bytes = int(a.meter.Bytes)
	}
	return err
}

// restChunk is how much of the rest of an answer is read at once. Larger chunks need fewer system calls.
const restChunk = 128 << 10

// sendRest relays the rest of the body, and reads what the answer says.
func (a *wholeAnswer) sendRest(w io.Writer) error {
	rest := io.Reader(a.res.Body)
	if a.res.ContentLength < 0 {
		rest = &openEnd{src: rest, scanner: a.scanner, progress: a.progress}
	}
	to := &scannedWriter{to: w, scanner: a.scanner, encoder: a.base64}
	chunk := largeBuffer(restChunk)
	defer releaseBuffer(chunk)
	if a.base64 != nil {
		encoded := largeBuffer(restChunk)
		defer releaseBuffer(encoded)
		to.encoded = encoded.AvailableBuffer()
	}
	_, err := copyBody(to, rest, chunk.AvailableBuffer()[:restChunk], nil, a.progress)
	a.meter.Bytes += to.sent
	if errors.Is(err, openai.ErrInvalidEmbedding) {
		return errors.Unwrap(err) // copyBody takes every error of its writer for a ClientError
	}
	return err
}

// A scannedWriter scans what it writes. With an encoder, it first converts the embeddings to base64.
type scannedWriter struct {
	to      io.Writer
	scanner *openai.AnswerScanner
	encoder *openai.EmbeddingEncoder
	encoded []byte
	sent    int64
}

// Write implements io.Writer.
func (s *scannedWriter) Write(p []byte) (int, error) {
	out := p
	if s.encoder != nil {
		var err error
		if s.encoded, err = s.encoder.Append(s.encoded[:0], p); err != nil {
			return 0, err
		}
		out = s.encoded
	}
	s.scanner.Write(out) //nolint:errcheck // never fails
	n, err := s.to.Write(out)
	s.sent += int64(n)
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
	if a.head != nil {
		releaseBuffer(a.head)
		a.head = nil
	}
}
