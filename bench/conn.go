package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// A conn is a keep-alive HTTP/1.1 connection that understands just enough of HTTP to check the answers. net/http's client would
// use more CPU time than the proxies that are measured.
type conn struct {
	net.Conn
	buf  []byte
	r, w int // buf[r:w] is read but not used yet
}

func dial(ctx context.Context, addr string) (*conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, buf: make([]byte, 32<<10)}, nil
}

// exchange writes the request and reads its answer, within the connection's deadline.
func (c *conn) exchange(request []byte, a *answer) error {
	a.reset(time.Now())
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	h, err := c.head()
	if err != nil {
		return fmt.Errorf("reading the head of the answer: %w", err)
	}
	if h.status != 200 {
		return fmt.Errorf("status %d: %.300q", h.status, c.buf[c.r:c.w])
	}
	if h.chunked {
		err = c.chunks(a)
	} else {
		err = c.body(h.length, a)
	}
	if err != nil {
		return fmt.Errorf("reading the answer after %d bytes: %w", a.length, err)
	}
	return nil
}

// fill reads once.
func (c *conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.buf) {
		if c.r == 0 {
			return errors.New("a line or head is longer than the buffer")
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

type head struct {
	status, length int
	chunked        bool
}

// head reads up to the blank line.
func (c *conn) head() (head, error) {
	for {
		raw, _, whole := bytes.Cut(c.buf[c.r:c.w], []byte("\r\n\r\n"))
		if whole {
			c.r += len(raw) + 4
			return parseHead(raw)
		}
		if err := c.fill(); err != nil {
			return head{}, err
		}
	}
}

func parseHead(raw []byte) (head, error) {
	h := head{length: -1}
	line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return h, fmt.Errorf("not HTTP/1.1: %.80q", line)
	}
	h.status, _ = strconv.Atoi(string(line[9:12]))
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return h, fmt.Errorf("Content-Length: %w", err)
			}
			h.length = n
		case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
			h.chunked = true
		}
	}
	if h.length < 0 && !h.chunked {
		return h, errors.New("neither Content-Length nor chunked: the connection cannot be reused")
	}
	return h, nil
}

// body reads an answer of known length.
func (c *conn) body(length int, a *answer) error {
	for length > 0 {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		n := min(length, c.w-c.r)
		a.take(c.buf[c.r : c.r+n])
		c.r += n
		length -= n
	}
	return nil
}

// chunks reads a chunked answer (RFC 9112 §7.1), which must have no trailers.
func (c *conn) chunks(a *answer) error {
	for {
		size, err := c.chunkSize()
		if err != nil {
			return err
		}
		if err := c.body(size, a); err != nil {
			return err
		}
		for c.w-c.r < 2 {
			if err := c.fill(); err != nil {
				return err
			}
		}
		if c.buf[c.r] != '\r' || c.buf[c.r+1] != '\n' {
			return errors.New("a chunk is longer than its size")
		}
		c.r += 2
		if size == 0 {
			return nil
		}
	}
}

func (c *conn) chunkSize() (int, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i > 0 {
			line := c.buf[c.r : c.r+i-1]
			c.r += i + 1
			n, err := strconv.ParseUint(string(line), 16, 31)
			return int(n), err
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}
