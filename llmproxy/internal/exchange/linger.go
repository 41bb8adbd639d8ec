package exchange

import (
	"io"
	"net/http"
	"time"
)

// How much of a body is read and discarded after its request was refused.
const (
	lingerTime = 15 * time.Second
	lingerIdle = 5 * time.Second // without a byte
	lingerSize = 64 << 20
	// serverLingerSize is what net/http itself reads.
	serverLingerSize = 256 << 10
)

// Linger reads and discards the body of a request that was refused before all of it was read. Many clients write all of a body before they
// read the answer. If the connection were closed while they write, they would get a reset in its place.
//
// It must be called last, because it takes time. The request holds nothing any more but its connection.
func (x *Exchange) Linger() {
	r := x.Request
	switch {
	case !x.refused || r.Body == nil:
	case r.ProtoMajor != 1: // HTTP/2 and 3 end each direction of a stream on its own
	case r.ContentLength >= 0 && r.ContentLength <= serverLingerSize:
	case r.Header.Get("Expect") != "": // the client waits for the answer
	default:
		x.Writer.linger(r.Body)
	}
}

// linger sends the answer and discards the rest of the request's body.
func (w *Writer) linger(body io.Reader) {
	if w.control.Flush() != nil {
		return
	}
	end := time.Now().Add(lingerTime)
	chunk := make([]byte, 32<<10)
	for read := 0; read < lingerSize; {
		deadline := time.Now().Add(lingerIdle)
		if deadline.After(end) {
			deadline = end
		}
		if w.control.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := body.Read(chunk)
		read += n
		if err != nil || !time.Now().Before(end) {
			return
		}
	}
}

// lingers reports whether the client may still be sending the body of a request that got this error.
func lingers(status int) bool { return status != http.StatusRequestTimeout }
