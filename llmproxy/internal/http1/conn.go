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
	// readBuffer is the size of the buffer for the head of an answer. Every request has one while it waits for its answer, which may take
	// minutes. It is released when all its bytes were read.
	readBuffer = 2 << 10
	// maxHead bounds how much is read until the head of an answer is complete, including any number of informational answers (1xx): a
	// server may send one every few seconds while it works.
	maxHead = 64 << 10
)

// readers pools read buffers.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// A conn is one connection. One request at a time uses it.
type conn struct {
	t         *Transport
	address   string
	nc        net.Conn
	r         *bufio.Reader // nil while the connection is idle, and after an answer's buffered bytes were read
	headLeft  int64         // how many more bytes may be read for the head
	answered  bool          // a byte of the current answer was read
	idleSince time.Time
	interrupt func() // expire, allocated once
	openCheck
}

var errHeadTooLarge = errors.New("the answer's header is too large")

// Read implements io.Reader for the buffered reader, and bounds the head.
func (c *conn) Read(p []byte) (int, error) {
	if c.headLeft <= 0 {
		return 0, errHeadTooLarge
	}
	if int64(len(p)) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.nc.Read(p)
	c.headLeft -= int64(n)
	if n > 0 {
		c.answered = true
	}
	return n, err
}

func (c *conn) close() { c.nc.Close() }

// release returns the buffer to its pool. Only the goroutine that reads may call it.
func (c *conn) release() {
	if c.r == nil {
		return
	}
	c.r.Reset(nil)
	readers.Put(c.r)
	c.r = nil
}

// A bodySource reads a connection after the head of an answer.
type bodySource conn

// Read implements io.Reader. It returns what was buffered together with the head, releases the buffer, and then reads the
// connection directly.
func (b *bodySource) Read(p []byte) (int, error) {
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

// past is a deadline in the past, which makes pending reads and writes return.
var past = time.Unix(1, 0)

// expire makes pending and later reads and writes fail. The connection cannot be used afterwards.
func (c *conn) expire() {
	c.nc.SetDeadline(past) // fails if the connection was closed meanwhile, which has the same effect
}

// exchange writes the request and reads the head of its answer. If it fails, the connection is closed.
func (c *conn) exchange(req *http.Request, body io.Reader) (*http.Response, error) {
	c.r = readers.Get().(*bufio.Reader)
	c.r.Reset(c)
	c.answered, c.headLeft = false, maxHead
	stop := context.AfterFunc(req.Context(), c.interrupt)
	res, reusable, err := c.writeAndReadHead(req, body)
	if err != nil {
		stop()
		c.close()
		c.release()
		return nil, err
	}
	c.headLeft = math.MaxInt64
	b := &answerBody{src: res.Body, c: c, ctx: req.Context(), stop: stop, reusable: reusable && !res.Close && !req.Close}
	if res.Body == http.NoBody {
		b.end(io.EOF)
		return res, nil
	}
	switch {
	case res.TransferEncoding != nil: // net/http accepts no other than chunked
		b.chunks.src = (*bodySource)(c)
		b.src = &b.chunks
	case res.Body == nil: // the head was read by readUsualHead
		b.fixed = fixedLength{(*bodySource)(c), res.ContentLength}
		b.src = &b.fixed
	}
	res.Body = b
	return res, nil
}

func (c *conn) writeAndReadHead(req *http.Request, body io.Reader) (res *http.Response, reusable bool, err error) {
	writeErr := c.write(req, body)
	if _, ours := errors.AsType[*bodyError](writeErr); ours {
		return nil, false, writeErr // the server is still waiting for the rest of the request
	}
	// There may be an answer even if writing failed: a server may send a 413, for example, and close before it has read everything.
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
	for {
		if _, err := c.r.Peek(1); err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
		if res, ok := c.readUsualHead(req); ok {
			return res, nil
		}
		res, err := http.ReadResponse(c.r, req)
		switch {
		case err != nil && c.headLeft <= 0:
			return nil, errHeadTooLarge // a truncated head may look malformed
		case err != nil:
			return nil, err
		case res.StatusCode >= 200:
			return res, nil
		case res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode < 100:
			return nil, fmt.Errorf("unexpected status %d", res.StatusCode)
		}
	}
}

// closedUnanswered reports whether an exchange failed because the server closed the connection without an answer.
func (c *conn) closedUnanswered(err error) bool {
	_, ours := errors.AsType[*bodyError](err)
	return !ours && !c.answered
}
