package jsonspan

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestBufferSizes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		n, class, in int
	}{
		{"nothing", 0, 0, 1 << 10},
		{"the least", 1 << 10, 0, 1 << 10},
		{"one more", 1<<10 + 1, 1, 2 << 10},
		{"a prompt", 100 << 10, 7, 128 << 10},
		{"the most", 1 << 20, 10, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b Buffer
			if got := b.Make(tt.n); len(got) != tt.n || b.class != tt.class || len(*b.memory) != tt.in {
				t.Errorf("%d bytes in memory of %d, class %d; want %d in %d, class %d", len(got), len(*b.memory), b.class, tt.n, tt.in, tt.class)
			}
		})
	}
	var large Buffer
	if got := large.Make(mostReused + 1); len(got) != mostReused+1 || large.memory != nil {
		t.Error("what is too large to be used again has a place to go back to")
	}
	large.Release()
	if got := readAll(t, NewBody([]byte("x")).In(&large)); got != "x" {
		t.Errorf("a body in memory that is not used again is %q", got)
	}
}

// lent is a body in memory that its maker has let go of already, with a reader of it.
func lent(t *testing.T, text string) (*Buffer, Body, io.ReadCloser) {
	t.Helper()
	b := new(Buffer)
	memory := b.Make(len(text))
	copy(memory, text)
	body := NewBody(memory).In(b)
	r := body.Open()
	b.Release()
	return b, body, r
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
		if n, err := late.Read(make([]byte, 8)); n > 0 || !errors.Is(err, errGone) {
			t.Errorf("%s: read %d bytes of memory that has gone, %v", name, n, err)
		}
	}
	if n, err := again.(io.WriterTo).WriteTo(io.Discard); n > 0 || !errors.Is(err, errGone) {
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
			var next Buffer
			clear(next.Make(len(text)))
			next.Release()
		})
	}
	all.Wait()
}
