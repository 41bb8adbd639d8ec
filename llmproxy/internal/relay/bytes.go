package relay

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// A byteAnswer is neither JSON nor events: audio or subtitles. It is relayed as it arrives and never collected.
type byteAnswer struct {
	res      *http.Response
	progress Progress
	chunk    *[]byte
	first    int   // bytes in chunk
	firstErr error // of the first read
	meter    Meter
}

func holdBytes(res *http.Response, expect Expect) (Answer, error) {
	a := &byteAnswer{res: res, progress: expect.Progress, chunk: chunks.Get().(*[]byte)}
	for a.first == 0 && a.firstErr == nil {
		a.first, a.firstErr = res.Body.Read(*a.chunk)
	}
	if a.first == 0 && !errors.Is(a.firstErr, io.EOF) {
		chunks.Put(a.chunk)
		return nil, incomplete(a.firstErr)
	}
	return a, nil
}

// Streams implements Answer. An error event inside audio would be noise.
func (a *byteAnswer) Streams() bool { return false }

// Send implements Answer.
func (a *byteAnswer) Send(w Client, _ bool) error {
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
	if a.firstErr != nil {
		if errors.Is(a.firstErr, io.EOF) {
			return nil
		}
		return incomplete(a.firstErr)
	}
	if err := w.Flush(); err != nil {
		return &ClientError{err}
	}
	n64, err := copyBody(w, a.res.Body, *a.chunk, w.Flush, a.progress)
	a.meter.Bytes += n64
	return err
}

// copyBody relays a body as it arrives, by means of a buffer. After each read it calls flush and progress, which may be nil.
func copyBody(w io.Writer, body io.Reader, buffer []byte, flush func() error, progress Progress) (sent int64, err error) {
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			written, writeErr := w.Write(buffer[:n])
			sent += int64(written)
			if writeErr == nil && flush != nil {
				writeErr = flush()
			}
			if progress != nil {
				progress.Read(1)
			}
			if writeErr != nil {
				return sent, &ClientError{writeErr}
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, incomplete(err)
		}
	}
}

// Meter implements Answer.
func (a *byteAnswer) Meter() Meter { return a.meter }

// Close implements Answer.
func (a *byteAnswer) Close() {
	if a.chunk != nil {
		chunks.Put(a.chunk)
		a.chunk = nil
	}
	a.res.Body.Close()
}
