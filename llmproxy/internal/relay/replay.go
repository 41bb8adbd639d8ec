package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// FollowStream sends a stream of another request as it arrives: next returns the next complete events, and io.EOF at the end. If
// contentType is empty, the header has already been sent. FollowStream returns the same errors as CopyPieces.
func FollowStream(w Client, contentType string, next func() ([]byte, error)) (Meter, error) {
	streamHeader(w, contentType)
	return CopyPieces(w, true, next)
}

// CopyPieces sends what next returns until it returns io.EOF. The header must have been sent. With flush, each piece is sent at
// once. CopyPieces returns any other error of next, and a *ClientError if the client has left.
func CopyPieces(w Client, flush bool, next func() ([]byte, error)) (m Meter, err error) {
	for {
		piece, err := next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		if err = m.write(w, piece); err == nil && flush {
			err = w.Flush()
		}
		if err != nil {
			return m, &ClientError{err}
		}
	}
}

// ReplayStream sends a complete stream. It does not flush: the rest is sent when the handler returns, and a flush would need one more
// packet.
func ReplayStream(w Client, contentType string, pieces [][]byte) (m Meter, err error) {
	streamHeader(w, contentType)
	for _, piece := range pieces {
		if err := m.write(w, piece); err != nil {
			return m, &ClientError{err}
		}
	}
	return m, nil
}

func streamHeader(w http.ResponseWriter, contentType string) {
	if contentType != "" {
		w.Header()["Content-Type"] = []string{contentType}
		disableBuffering(w.Header())
		w.WriteHeader(http.StatusOK)
	}
}

// write writes complete events.
func (m *Meter) write(w http.ResponseWriter, events []byte) error {
	n, err := w.Write(events)
	m.Bytes += int64(n)
	m.Events += bytes.Count(events, eventEnd)
	return err
}

var eventEnd = []byte("\n\n")

// maxImplicitLength is the length up to which net/http sets Content-Length itself. Not setting it keeps two maps from growing beyond
// their first eight entries.
const maxImplicitLength = 2 << 10

// ReplayWhole sends a complete answer that is not a stream.
func ReplayWhole(w Client, contentType string, body []byte) (m Meter, err error) {
	h := w.Header()
	if h["Content-Type"] = jsonType; contentType != jsonType[0] {
		h["Content-Type"] = []string{contentType}
	}
	if len(body) > maxImplicitLength {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(http.StatusOK)
	n, err := w.Write(body)
	m.Bytes = int64(n)
	if err != nil {
		return m, &ClientError{err}
	}
	return m, nil
}
