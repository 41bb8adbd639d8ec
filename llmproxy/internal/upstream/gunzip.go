package upstream

import (
	"compress/gzip"
	"fmt"
	"io"
)

// A gzip answer may unpack to maxUnpacked bytes, or to maxExpansion times its packed size if that is more. Real answers, which do not
// compress as well as zeros, stay far below that; without a bound, 1 MB becomes 1 GiB for the client.
const (
	maxUnpacked  = 64 << 20
	maxExpansion = 32
)

// A gunzipped body starts to decompress when it is first read, because an answer without a body may be labeled gzip, too.
type gunzipped struct {
	io.Closer
	packed   counter
	plain    *gzip.Reader
	unpacked int64 // bytes
}

func newGunzipped(body io.ReadCloser) *gunzipped {
	return &gunzipped{Closer: body, packed: counter{Reader: body}}
}

// Read implements io.Reader.
func (z *gunzipped) Read(p []byte) (n int, err error) {
	if z.plain == nil {
		if z.plain, err = gzip.NewReader(&z.packed); err != nil {
			return 0, err
		}
	}
	n, err = z.plain.Read(p)
	if z.unpacked += int64(n); z.unpacked > max(maxUnpacked, maxExpansion*z.packed.n) {
		return 0, fmt.Errorf("the upstream's answer unpacks to more than %d MiB and more than %d times its size", maxUnpacked>>20, maxExpansion)
	}
	return n, err
}

// A counter counts what is read.
type counter struct {
	io.Reader
	n int64 // bytes
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
