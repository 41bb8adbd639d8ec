package sse

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// chunk is an ordinary chat chunk of 250 bytes.
var chunk = func() []byte {
	head := `data: {"id":"chatcmpl-k2SHZDxfE0eESuiv8HhBhvJ1Of715ZC8","object":"chat.completion.chunk","created":1795424810,` +
		`"model":"tiny","choices":[{"index":0,"delta":{"content":"`
	tail := `"},"finish_reason":null}]}` + "\n\n"
	return []byte(head + strings.Repeat("x", 250-len(head)-len(tail)) + tail)
}()

const perBatch = 16

// loop is an endless stream: each read returns one batch, or as much of it as fits.
type loop struct {
	batch []byte
	at    int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.batch[l.at:])
	l.at = (l.at + n) % len(l.batch)
	return n, nil
}

func BenchmarkNext(b *testing.B) {
	for _, lines := range []struct{ name, end string }{{"LF", "\n"}, {"CRLF", "\r\n"}} {
		b.Run(lines.name, func(b *testing.B) {
			batch := bytes.Repeat(bytes.ReplaceAll(chunk, []byte("\n"), []byte(lines.end)), perBatch)
			r := NewReader(&loop{batch: batch}, MaxEvent)
			defer r.Close()
			for { // until the buffer is large enough
				if got, err := r.Next(); err != nil {
					b.Fatal(err)
				} else if len(got) == len(batch) {
					break
				}
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(batch)))
			for b.Loop() {
				if got, err := r.Next(); err != nil || len(got) != len(batch) {
					b.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*perBatch), "ns/event")
		})
	}
}

func BenchmarkCut(b *testing.B) {
	batch := bytes.Repeat(chunk, perBatch)
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		for rest := batch; len(rest) > 0; {
			var e Event
			if e, rest = Cut(rest); !e.HasData {
				b.Fatal("no data")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*perBatch), "ns/event")
}

// BenchmarkLongEvent shows that the cost of an event is linear in its length.
func BenchmarkLongEvent(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"200KiB", 200 << 10}, {"1MiB", 1 << 20}, {"16MiB", 16<<20 - 16}} {
		b.Run(size.name, func(b *testing.B) {
			event := []byte("data: " + strings.Repeat("x", size.n) + "\n\n")
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(&sips{event, 4 << 10}, MaxEvent)
				if got, err := r.Next(); err != nil || len(got) != len(event) {
					b.Fatalf("%d bytes, %v", len(got), err)
				}
				r.Close()
			}
		})
	}
}

// sips is a reader that returns at most size bytes at a time.
type sips struct {
	left []byte
	size int
}

func (s *sips) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left[:min(s.size, len(s.left))])
	s.left = s.left[n:]
	return n, nil
}
