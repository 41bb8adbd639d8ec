package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// ReplayEvents sends a stream whose events are known already, or come from somebody else's: each piece that next gives is
// whole events, sent at once. Without a content type the header was sent already. The error is next's, nil for io.EOF, or a *ClientError.
func ReplayEvents(w http.ResponseWriter, contentType string, next func() ([]byte, error)) (m Meter, err error) {
	flush := http.NewResponseController(w)
	if contentType != "" {
		w.Header()["Content-Type"] = []string{contentType}
		streamHeader(w.Header())
		w.WriteHeader(http.StatusOK)
	}
	for {
		piece, err := next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		n, err := w.Write(piece)
		m.Bytes += int64(n)
		m.Events += bytes.Count(piece, eventEnd)
		if err == nil {
			err = flush.Flush()
		}
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return m, &ClientError{err}
		}
	}
}

var eventEnd = []byte("\n\n")

// ReplayWhole sends an answer in one piece that is known already.
func ReplayWhole(w http.ResponseWriter, contentType string, body []byte) (m Meter, err error) {
	h := w.Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusOK)
	n, err := w.Write(body)
	m.Bytes = int64(n)
	if err != nil {
		return m, &ClientError{err}
	}
	return m, nil
}
