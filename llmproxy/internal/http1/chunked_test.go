package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"
)

func TestChunked(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxChunkLine)
	tests := []struct {
		name, raw, body string
		err             error // io.EOF for a valid body
	}{
		{"nothing", "", "", io.ErrUnexpectedEOF},
		{"no data", "0\r\n\r\n", "", io.EOF},
		{"one", "5\r\nhello\r\n0\r\n\r\n", "hello", io.EOF},
		{"several", "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", "abcdef", io.EOF},
		{"hexadecimal", "1A\r\n" + long[:26] + "\r\n1a\r\n" + long[:26] + "\r\n000\r\n\r\n", long[:52], io.EOF},
		{"data that looks like framing", "9\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n0\r\n\r", errChunk},
		{"data of line ends", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", io.EOF},
		{"extension", "1;a=b\r\nx\r\n0;c\r\n\r\n", "x", io.EOF},
		{"padding", "1 \t\r\nx\r\n0 \r\n\r\n", "x", io.EOF},
		{"trailers", "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", "x", io.EOF},
		{"truncated in the length", "1", "", io.ErrUnexpectedEOF},
		{"truncated in data", "5\r\nhel", "hel", io.ErrUnexpectedEOF},
		{"truncated after data", "5\r\nhello\r\n", "hello", io.ErrUnexpectedEOF},
		{"truncated in the trailer", "1\r\nx\r\n0\r\nA: b\r\n", "x", io.ErrUnexpectedEOF},
		{"truncated in the last line", "1\r\nx\r\n0\r\n\r", "x", io.ErrUnexpectedEOF},
		{"no length", "\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"extension without a length", ";a\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"no digit", "1\r\nx\r\ng\r\n", "x", errChunk},
		{"sign", "-1\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"prefix", "0x1\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"leading space", " 1\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"lone LF", "1\nx\r\n0\r\n\r\n", "", errChunk},
		{"LF in an extension", "1;a\nb\r\nx\r\n0\r\n\r\n", "", errChunk},
		{"lone CR", "1\rx", "", errChunk},
		{"overflowing length", "10000000000000001\r\n", "", errChunkSize},
		{"many zeros", strings.Repeat("0", 17) + "\r\n\r\n", "", errChunkSize},
		{"data longer than its length", "1\r\nxy\r\n0\r\n\r\n", "x", errChunk},
		{"data without an end", "1\r\nx0\r\n\r\n", "x", errChunk},
		{"long extension", "1;" + long + "\r\nx\r\n0\r\n\r\n", "", errChunkLine},
		{"long trailer", "0\r\n" + strings.Repeat("A: b\r\n", maxChunkLine/6+1) + "\r\n", "", errChunkLine},
		{"LF in a trailer", "0\r\nA: b\nC: d\r\n\r\n", "", errTrailer},
		{"endless extensions", strings.Repeat("1;"+long[:2000]+"\r\nx\r\n", 20), "xxxxxxxx", errOverhead},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, split := range splits(tt.raw, 1) {
				body, err := readAll(&chunked{src: split})
				if body != tt.body || !errors.Is(err, tt.err) {
					t.Errorf("%s: got %q, %v; want %q, %v", split.name, body, err, tt.body, tt.err)
				}
			}
		})
	}
}

// Bytes after a body must be noticed, because the connection must not be reused.
func TestSurplus(t *testing.T) {
	t.Parallel()
	const body = "1\r\nx\r\n0\r\n\r\n"
	for raw, want := range map[string]bool{body: false, body + "H": true} {
		r := chunked{src: strings.NewReader(raw)}
		if _, err := readAll(&r); err != io.EOF || r.surplus != want {
			t.Errorf("%q: surplus %v, %v; want %v", raw, r.surplus, err, want)
		}
	}
}

// Data must be returned before the end of its chunk has arrived.
func TestChunkedReturnsAtOnce(t *testing.T) {
	t.Parallel()
	src, feed := io.Pipe()
	r := chunked{src: src}
	buf := make([]byte, 64)
	for _, part := range []struct{ raw, want string }{
		{"8\r\ndata", "data"}, {": a\n\r\n8\r\nd", ": a\nd"}, {"ata: b\n\r\n", "ata: b\n"}, {"1\r\n\n", "\n"},
	} {
		go feed.Write([]byte(part.raw))
		if n, err := r.Read(buf); string(buf[:n]) != part.want || err != nil {
			t.Fatalf("after %q: got %q, %v; want %q", part.raw, buf[:n], err, part.want)
		}
	}
	feed.Close()
}

