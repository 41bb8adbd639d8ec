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
)

// buffers holds answers while they are read; those that grew large are left to the collector.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooled = 256 << 10

var jsonType = []string{"application/json"}

// A whole answer is JSON that was read to its end before the client gets a byte, so that a cut, an error inside a 200 or
// something that is no JSON can still be answered by another target. One that is larger than what is held is passed on as
// it comes.
type whole struct {
	res      *http.Response
	progress Progress
	held     io.LimitedReader // of the body
	head     *bytes.Buffer
	texts    bool                     // the answer is made of text
	count    bool                     // count it even if its usage is known
	all      bool                     // head is everything
	vectors  *openai.EmbeddingEncoder // turns lists into base64; nil where nobody asked for it
	meter    Meter
}

func holdWhole(res *http.Response, expect Expect) (Answer, error) {
	a := &whole{res: res, progress: expect.Progress, count: expect.Count, texts: expect.Endpoint.Texts && !expect.Endpoint.Vectors, head: buffers.Get().(*bytes.Buffer)}
	a.head.Reset()
	if expect.Base64 {
		a.vectors = new(openai.EmbeddingEncoder)
	}
	if n := res.ContentLength; n > 0 && n <= maxHeld {
		a.head.Grow(int(n) + bytes.MinRead)
	}
	a.held = io.LimitedReader{R: res.Body, N: maxHeld}
	n, err := a.head.ReadFrom(&a.held)
	switch {
	case err != nil:
		err = ended(err)
	case n < maxHeld:
		a.all = true
		err = a.parse()
	}
	if err == nil && a.vectors != nil {
		err = a.turn()
	}
	if err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

// turn makes base64 of the lists in what is held.
func (a *whole) turn() error {
	turned, err := a.vectors.Append(nil, a.head.Bytes())
	if err != nil {
		return fmt.Errorf("turning the answer into base64: %w", err)
	}
	a.head.Reset()
	a.head.Write(turned)
	return nil
}

func (a *whole) parse() error {
	var answer openai.Answer
	if err := answer.Parse(a.head.Bytes()); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if answer.Err != nil {
		return eventError(answer.Err)
	}
	a.meter.Usage, a.meter.HasUsage = answer.Usage, answer.HasUsage
	if a.texts && (a.count || !a.meter.HasUsage) { // counting takes as long as parsing did
		a.meter.Text = openai.CountText(a.head.Bytes())
	}
	return nil
}

// Streams implements Answer: what follows on half a JSON text cannot tell anything.
func (a *whole) Streams() bool { return false }

// Send implements Answer.
func (a *whole) Send(w Client, _ bool) error {
	h := w.Header()
	copyHeader(h, a.res.Header)
	if h.Get("Content-Type") == "" { // net/http would call it text
		h["Content-Type"] = jsonType
	}
	switch {
	case a.all && a.vectors == nil && a.res.ContentLength == int64(a.head.Len()) && a.res.Header["Content-Length"] != nil:
		h["Content-Length"] = a.res.Header["Content-Length"]
	case a.all:
		h["Content-Length"] = []string{strconv.Itoa(a.head.Len())}
	case a.res.ContentLength > 0 && a.vectors == nil:
		h["Content-Length"] = []string{strconv.FormatInt(a.res.ContentLength, 10)}
	}
	w.WriteHeader(http.StatusOK)
	n, err := w.Write(a.head.Bytes())
	a.meter.Bytes += int64(n)
	if err != nil {
		return &ClientError{err}
	}
	if a.all {
		return nil
	}
	if a.vectors != nil {
		return a.sendTurned(w)
	}
	n64, err := copyBody(w, a.res.Body, bodyCopy{progress: a.progress})
	a.meter.Bytes += n64
	return err
}

// sendTurned passes on the rest with its lists turned.
func (a *whole) sendTurned(w io.Writer) error {
	to := &turning{to: w, vectors: a.vectors}
	_, err := copyBody(to, a.res.Body, bodyCopy{progress: a.progress})
	a.meter.Bytes += to.sent
	if errors.Is(err, openai.ErrInvalidEmbedding) {
		return errors.Unwrap(err) // no fault of the client, to whom it was written
	}
	return err
}

// A turning writer makes base64 of the lists that pass through it.
type turning struct {
	to      io.Writer
	vectors *openai.EmbeddingEncoder
	turned  []byte
	sent    int64
}

// Write implements io.Writer.
func (t *turning) Write(p []byte) (int, error) {
	var err error
	if t.turned, err = t.vectors.Append(t.turned[:0], p); err != nil {
		return 0, err
	}
	n, err := t.to.Write(t.turned)
	t.sent += int64(n)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Meter implements Answer.
func (a *whole) Meter() Meter { return a.meter }

// Close implements Answer.
func (a *whole) Close() {
	a.release()
	a.res.Body.Close()
}

func (a *whole) release() {
	if a.head != nil && a.head.Cap() <= maxPooled {
		buffers.Put(a.head)
	}
	a.head = nil
}
