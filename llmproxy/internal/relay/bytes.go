package relay

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// A plain answer is neither JSON nor events: audio, subtitles. It is passed on as it comes, never collected.
type plain struct {
	res      *http.Response
	progress Progress
	chunk    *[]byte
	first    int   // bytes of the chunk that are there
	atEnd    error // what the first read ended with
	meter    Meter
}

func holdBytes(res *http.Response, expect Expect) (Answer, error) {
	a := &plain{res: res, progress: expect.Progress, chunk: chunks.Get().(*[]byte)}
	for a.first == 0 && a.atEnd == nil {
		a.first, a.atEnd = res.Body.Read(*a.chunk)
	}
	if a.first == 0 && !errors.Is(a.atEnd, io.EOF) {
		chunks.Put(a.chunk)
		return nil, ended(a.atEnd)
	}
	return a, nil
}

// Streams implements Answer: an error inside a sound would be noise.
func (a *plain) Streams() bool { return false }

// Send implements Answer.
func (a *plain) Send(w Client, _ bool) error {
	h := w.Header()
	copyHeader(h, a.res.Header)
	if v := a.res.Header["Content-Length"]; v != nil {
		h["Content-Length"] = v
	}
	w.WriteHeader(http.StatusOK)
	n, err := w.Write((*a.chunk)[:a.first])
	a.meter.Bytes += int64(n)
	if err != nil {
		return &ClientError{err}
	}
	if a.atEnd != nil {
		if errors.Is(a.atEnd, io.EOF) {
			return nil
		}
		return ended(a.atEnd)
	}
	if err := w.Flush(); err != nil {
		return &ClientError{err}
	}
	n64, err := copyBody(w, a.res.Body, bodyCopy{flush: w.Flush, progress: a.progress})
	a.meter.Bytes += n64
	return err
}

// A bodyCopy is what happens after each read of copyBody; both may be nil.
type bodyCopy struct {
	flush    func() error
	progress Progress
}

// copyBody passes on a body as it comes.
func copyBody(w io.Writer, body io.Reader, each bodyCopy) (sent int64, err error) {
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	for {
		n, err := body.Read(*chunk)
		if n > 0 {
			written, writeErr := w.Write((*chunk)[:n])
			sent += int64(written)
			if writeErr == nil && each.flush != nil {
				writeErr = each.flush()
			}
			if each.progress != nil {
				each.progress.Read(true)
			}
			if writeErr != nil {
				return sent, &ClientError{writeErr}
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, ended(err)
		}
	}
}

// Meter implements Answer.
func (a *plain) Meter() Meter { return a.meter }

// Close implements Answer.
func (a *plain) Close() {
	if a.chunk != nil {
		chunks.Put(a.chunk)
		a.chunk = nil
	}
	a.res.Body.Close()
}
