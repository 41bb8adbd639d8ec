package caching

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		entry Entry
	}{
		{"small", Entry{Form: Whole, ContentType: "application/json", Target: "u/m", Body: []byte(`{"a":1}`)}},
		{"large", Entry{Form: Events, ContentType: "text/event-stream", Body: []byte(strings.Repeat("data: x\n\n", 1000)), Extra: []Span{{Start: 0, End: 9}, {Start: 18, End: 27}}}},
		{"with tokens", Entry{Form: Part, HasUsage: true, Usage: tokens.Usage{Input: 1, Output: 2, Cached: 3, Reasoning: 1 << 40, Searches: 5}, Body: []byte("x")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := test.entry
			e.Created, e.TTL = time.UnixMilli(1795424810123), time.Hour
			b := e.Marshal()
			if len(e.Body) > compressAbove && len(b) > len(e.Body)/10 {
				t.Errorf("%d bytes were compressed to %d only", len(e.Body), len(b))
			}
			got, err := UnmarshalEntry(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&e, got, cmpopts.IgnoreUnexported(Entry{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Entries that the previous version stored can still be read.
func TestEntryOfPreviousLayout(t *testing.T) {
	t.Parallel()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	body := []byte(strings.Repeat("data: x\n\n", 1000))
	want := &Entry{Form: Events, ContentType: "text/event-stream", Created: time.UnixMilli(1795424810123), TTL: time.Hour, Target: "u/m",
		HasUsage: true, Usage: tokens.Usage{Input: 1, Output: 2, Searches: 5}, Extra: []Span{{Start: 9, End: 18}}, Body: body}
	for _, compressed := range []bool{false, true} {
		e := *want
		e.Body = nil
		b := e.Marshal() // without its body, it is as the previous version wrote it, but for that
		b[0] = layoutZstd
		if compressed {
			b[1] |= flagCompressed
			b = w.EncodeAll(body, b)
		} else {
			b = append(b, body...)
		}
		binary.BigEndian.PutUint32(b[checksumAt:], checksum(b))
		got, err := UnmarshalEntry(b)
		if err != nil {
			t.Fatalf("compressed %v: %v", compressed, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Entry{})); diff != "" {
			t.Errorf("compressed %v: %s", compressed, diff)
		}
	}
}

// A store may hold entries of versions that are unknown.
func TestEntryOfUnknownLayoutIsInvalid(t *testing.T) {
	t.Parallel()
	e := Entry{Form: Whole, Created: time.UnixMilli(1795424810123), TTL: time.Hour, Body: []byte("{}")}
	for _, version := range []byte{layoutZstd - 1, layoutVersion + 1} {
		b := e.Marshal()
		b[0] = version
		binary.BigEndian.PutUint32(b[checksumAt:], checksum(b))
		if got, err := UnmarshalEntry(b); !errors.Is(err, errInvalidEntry) {
			t.Errorf("version %d: %+v, %v", version, got, err)
		}
	}
}

// A few bytes must not become gigabytes.
func TestEntryOfExcessiveSizeIsInvalid(t *testing.T) {
	t.Parallel()
	if _, err := decompress(binary.AppendUvarint(nil, maxBody+1), layoutVersion); !errors.Is(err, errInvalidEntry) {
		t.Errorf("%v, want %v", err, errInvalidEntry)
	}
}

// An entry that was changed or cut anywhere is invalid.
func TestDamagedEntryIsInvalid(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"a":1}`, strings.Repeat("data: x\n\n", 1000)} {
		e := Entry{Form: Events, ContentType: "text/event-stream", Target: "u/m", Created: time.UnixMilli(1795424810123), TTL: time.Hour, Body: []byte(body), Extra: []Span{{Start: 0, End: 3}}}
		good := e.Marshal()
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if got, err := UnmarshalEntry(bad); err == nil {
				t.Errorf("accepted with byte %d changed: %+v", i, got)
			}
			if got, err := UnmarshalEntry(good[:i]); err == nil {
				t.Errorf("accepted when cut to %d bytes: %+v", i, got)
			}
		}
	}
}

func TestEntryPieces(t *testing.T) {
	t.Parallel()
	e := Entry{Body: []byte("aaXXbYY"), Extra: []Span{{Start: 2, End: 4}, {Start: 5, End: 7}}}
	for extra, want := range map[bool]string{true: "aaXXbYY", false: "aa|b"} {
		var got []string
		e.Pieces(extra, func(p []byte) { got = append(got, string(p)) })
		if strings.Join(got, "|") != want {
			t.Errorf("extra %v: pieces %q, want %s", extra, got, want)
		}
	}
}

func TestEntryAgeAndFreshness(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1795424810123)
	e := Entry{Created: now.Add(-time.Minute), TTL: time.Hour}
	if got := e.Age(now); got != time.Minute {
		t.Errorf("age %s, want 1m", got)
	}
	if got := e.Age(now.Add(-time.Hour)); got != 0 {
		t.Errorf("age %s before it was created, want 0", got)
	}
	if !e.Fresh(now) || e.Fresh(now.Add(time.Hour)) {
		t.Errorf("fresh now: %v; after its TTL: %v", e.Fresh(now), e.Fresh(now.Add(time.Hour)))
	}
}

func FuzzUnmarshalEntry(f *testing.F) {
	e := Entry{Form: Events, ContentType: "c", Target: "t", Created: time.UnixMilli(5), TTL: time.Hour, Body: bytes.Repeat([]byte("data: y\n\n"), 300), Extra: []Span{{Start: 0, End: 3}}}
	f.Add(e.Marshal())
	e.Body = e.Body[:20]
	f.Add(e.Marshal())
	f.Add([]byte{layoutVersion, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{layoutZstd, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerSize { // so that fuzzing gets past the version and the checksum
			if b[0] != layoutZstd {
				b[0] = layoutVersion
			}
			binary.BigEndian.PutUint32(b[checksumAt:], checksum(b))
		}
		got, err := UnmarshalEntry(b)
		if err != nil {
			return
		}
		n := 0
		got.Pieces(false, func(p []byte) { n += len(p) })
		if n > len(got.Body) {
			t.Errorf("pieces of %d bytes in a body of %d", n, len(got.Body))
		}
		again, err := UnmarshalEntry(got.Marshal())
		if err != nil || !bytes.Equal(again.Body, got.Body) {
			t.Errorf("marshaled again it is another entry: %v", err)
		}
	})
}

func BenchmarkEntry(b *testing.B) {
	for _, size := range []int{500, 5_000, 50_000} {
		chunk := "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795424810,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n"
		e := Entry{Form: Events, Body: []byte(strings.Repeat(chunk, size/len(chunk)+1))}
		marshaled := e.Marshal()
		b.Run(fmt.Sprintf("unmarshal-%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(e.Body)))
			for b.Loop() {
				if _, err := UnmarshalEntry(marshaled); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(marshaled)), "bytes-stored")
		})
	}
}
