package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	rightStream = "data: {\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}\n\ndata: {\"delta\":{\"content\":\"a\"}}\n\ndata: [DONE]\n\n"
	rightJSON   = `{"content":"hello"}` + "\n"
)

func chunked(body string, size int) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func whole200(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
}

// serve returns a connection whose other end writes the answers, n bytes at a time.
func serve(t *testing.T, answers string, n int) *conn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	go func() {
		defer far.Close()
		go func() { // discard the requests
			for buf := make([]byte, 512); ; {
				if _, err := far.Read(buf); err != nil {
					return
				}
			}
		}()
		for len(answers) > 0 {
			k := min(n, len(answers))
			if _, err := far.Write([]byte(answers[:k])); err != nil {
				return
			}
			answers = answers[k:]
		}
	}()
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))
	return &conn{Conn: near, buf: make([]byte, 4096)}
}

// Three answers on one connection are read correctly, however they are cut into chunks and reads.
func TestExchangeAnyCut(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{true, false} {
		for n := 1; n < 60; n++ {
			answers := strings.Repeat(whole200(rightJSON), 3)
			if stream {
				answers = strings.Repeat(chunked(rightStream, n%13+1), 3)
			}
			c := serve(t, answers, n)
			w, err := learn(c, []byte("x"), stream)
			if err != nil {
				t.Fatalf("stream %v, reads of %d: learning: %v", stream, n, err)
			}
			if stream && (w.events != 3 || w.content != 2) {
				t.Fatalf("reads of %d: learned %+v", n, w)
			}
			a := answer{want: w}
			for range 2 {
				if err := c.exchange([]byte("x"), &a); err != nil {
					t.Fatalf("stream %v, reads of %d: %v", stream, n, err)
				}
				if err := a.check(); err != nil {
					t.Fatalf("stream %v, reads of %d: %v", stream, n, err)
				}
				if stream && a.first == 0 {
					t.Fatalf("reads of %d: the time to the first content is missing", n)
				}
			}
		}
	}
}

func TestWrongAnswersFail(t *testing.T) {
	t.Parallel()
	stream := &want{stream: true, events: 3, content: 2}
	whole := &want{length: len(rightJSON)}
	tests := []struct {
		name, raw string
		want      *want
	}{
		{"an event missing", chunked(strings.SplitAfterN(rightStream, "\n\n", 2)[1], 9), stream},
		{"no done", chunked(strings.Replace(rightStream, "[DONE]", "[DUNE]", 1), 9), stream},
		{"cut", strings.TrimSuffix(chunked(rightStream, 9), "0\r\n\r\n"), stream},
		{"status", strings.Replace(whole200(rightJSON), "200", "502", 1), whole},
		{"too short", whole200(rightJSON), &want{length: len(rightJSON) + idDigits + 1}},
		{"not an object", whole200(strings.Replace(rightJSON, "{", "[", 1)), whole},
		{"cut body", strings.TrimSuffix(whole200(rightJSON), "}\n"), whole},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n" + rightJSON, whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := answer{want: tt.want}
			err := serve(t, tt.raw, 7).exchange([]byte("x"), &a)
			if err == nil {
				err = a.check()
			}
			if err == nil {
				t.Error("got no error")
			}
		})
	}
}
