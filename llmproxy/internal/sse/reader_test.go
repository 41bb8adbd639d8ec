package sse

import (
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var streams = []struct{ name, text string }{
	{"nothing", ""},
	{"one", "data: a\n\n"},
	{"two", "data: a\n\ndata: b\n\n"},
	{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n"},
	{"CR", "data: a\r\rdata: b\r\r"},
	{"mixed ends", "data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\rdata: e\r\n\rdata: f\n\n"},
	{"data of several lines", "data: a\r\ndata:b\rdata\ndata:  c\n\n"},
	{"names and other fields", "event: x\nid: 7\nretry: 10\ndata: {}\n\nevent:y\ndata\n\n"},
	{"comments", ": ping\n\n:\n\ndata: a\n: in between\ndata: b\n\n"},
	{"blank lines", "\n\n\r\n\r\rdata: a\n\n\n\n\r\n"},
	{"byte order mark", "\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\n"},
	{"half a byte order mark", "\xEF\xBBdata: a\n\n"},
	{"byte order mark only", "\xEF\xBB\xBF"},
	{"error field of old llama.cpp", "error: {\"code\":400}\n\n"},
	{"done without a blank line", "data: a\n\ndata: [DONE]"},
	{"done with one line end", "data: a\r\n\r\ndata: [DONE]\r\n"},
	{"done with half a line end", "data: a\n\ndata: [DONE]\r"},
	{"truncated", "data: a\n\ndata: {\"cho"},
	{"no colon, and other names", "data\n\nDATA: a\n\n data: b\n\ndatax: c\n\n"},
	{"zero bytes", "data: \x00\x00\n\n"},
}

// check compares the events of a stream with the reference.
func check(t testing.TB, stream string, src io.Reader) {
	t.Helper()
	events, rest := reference(stream)
	got := readAll(t, src, MaxEvent)
	if diff := cmp.Diff(events, got.Events, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("events (-reference +got):\n%s", diff)
	}
	if want := strings.TrimPrefix(stream, "\xEF\xBB\xBF"); got.Bytes != want {
		t.Errorf("all batches are %q, the stream is %q", got.Bytes, want)
	}
	want := io.EOF
	if rest != "" {
		want = io.ErrUnexpectedEOF
	}
	if !errors.Is(got.Err, want) {
		t.Errorf("ended with %v, want %v", got.Err, want)
	}
	if _, left := reference("\n" + got.Rest); left != rest {
		t.Errorf("rest %q, want %q", got.Rest, rest)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check(t, tt.text, strings.NewReader(tt.text))
			check(t, tt.text, iotest.DataErrReader(strings.NewReader(tt.text)))
			check(t, tt.text, iotest.OneByteReader(strings.NewReader(tt.text)))
			for i := range len(tt.text) {
				for j := i; j < len(tt.text); j++ {
					check(t, tt.text, &pieces{tt.text[:i], tt.text[i:j], tt.text[j:]})
				}
			}
		})
	}
}

func TestReaderReturnsAtOnce(t *testing.T) {
	t.Parallel()
	// Complete events must be returned before the next read, which may take minutes.
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		src, feed := io.Pipe()
		r := NewReader(src, MaxEvent)
		for range 3 {
			written := make(chan error, 1)
			go func() {
				_, err := io.WriteString(feed, "data: a"+end)
				written <- err
			}()
			if batch, err := r.Next(); string(batch) != "data: a"+end || err != nil {
				t.Fatalf("%q: got %q, %v", end, batch, err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
	}
}

func TestReaderBatches(t *testing.T) {
	t.Parallel()
	r := NewReader(&pieces{"data: a\n\ndata: b\n\ndata", ": c\n", "\ndata: d\n\n"}, MaxEvent)
	defer r.Close()
	var got []string
	for {
		batch, err := r.Next()
		if err != nil {
			break
		}
		got = append(got, string(batch))
	}
	want := []string{"data: a\n\ndata: b\n\n", "data: c\n\ndata: d\n\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestReaderErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset")
	tests := []struct {
		name  string
		src   io.Reader
		bytes string
		rest  string
		err   error
	}{
		{"error between events", io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(broken)), "data: a\n\n", "", broken},
		{"error inside an event", io.MultiReader(strings.NewReader("data: a\n\ndat"), iotest.ErrReader(broken)), "data: a\n\ndat", "dat", broken},
		{"error with the last bytes", iotest.DataErrReader(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(broken))), "data: a\n\n", "", broken},
		{"body truncated by the server", io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), "data: a\n\n", "", io.ErrUnexpectedEOF},
		{"neither bytes nor error", silent{}, "", "", io.ErrNoProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := readAll(t, tt.src, MaxEvent)
			if got.Bytes != tt.bytes || got.Rest != tt.rest || !errors.Is(got.Err, tt.err) {
				t.Errorf("got %q, rest %q, %v; want %q, rest %q, %v", got.Bytes, got.Rest, got.Err, tt.bytes, tt.rest, tt.err)
			}
		})
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReaderBound(t *testing.T) {
	t.Parallel()
	event := func(size int) string { return "data: " + strings.Repeat("x", size-8) + "\n\n" }
	for _, max := range []int{20, sizes[0], sizes[0] + 1, 3 * sizes[0], 1 << 18} {
		fits, over := event(max), event(max+1)
		tests := []struct {
			name, text, bytes string
			err               error
		}{
			{"fits", fits + fits, fits + fits, io.EOF},
			{"too long", over, "", ErrTooLong},
			{"too long after one that fits", fits + over + fits, fits, ErrTooLong},
			{"too long without an end", fits + strings.Repeat("x", max+1), fits, ErrTooLong},
			{"truncated at the bound", fits + strings.Repeat("x", max), fits + strings.Repeat("x", max), io.ErrUnexpectedEOF},
		}
		for _, tt := range tests {
			for _, size := range []int{max/7 + 1, sizes[0], 1 << 30} {
				got := readAll(t, &sips{[]byte(tt.text), size}, max)
				if got.Bytes != tt.bytes || !errors.Is(got.Err, tt.err) {
					t.Errorf("bound %d, %s, reads of %d: %d bytes and %v, want %d and %v",
						max, tt.name, size, len(got.Bytes), got.Err, len(tt.bytes), tt.err)
				}
			}
		}
	}
}