// A trailer is accepted if it is well-formed, as by net/http.
func TestTrailers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		trailer string
		valid   bool
	}{
		{"", true},
		{"A: b\r\n", true},
		{"A:b\r\n", true},
		{"A:\r\n", true},
		{"A: \t b \t\r\n", true},
		{"A: b\r\nA: c\r\n", true},
		{"A: b\r\n c\r\n\td\r\n", true},
		{"A : b\r\n", true},
		{"A b: c\r\n", true},
		{"A: caf\xe9\r\n", true},
		{"A: b:c\r\n", true},
		{"!#$%&'*+-.^_`|~09: b\r\n", true},
		{"A\r\n", false},
		{"no colon here\r\n", false},
		{": b\r\n", false},
		{" A: b\r\n", false},
		{"\tA: b\r\n", false},
		{"A(b): c\r\n", false},
		{"A/b: c\r\n", false},
		{"caf\xe9: b\r\n", false},
		{"A\t: b\r\n", false},
		{"A\x00: b\r\n", false},
		{"A: b\x00c\r\n", false},
		{"A: b\x1b[0m\r\n", false},
		{"A: b\x7f\r\n", false},
		{"A: b\r\nC\r\n", false},
		{"A: b\r\n c\x01\r\n", false},
		{"A: b\rC: d\r\n", false},
	} {
		raw := "1\r\nx\r\n0\r\n" + test.trailer + "\r\n"
		for _, split := range splits(raw, 1) {
			body, err := readAll(&chunked{src: split})
			if body != "x" || (err == io.EOF) != test.valid {
				t.Errorf("%q, %s: got %q, %v; want it valid: %t", test.trailer, split.name, body, err, test.valid)
			}
		}
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+raw)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(res.Body); (err == io.EOF) != test.valid {
			t.Errorf("%q: net/http returns %v, want it valid: %t", test.trailer, err, test.valid)
		}
	}
}

// FuzzChunked checks that any bytes, in any pieces, are decoded as by net/http.
func FuzzChunked(f *testing.F) {
	for _, raw := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "1 \r\nx\r\n0\r\n\r\nH", "a\r\n0123456789\r\n", "1\nx\r\n",
		"ffffffffffffffff\r\nx", "00000000000000001\r\nx\r\n0\r\n\r\n",
	} {
		f.Add([]byte(raw), uint64(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		r := chunked{src: bytes.NewReader(raw)}
		body, err := readAll(&r)
		for _, split := range splits(string(raw), seed) {
			again, againErr := readAll(&chunked{src: split})
			if again != body || (againErr == io.EOF) != (err == io.EOF) {
				t.Fatalf("%s: got %q, %v; in one piece %q, %v", split.name, again, againErr, body, err)
			}
		}
		if errors.Is(err, errChunkSize) {
			return // net/http's count of the overhead overflows
		}
		theirs, theirErr := readAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if theirErr == io.EOF && r.state >= trailerStart {
			theirErr = err // this reader stops before the trailer
			if err == io.EOF {
				theirErr = trailerError(t, raw)
			}
		}
		if theirs != body || (theirErr == io.EOF) != (err == io.EOF) {
			t.Errorf("got %q, %v; net/http returns %q, %v", body, err, theirs, theirErr)
		}
	})
}

// trailerError returns what net/http says of a body with its trailer, which may be stricter only about its length.
func trailerError(t *testing.T, raw []byte) error {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReaderSize(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(raw)), 64<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = readAll(res.Body)
	return err
}

type split struct {
	name string
	io.Reader
}

// splits returns readers of the same bytes in different pieces.
func splits(raw string, seed uint64) []split {
	random := rand.New(rand.NewPCG(seed, 0))
	var pieces []io.Reader
	for rest := raw; rest != ""; {
		n := 1 + random.IntN(len(rest))
		pieces = append(pieces, strings.NewReader(rest[:n]))
		rest = rest[n:]
	}
	return []split{
		{"whole", strings.NewReader(raw)},
		{"with the error", iotest.DataErrReader(strings.NewReader(raw))},
		{"byte by byte", iotest.OneByteReader(strings.NewReader(raw))},
		{"random", io.MultiReader(pieces...)},
	}
}

// readAll is like io.ReadAll, but returns io.EOF at a proper end.
func readAll(r io.Reader) (string, error) {
	var all []byte
	buf := make([]byte, 1<<10)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			return string(all), err
		}
	}
}
