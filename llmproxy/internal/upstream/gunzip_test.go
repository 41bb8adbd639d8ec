package upstream

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"testing"
)

// A few bytes cannot become an endless answer. Large answers that compress as real ones do are read.
func TestGunzippedIsBounded(t *testing.T) {
	t.Parallel()
	random := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(random)
	for _, test := range []struct {
		name    string
		piece   []byte
		times   int
		refused bool
	}{
		{"zeros within the bound", make([]byte, 1<<20), 64, false},
		{"zeros beyond it", make([]byte, 1<<20), 65, true},
		{"zeros far beyond it", make([]byte, 1<<20), 500, true},
		{"what does not compress", random, 20, false},
		{"what compresses to a sixteenth", append(make([]byte, 15<<18), random[:1<<18]...), 24, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			packed, w := io.Pipe()
			go func() {
				z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
				if err != nil {
					t.Error(err)
				}
				for range test.times {
					z.Write(test.piece)
				}
				z.Close()
				w.Close()
			}()
			body := newGunzipped(packed)
			n, err := io.Copy(io.Discard, body)
			body.Close()
			if (err != nil) != test.refused {
				t.Errorf("%d bytes, %v; want it refused: %t", n, err, test.refused)
			}
			if want := int64(test.times * len(test.piece)); !test.refused && n != want || test.refused && n > maxUnpacked {
				t.Errorf("%d bytes were read of %d", n, want)
			}
		})
	}
}

// The bound does not change what a small answer is.
func TestGunzippedMembers(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, text := range []string{"one ", "two"} {
		z := gzip.NewWriter(&b)
		io.WriteString(z, text)
		z.Close()
	}
	if got, err := io.ReadAll(newGunzipped(io.NopCloser(&b))); string(got) != "one two" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
