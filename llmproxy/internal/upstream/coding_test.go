package upstream

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A packer answers with a body in a coding, whatever was asked for.
type packer struct {
	coding string
	body   []byte
	closed bool
}

func (p *packer) RoundTrip(*http.Request) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}, "Content-Length": {"1"}}
	if p.coding != "" {
		h["Content-Encoding"] = []string{p.coding}
	}
	return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(p.body)), Header: h, Body: p.packed()}, nil
}

func (p *packer) packed() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(p.body), closing(func() { p.closed = true })}
}

type closing func()

func (c closing) Close() error { c(); return nil }

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCodings(t *testing.T) {
	t.Parallel()
	packed := zipped(t, `{"a":1}`)
	for _, tt := range []struct {
		name, coding string
		body         []byte
		want         string
		err          error  // of reading
		refused      string // a part of the error
	}{
		{name: "none", body: []byte("plain"), want: "plain"},
		{name: "identity", coding: "identity", body: []byte("plain"), want: "plain"},
		{name: "gzip", coding: "gzip", body: packed, want: `{"a":1}`},
		{name: "its old name", coding: "X-GZIP", body: packed, want: `{"a":1}`},
		{name: "gzip without a body", coding: "gzip"},
		{name: "gzip that was cut", coding: "gzip", body: packed[:len(packed)-6], want: `{"a":1}`, err: io.ErrUnexpectedEOF},
		{name: "no gzip", coding: "gzip", body: []byte(strings.Repeat("plain", 9)), err: gzip.ErrHeader},
		{name: "another one", coding: "br", body: []byte("x"), refused: `Content-Encoding "br", which was not asked for`},
		{name: "two", coding: "gzip, br", body: []byte("x"), refused: `Content-Encoding "gzip, br"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &packer{coding: tt.coding, body: tt.body}
			u := &Upstream{Config: Config{Transport: p}}
			res, err := u.RoundTrip(nil)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) || !p.closed {
					t.Fatalf("got %v, closed %v; want an error with %q", err, p.closed, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
			if tt.coding != "" && tt.coding != "identity" && (res.ContentLength != -1 || res.Header["Content-Length"] != nil || res.Header["Content-Encoding"] != nil) {
				t.Errorf("length %d, header %v", res.ContentLength, res.Header)
			}
			if res.Body.Close(); !p.closed {
				t.Error("the answer is still open")
			}
		})
	}
}
