package llmproxy

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// tryNext has the next handler answer, and reports whether it did. Without an answer, the response's header is as before. Status 404 and
// 405, with which file_server refuses what it does not have, are no answer, except to a browser: the site may have a page for them.
func tryNext(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (answered bool, err error) {
	header := maps.Clone(w.Header())
	watched := &watchedWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	err = next.ServeHTTP(watched, r)
	if watched.answered {
		return true, err
	}
	var failed caddyhttp.HandlerError
	if errors.As(err, &failed) && (failed.StatusCode == http.StatusNotFound || failed.StatusCode == http.StatusMethodNotAllowed) &&
		!strings.Contains(r.Header.Get("Accept"), "text/html") {
		err = nil
	}
	if err == nil {
		caddyhttp.SetVar(r.Context(), "unhandled", false) // else the access log says NOP
		clear(w.Header())
		maps.Copy(w.Header(), header)
	}
	return false, err
}

// A watchedWriter notes whether an answer has begun.
type watchedWriter struct {
	*caddyhttp.ResponseWriterWrapper
	answered bool
}

// WriteHeader implements http.ResponseWriter.
func (w *watchedWriter) WriteHeader(status int) {
	w.answered = w.answered || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *watchedWriter) Write(p []byte) (int, error) {
	w.answered = true
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *watchedWriter) ReadFrom(r io.Reader) (int64, error) {
	w.answered = true
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls. It sends the header.
func (w *watchedWriter) FlushError() error {
	w.answered = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.answered = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
