package http1

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// An answer is the body of an answer. At its end the connection goes back to the pool; closed before, the connection is
// closed. One goroutine reads; any may close, while it reads too.
type answer struct {
	src      io.Reader
	chunks   chunked // src, of an answer in chunks
	counted  counted // src, of an answer with a plain head and a length
	c        *conn
	ctx      context.Context
	stop     func() bool // ends the watch over ctx
	reusable bool
	err      error       // what reading ended with; only the reading goroutine looks
	finished atomic.Bool // the connection has gone back or is closed
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	if a.finished.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.src.Read(p)
	if err != nil {
		a.end(err)
	}
	return n, a.err
}

// end takes leave of the connection after the last byte or an error.
func (a *answer) end(err error) {
	if err != io.EOF {
		err = ended(a.ctx, err)
	}
	a.err = err
	if !a.finished.CompareAndSwap(false, true) {
		if err != io.EOF {
			a.err = http.ErrBodyReadAfterClose
		}
		return
	}
	// Bytes behind the answer belong to no request, and after the watch has fired the deadline has passed for good.
	clean := a.stop() && err == io.EOF && a.reusable && !a.chunks.surplus && (a.c.r == nil || a.c.r.Buffered() == 0)
	a.c.release()
	if clean {
		a.c.t.put(a.c)
	} else {
		a.c.close()
	}
}

// Close implements io.Closer. It may be called more than once. The buffer is left to the garbage collector, because
// another goroutine may be reading into it.
func (a *answer) Close() error {
	if a.finished.CompareAndSwap(false, true) {
		a.stop()
		a.c.close()
	}
	return nil
}
