package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// readBuffer is for the head of an answer. One that comes in chunks does without as soon as it was read to its end.
	readBuffer = 4 << 10
	// maxHead bounds what is read before the head of an answer is complete, informational answers included.
	maxHead = 64 << 10
	// maxInformational bounds the 1xx answers before the real one.
	maxInformational = 5
)

// readers holds the buffers of connections that nobody uses.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// A conn is one connection; one request at a time uses it.
type conn struct {
	t         *Transport
	address   string
	nc        net.Conn
	r         *bufio.Reader // nil while the connection is idle, and where an answer needs none any more
	mayRead   int64         // bounds the head of an answer
	answered  bool          // a byte of the current answer was read
	idleSince time.Time
	giveUp    func() // expire, made once
	liveness
}

var errHeadTooLarge = errors.New("the answer's header is too large")

// Read reads for the buffered reader, and keeps the bound of the head.
func (c *conn) Read(p []byte) (int, error) {
	if c.mayRead <= 0 {
		return 0, errHeadTooLarge
	}
	if int64(len(p)) > c.mayRead {
		p = p[:c.mayRead]
	}
	n, err := c.nc.Read(p)
	c.mayRead -= int64(n)
	if n > 0 {
		c.answered = true
	}
	return n, err
}

func (c *conn) close() { c.nc.Close() }

// release gives the buffer back. Only the goroutine that reads may call it.
func (c *conn) release() {
	if c.r == nil {
		return
	}
	c.r.Reset(nil)
	readers.Put(c.r)
	c.r = nil
}

// A behindHead is a connection behind the head of an answer.
type behindHead conn

// Read gives what was read together with the head, then what comes: without the buffer, which has done its work.
func (b *behindHead) Read(p []byte) (int, error) {
	c := (*conn)(b)
	if c.r == nil {
		return c.nc.Read(p)
	}
	if c.r.Buffered() == 0 {
		c.release()
		return c.nc.Read(p)
	}
	n, err := c.r.Read(p)
	if c.r.Buffered() == 0 {
		c.release()
	}
	return n, err
}

// past is a deadline that has passed: it wakes whoever reads or writes.
var past = time.Unix(1, 0)

// expire wakes whoever waits for the connection, which cannot be used afterwards.
func (c *conn) expire() {
	c.nc.SetDeadline(past) // fails where the connection is closed meanwhile, which is as good
}

// watched is a context that calls at its end by itself, which package context looks for, too, and makes another one for.
type watched interface {
	AfterFunc(call func()) (stop func() bool)
}

// watch gives the connection up when the context ends.
func (c *conn) watch(ctx context.Context) (stop func() bool) {
	if w, ok := ctx.(watched); ok {
		return w.AfterFunc(c.giveUp)
	}
	return context.AfterFunc(ctx, c.giveUp)
}

// exchange writes the request and reads the head of its answer. When it fails, the connection is closed.
func (c *conn) exchange(req *http.Request, body io.Reader) (*http.Response, error) {
	c.r = readers.Get().(*bufio.Reader)
	c.r.Reset(c)
	c.answered, c.mayRead = false, maxHead
	stop := c.watch(req.Context())
	res, reusable, err := c.ask(req, body)
	if err != nil {
		stop()
		c.close()
		c.release()
		return nil, err
	}
	c.mayRead = math.MaxInt64
	b := &answer{src: res.Body, c: c, ctx: req.Context(), stop: stop, reusable: reusable && !res.Close && !req.Close}
	if res.Body == http.NoBody {
		b.end(io.EOF)
		return res, nil
	}
	switch {
	case res.TransferEncoding != nil: // net/http knows only one
		b.chunks.src = (*behindHead)(c)
		b.src = &b.chunks
	case res.Body == nil: // of a plain head
		b.counted = counted{(*behindHead)(c), res.ContentLength}
		b.src = &b.counted
	}
	res.Body = b
	return res, nil
}

func (c *conn) ask(req *http.Request, body io.Reader) (res *http.Response, reusable bool, err error) {
	writeErr := c.write(req, body)
	if _, ours := errors.AsType[*bodyError](writeErr); ours {
		return nil, false, writeErr // the server waits for the rest of the request, in vain
	}
	// A server may answer before it has read everything, 413 for one, and then close.
	res, err = c.readHead(req)
	switch {
	case err == nil:
		return res, writeErr == nil, nil
	case writeErr != nil && !c.answered:
		return nil, false, fmt.Errorf("writing the request: %w", writeErr)
	}
	return nil, false, fmt.Errorf("waiting for the answer: %w", err)
}

func (c *conn) readHead(req *http.Request) (*http.Response, error) {
	for range maxInformational + 1 {
		if _, err := c.r.Peek(1); err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
		if res, ok := c.plainHead(req); ok {
			return res, nil
		}
		res, err := http.ReadResponse(c.r, req)
		switch {
		case err != nil && c.mayRead <= 0:
			return nil, errHeadTooLarge // cut there, it may look malformed
		case err != nil:
			return nil, err
		case res.StatusCode >= 200:
			return res, nil
		case res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode < 100:
			return nil, fmt.Errorf("unexpected status %d", res.StatusCode)
		}
	}
	return nil, errors.New("too many informational answers")
}

// unanswered tells whether an exchange failed because the server had closed the connection.
func (c *conn) unanswered(err error) bool {
	_, ours := errors.AsType[*bodyError](err)
	return !ours && !c.answered
}
