package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// ReplayEvents sends a stream that comes from somebody else's: each piece that next gives is whole events. Without a content
// type the header was sent already. The error is ReadAlong's.
func ReplayEvents(w Client, contentType string, next func() ([]byte, error)) (Meter, error) {
	replayHeader(w, contentType)
	return ReadAlong(w, true, next)
}

// ReadAlong sends what next gives after a header that was sent already; with flush each piece at once. The error is next's, nil for
// io.EOF, or a *ClientError.
func ReadAlong(w Client, flush bool, next func() ([]byte, error)) (m Meter, err error) {
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

// ReplayStream sends a stream that is known to its end. It is on its way when the handler returns: a flush of its own would
// only cost one more packet for the end.
func ReplayStream(w Client, contentType string, pieces [][]byte) (m Meter, err error) {
	replayHeader(w, contentType)
	for _, piece := range pieces {
		if err := m.write(w, piece); err != nil {
			return m, &ClientError{err}
		}
	}
	return m, nil
}

func replayHeader(w http.ResponseWriter, contentType string) {
	if contentType != "" {
		w.Header()["Content-Type"] = []string{contentType}
		streamHeader(w.Header())
		w.WriteHeader(http.StatusOK)
	}
}

// write writes whole events.
func (m *Meter) write(w http.ResponseWriter, events []byte) error {
	n, err := w.Write(events)
	m.Bytes += int64(n)
	m.Events += bytes.Count(events, eventEnd)
	return err
}

var eventEnd = []byte("\n\n")

// knownLength is the length up to which net/http tells the Content-Length by itself. A header that is not set spares it the growth
// of two maps, which have eight places.
const knownLength = 2 << 10

// ReplayWhole sends an answer in one piece that is known already.
func ReplayWhole(w Client, contentType string, body []byte) (m Meter, err error) {
	h := w.Header()
	h["Content-Type"] = []string{contentType}
	if len(body) > knownLength {
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
