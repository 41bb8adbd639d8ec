package reqbody

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func TestMemorySizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		n, in int
	}{
		{"nothing", 0, 1 << 10},
		{"the least", 1 << 10, 1 << 10},
		{"one more", 1<<10 + 1, 2 << 10},
		{"a prompt", 100 << 10, 128 << 10},
		{"the most that is small", 1 << 20, 1 << 20},
		{"large", 1<<20 + 1, 5 << 18},
		{"a quarter more", 5 << 18, 5 << 18},
		{"more than a quarter more", 5<<18 + 1, 6 << 18},
		{"5 MB", 5_000_000, 5 << 20},
		{"30 MB", 30_000_000, 32 << 20},
		{"the most", 32 << 20, 32 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m Memory
			if got := m.Make(tt.n); len(got) != tt.n || len(*m.bytes) != tt.in || pooledSize(tt.n) != int64(tt.in) {
				t.Errorf("%d bytes in memory of %d, announced as %d; want %d in %d", len(got), len(*m.bytes), pooledSize(tt.n), tt.n, tt.in)
			}
		})
	}
	for c := range classOf(maxPooled) + 1 { // no gap, no overlap
		if n := c.size(); classOf(n) != c || c > 0 && classOf((c-1).size()+1) != c {
			t.Errorf("class %d of %d bytes: %d bytes are of class %d, and one more than the class before of %d", c, n, n, classOf(n), classOf((c-1).size()+1))
		}
	}
	var large Memory
	if got := large.Make(maxPooled + 1); len(got) != maxPooled+1 || large.bytes != nil {
		t.Error("what is too large to be used again has a place to go back to")
	}
	large.Release()
	if got := readAll(t, NewPayload([][]byte{[]byte("x")}, &large)); got != "x" {
		t.Errorf("a body in memory that is not used again is %q", got)
	}
}

// lent is a body in memory that its maker has let go of already, with a reader of it.
func lent(t *testing.T, text string) (*Memory, Payload, io.ReadCloser) {
	t.Helper()
	m := new(Memory)
	bytes := m.Make(len(text))
	copy(bytes, text)
	body := NewPayload([][]byte{bytes}, m)
	r := body.Open()
	m.Release()
	return m, body, r
}

func TestReaderHoldsItsMemory(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("what is read must be what was sent. ", 100)
	b, body, r := lent(t, text)
	again := body.Open() // while one reads, another may begin
	r.Close()
	r.Close()
	if got := b.holders.Load(); got != 1 {
		t.Fatalf("%d hold the memory, want the other reader alone", got)
	}
	got, err := io.ReadAll(again)
	if err != nil || string(got) != text {
		t.Errorf("read %.40q…, %v", got, err)
	}
	again.Close()
	if got := b.holders.Load(); got != 0 {
		t.Fatalf("%d hold the memory when everybody has let go", got)
	}
	for name, late := range map[string]io.Reader{"closed": again, "opened late": body.Open()} {
		if n, err := late.Read(make([]byte, 8)); n > 0 || !errors.Is(err, errReleased) {
			t.Errorf("%s: read %d bytes of memory that has gone, %v", name, n, err)
		}
	}
	if n, err := again.(io.WriterTo).WriteTo(io.Discard); n > 0 || !errors.Is(err, errReleased) {
		t.Errorf("wrote %d bytes of memory that has gone, %v", n, err)
	}
	b.Release() // no harm: nobody takes it for another one's
}

// HTTP/2's transport closes a body in another goroutine while it reads it.
func TestCloseWhileReading(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a", 64<<10)
	var all sync.WaitGroup
	for range 200 {
		_, _, r := lent(t, text)
		all.Go(func() {
			piece := make([]byte, 1<<10)
			for {
				n, err := r.Read(piece)
				if strings.Trim(string(piece[:n]), "a") != "" {
					t.Error("the memory was given away during a read")
				}
				if err != nil {
					return
				}
			}
		})
		all.Go(func() { r.Close() })
		all.Go(func() { // who gets the memory next writes to it
			var next Memory
			clear(next.Make(len(text)))
			next.Release()
		})
	}
	all.Wait()
}

func TestPayloadReaders(t *testing.T) {
	t.Parallel()
	body := Payload{segments: [][]byte{[]byte("one "), []byte("two "), []byte("three")}}
	if body.Len() != 13 {
		t.Errorf("Len = %d, want 13", body.Len())
	}
	if err := iotest.TestReader(body.Open(), []byte("one two three")); err != nil {
		t.Error(err)
	}
	a, b := body.Open(), body.Open()
	half := make([]byte, 6)
	if _, err := io.ReadFull(a, half); err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(b)
	if err != nil || string(whole) != "one two three" {
		t.Errorf("the second reader gives %q, %v", whole, err)
	}
	var rest bytes.Buffer
	if n, err := a.(io.WriterTo).WriteTo(&rest); err != nil || n != 7 || rest.String() != "o three" {
		t.Errorf("WriteTo after Read = %d, %v, %q", n, err, rest.String())
	}
	if n, err := a.Read(half); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("Read at the end = %d, %v, want io.EOF", n, err)
	}
}

// gatherer takes all segments at once.
type gatherer struct {
	bytes.Buffer
	calls int
}

func (g *gatherer) WriteSegments(segments [][]byte) (n int64, err error) {
	g.calls++
	for _, s := range segments {
		g.Write(s)
		n += int64(len(s))
	}
	return n, nil
}

func TestPayloadWriteSegments(t *testing.T) {
	t.Parallel()
	body := Payload{segments: [][]byte{[]byte("one "), []byte("two ")}}
	for range 2 { // it can be sent again
		var g gatherer
		r := body.Open()
		if n, err := r.(io.WriterTo).WriteTo(&g); n != 8 || err != nil || g.String() != "one two " || g.calls != 1 {
			t.Errorf("WriteTo = %d, %v, %q in %d calls", n, err, g.String(), g.calls)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("Read at the end = %d, %v, want io.EOF", n, err)
		}
	}
}

func TestPayloadWriteFails(t *testing.T) {
	t.Parallel()
	r := Payload{segments: [][]byte{[]byte("one "), []byte("two ")}}.Open()
	w := iotest.TruncateWriter(failAfter{new(int)}, 100)
	if n, err := r.(io.WriterTo).WriteTo(w); n != 6 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("WriteTo = %d, %v, want 6 and the error", n, err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "o " {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

// failAfter takes six bytes.
type failAfter struct{ n *int }

func (f failAfter) Write(p []byte) (int, error) {
	took := min(len(p), 6-*f.n)
	*f.n += took
	if took < len(p) {
		return took, io.ErrShortWrite
	}
	return took, nil
}

// readAll reads a body in both ways, which must agree.
func readAll(t *testing.T, p Payload) string {
	t.Helper()
	read, err := io.ReadAll(iotest.OneByteReader(p.Open()))
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if _, err := p.Open().(io.WriterTo).WriteTo(&written); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read, written.Bytes()) || int64(len(read)) != p.Len() {
		t.Fatalf("Read gives %q, WriteTo %q, Len %d", read, written.Bytes(), p.Len())
	}
	return string(read)
}