// TestReaderCost checks that no input is searched or copied repeatedly: if it were, the test would time out.
func TestReaderCost(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("\r", 1<<20),
		strings.Repeat("\r\r\n", 1<<17),
		strings.Repeat("data: a\r\r", 1<<16),
		strings.Repeat("data\n", 1<<20) + "\n",
		strings.Repeat("data\r", 1<<20) + "\r",
		"data: " + strings.Repeat("x", MaxEvent-8) + "\n\n",
	} {
		r := NewReader(&sips{[]byte(text), 1 << 20}, MaxEvent)
		got := 0
		for {
			batch, err := r.Next()
			got += len(batch)
			if err != nil {
				break
			}
			for len(batch) > 0 {
				var e Event
				if e, batch = Cut(batch); e.Name != nil {
					t.Fatalf("an event with a name: %q", e.Name)
				}
			}
		}
		r.Close()
		if got != len(text) {
			t.Errorf("%.10q…: got %d bytes of %d", text, got, len(text))
		}
	}
}

// TestReaderBuffer checks the size of the buffer: small while little arrives at a time.
func TestReaderBuffer(t *testing.T) {
	t.Parallel()
	small, middle, large := sizes[0], sizes[1], sizes[2]
	event := func(size int) string { return "data: " + strings.Repeat("x", size-8) + "\n\n" }
	steps := []struct {
		text  string
		times int
		size  int // of the buffer when the next read begins
	}{
		{event(100), 1, small},
		{event(small / 2), 1, small},
		{event(small - 10), 1, middle},
		{event(small), smallReads, middle},
		{event(100), smallReads - 1, middle},
		{event(small), 1, middle}, // others must follow each other
		{event(100), smallReads - 1, middle},
		{event(100), 1, small},
		{event(middle), 1, large}, // in several reads
		{event(large / 2), smallReads, large},
		{event(100), smallReads - 1, large},
		{event(100), 1, middle},
		{event(100), smallReads, small},
		{event(small), 1, middle},
		{event(4 * large), 1, sizes[3]},
		{event(middle), 1, large},
		{event(2 * sizes[3]), 1, sizes[4]},
		{event(100), 1, large},
		{event(2 * sizes[4]), 1, 2 * sizes[4]}, // not pooled
		{event(100), 1, large},
	}
	var stream pieces
	for _, s := range steps {
		stream = append(stream, slices.Repeat([]string{s.text}, s.times)...)
	}
	r := NewReader(&stream, MaxEvent)
	defer r.Close()
	for i, s := range steps {
		for range s.times {
			batch, err := r.Next()
			if string(batch) != s.text || err != nil {
				t.Fatalf("step %d: got %d bytes, %v", i, len(batch), err)
			}
			r.makeSpace()
		}
		if len(r.buf) != s.size {
			t.Errorf("step %d, after events of %d bytes: the buffer has %d bytes, want %d", i, len(s.text), len(r.buf), s.size)
		}
		if r.level < len(sizes) && len(r.buf) != sizes[r.level] {
			t.Errorf("step %d: a buffer of %d bytes goes to the pool of %d", i, len(r.buf), sizes[r.level])
		}
	}
}

func TestReaderClose(t *testing.T) {
	t.Parallel()
	r := NewReader(strings.NewReader("data: a\n\n"), MaxEvent)
	r.Close()
	r.Close()
	if batch, err := r.Next(); batch != nil || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %q, %v after Close", batch, err)
	}
}

func TestReaderAllocations(t *testing.T) {
	batch := []byte(strings.Repeat(string(chunk), perBatch))
	r := NewReader(&loop{batch: batch}, MaxEvent)
	defer r.Close()
	allocs := testing.AllocsPerRun(100, func() {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		for len(got) > 0 {
			var e Event
			e, got = Cut(got)
			runtime.KeepAlive(e)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a batch, want 0", allocs)
	}
}

// A waitingSource is a stream of which each read brings one part. It counts how often the reader waited with a buffer and without.
type waitingSource struct {
	parts         []string
	reader        *Reader
	with, without int
}

func (s *waitingSource) Wait() {
	if s.reader.buffer != nil {
		s.with++
	} else {
		s.without++
	}
}

func (s *waitingSource) Read(p []byte) (n int, err error) {
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n = copy(p, s.parts[0])
	s.parts = s.parts[1:]
	return n, nil
}

// A reader of a source that can wait holds a buffer only from the first byte of an event to its last.
func TestWaitsWithoutBuffer(t *testing.T) {
	t.Parallel()
	s := &waitingSource{parts: []string{"data: a\n\n", "data: b", "\n\n", "data: c\n\ndata: d\n\n"}}
	s.reader = NewReader(s, MaxEvent)
	defer s.reader.Close()
	var got []string
	for {
		batch, err := s.reader.Next()
		if err != nil {
			break
		}
		got = append(got, string(batch))
	}
	if want := []string{"data: a\n\n", "data: b\n\n", "data: c\n\ndata: d\n\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s.with != 0 || s.without != 4 { // before each batch, and before the end
		t.Errorf("the reader waited %d times with a buffer and %d times without, want 0 and 4", s.with, s.without)
	}
}
