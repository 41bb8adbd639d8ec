package gateway

import (
	"bytes"
	"net/http"
)

// A holder keeps an answer from the client, within bounds.
type holder struct {
	header http.Header
	status int
	body   bytes.Buffer
	cut    bool
}

// Header implements http.ResponseWriter.
func (h *holder) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *holder) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

// Write implements http.ResponseWriter.
func (h *holder) Write(p []byte) (int, error) {
	if h.cut = h.cut || h.body.Len()+len(p) > maxBatch; h.cut {
		return len(p), nil
	}
	return h.body.Write(p)
}

func (h *holder) copyHeader(to http.Header) {
	for name, values := range h.header {
		if name != "Content-Length" {
			to[name] = values
		}
	}
}

func (h *holder) forward(w http.ResponseWriter) {
	w.WriteHeader(h.status)
	_, _ = w.Write(h.body.Bytes()) // the client may be gone; the record says what it was to be told
}
