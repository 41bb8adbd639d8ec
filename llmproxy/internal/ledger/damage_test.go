package ledger

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

const page = 4096

// write leaves a file behind that knows of n requests.
func write(t *testing.T, path string, n int) {
	t.Helper()
	l := open(t, path)
	for i := range n {
		l.Add(Usage{Key: strconv.Itoa(i), At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A power cut leaves any of the pages of a commit on the disk, and its last page whole, in part or not at all. What was
// there before it must be there after.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	write(t, path, 300)
	before := read(t, path)
	write(t, path, 500)
	after := read(t, path)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		torn := bytes.Clone(before)
		for at := 2 * page; at < len(torn); at += page {
			if random.IntN(2) == 0 {
				copy(torn[at:at+page], after[at:])
			}
		}
		if i%2 == 0 { // and the beginning of the page that makes it valid
			for meta := range 2 {
				if at := meta * page; !bytes.Equal(before[at:at+page], after[at:at+page]) {
					copy(torn[at:at+64], after[at:])
				}
			}
		}
		cut := filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(cut, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, cut)
		if got := requests(t, l); got != 300 {
			t.Fatalf("%d requests after the power cut", got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged file gives errors: no panic, and nothing in its place that knows no keys.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	write(t, path, 300)
	good := read(t, path)
	for _, test := range []struct {
		name    string
		content func() []byte
	}{
		{"not a ledger", func() []byte { return bytes.Repeat([]byte("usage,cost\n"), 4000) }},
		{"cut short", func() []byte { return good[:page] }},
		{"cut within the pages", func() []byte { return good[:5*page] }},
		{"pages of noise", func() []byte {
			noise := bytes.Clone(good)
			for i := 2 * page; i < len(noise); i++ {
				noise[i] = byte(i * 7)
			}
			return noise
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			content := test.content()
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			l := New(Config{Path: path})
			l.Add(Usage{At: noon("2026-11-02"), Sums: Sums{Requests: 1}})
			if err := l.SaveNow("keys", "a", []byte("x")); err == nil {
				t.Error("a value was saved")
			}
			if rows, err := l.Query(Query{}); err == nil {
				t.Errorf("the answer is %v", rows)
			}
			if err := l.Close(); err == nil {
				t.Error("what waited was written")
			}
			if !bytes.Equal(read(t, path), content) {
				t.Error("the file was changed")
			}
		})
	}
}

// Somebody empties the file under a running proxy, which must live on.
func TestFileIsCutWhileItIsOpen(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := New(Config{Path: path})
	for i := range 300 {
		l.Add(Usage{Key: strconv.Itoa(i), At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if rows, err := l.Query(Query{}); err == nil {
		t.Errorf("the answer is %v", rows)
	}
	if err := l.SaveNow("keys", "a", []byte("x")); err == nil {
		t.Error("a value was saved")
	}
	if err := l.SaveNow("keys", "a", []byte("x")); err == nil {
		t.Error("a value was saved")
	}
}
