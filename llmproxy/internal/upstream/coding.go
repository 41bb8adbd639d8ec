package upstream

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// RoundTrip sends a request by the upstream's transport. Every request asks for a plain answer; what comes in gzip all the same,
// as from a proxy that compresses everything, is read plainly, since usage and errors have to be found in it.
func (u *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := u.Transport.RoundTrip(req)
	if err != nil || res.Header["Content-Encoding"] == nil {
		return res, err
	}
	switch coding := strings.ToLower(res.Header.Get("Content-Encoding")); coding {
	case "", "identity":
		return res, nil
	case "gzip", "x-gzip":
		res.Body, res.ContentLength = &unzipped{Closer: res.Body, packed: res.Body}, -1
		delete(res.Header, "Content-Encoding")
		delete(res.Header, "Content-Length")
		return res, nil
	default:
		res.Body.Close()
		return nil, fmt.Errorf("the upstream answered in the Content-Encoding %q, which was not asked for", coding)
	}
}

// An unzipped body begins to unpack when it is first read: an answer without a body may be called gzip, too.
type unzipped struct {
	io.Closer
	packed io.Reader
	plain  *gzip.Reader
}

// Read implements io.Reader.
func (z *unzipped) Read(p []byte) (n int, err error) {
	if z.plain == nil {
		if z.plain, err = gzip.NewReader(z.packed); err != nil {
			return 0, err
		}
	}
	return z.plain.Read(p)
}
