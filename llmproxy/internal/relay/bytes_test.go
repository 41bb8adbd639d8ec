package relay

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBytes(t *testing.T) {
	t.Parallel()
	sound := strings.Repeat("\x00\xff\r\n", chunkSize)
	for _, tt := range []struct{ name, path, contentType, in, held string }{
		{"sound", "/v1/audio/speech", "audio/mpeg", sound, ""},
		{"little sound", "/v1/audio/speech", "audio/mpeg", "x", ""},
		{"no sound", "/v1/audio/speech", "audio/mpeg", "", ""},
		{"subtitles", "/v1/audio/transcriptions", "text/vtt; charset=utf-8", "WEBVTT\n", ""},
		{"sound where text is expected", "/v1/chat/completions", "audio/mpeg", sound, `the upstream answered "audio/mpeg" where JSON or events were expected`},
		{"a page", "/v1/chat/completions", "text/html", "<html>", `the upstream answered "text/html" where JSON or events were expected`},
		{"a page with an unreadable type", "/v1/chat/completions", ";", "<html>", `the upstream answered ";" where JSON or events were expected`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := newClient()
			got := pass(t, tt.contentType, strings.NewReader(tt.in), Expect{Endpoint: endpoint(t, tt.path)}, to)
			if got.Held != tt.held || got.Sent != "" || tt.held == "" && (got.Body != tt.in || to.header.Get("Content-Type") != tt.contentType) {
				t.Errorf("held %q, sent %q, %d bytes of %d, header %v", got.Held, got.Sent, len(got.Body), len(tt.in), to.header)
			}
		})
	}
}

// Nothing is collected: each read leaves at once.
func TestBytesAtOnce(t *testing.T) {
	t.Parallel()
	src, feed := io.Pipe()
	progress := make(chan struct{})
	to := newClient()
	ended := make(chan error, 1)
	go func() {
		res, _ := respond("audio/mpeg", src)
		answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/audio/speech"), Progress: progressFunc(func() { progress <- struct{}{} })})
		if err == nil {
			defer answer.Close()
			err = answer.Send(to, false)
		}
		ended <- err
	}()
	feed.Write([]byte("first"))
	for _, part := range []string{"second", "third"} {
		feed.Write([]byte(part))
		<-progress
		if !strings.HasSuffix(to.body.String(), part) || to.flushed != to.body.Len() {
			t.Errorf("after %q: %q, %d bytes flushed", part, to.body.String(), to.flushed)
		}
	}
	feed.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestBytesFail(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset")
	for _, tt := range []struct {
		name       string
		in         string
		end        error
		room       int
		held, sent string
	}{
		{"cut before the first byte", "", io.ErrUnexpectedEOF, 0, "cut", ""},
		{"reset before the first byte", "", reset, 0, "reading the answer: connection reset", ""},
		{"cut", "abc", io.ErrUnexpectedEOF, 0, "", "cut"},
		{"reset", strings.Repeat("x", 3*chunkSize), reset, 0, "", "reading the answer: connection reset"},
		{"the client leaves at once", "abc", io.EOF, 1, "", "client left"},
		{"the client leaves", strings.Repeat("x", 3*chunkSize), io.EOF, 2*chunkSize + 1, "", "client left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, src := range []io.Reader{
				io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(tt.end)),
				iotest.DataErrReader(io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(tt.end))),
			} {
				to := newClient()
				to.room = tt.room
				got := pass(t, "audio/mpeg", src, Expect{Endpoint: endpoint(t, "/v1/audio/speech")}, to)
				if got.Held != tt.held || got.Sent != tt.sent {
					t.Errorf("held %q, sent %q; want %q, %q", got.Held, got.Sent, tt.held, tt.sent)
				}
			}
		})
	}
}

func TestBytesEnd(t *testing.T) {
	t.Parallel()
	res, _ := respond("audio/mpeg", bytes.NewReader([]byte("abc")))
	res.Header.Set("Content-Length", "3")
	answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/audio/speech")})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	to := newClient()
	if err := answer.Send(to, false); err != nil || to.header.Get("Content-Length") != "3" {
		t.Errorf("%v, header %v", err, to.header)
	}
	if answer.Streams() {
		t.Error("an error would be told inside a sound")
	}
}
