package reqbody

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
)

// However a body arrives, the buffer has its bytes, and gives all of its memory back.
func TestBufferKeepsTheBytes(t *testing.T) {
	t.Parallel()
	source := rand.NewChaCha8([32]byte{})
	for _, size := range []int{0, 1, firstRead - 1, firstRead, firstRead + 1, 100_000, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 5<<20 + 3} {
		want := make([]byte, size)
		source.Read(want)
		for _, keep := range []bool{false, true} {
			for _, known := range []bool{false, true} {
				for name, reader := range map[string]func(io.Reader) io.Reader{
					"at once": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "with the error": iotest.DataErrReader,
				} {
					usage := new(memory.Usage)
					b := &buffer{claim: claim{account: memory.NewAccount(usage, 64<<20)}, limit: 8 << 20, keep: keep}
					read := b.readToEnd
					if known {
						read = func(r io.Reader) error { return b.read(r, int64(size)) }
					}
					if err := read(reader(bytes.NewReader(want))); err != nil || !bytes.Equal(b.bytes, want) {
						t.Errorf("%d bytes, %s, known %t, keep %t: got %d bytes, %v", size, name, known, keep, len(b.bytes), err)
					}
					if held := usage.Bytes(); held < int64(size) || held > 4*int64(size)+firstRead {
						t.Errorf("%d bytes, %s, known %t, keep %t: %d bytes are reserved", size, name, known, keep, held)
					}
					b.release()
					b.release()
					if usage.Bytes() != 0 {
						t.Errorf("%d bytes, %s, known %t, keep %t: %d bytes are left", size, name, known, keep, usage.Bytes())
					}
				}
			}
		}
	}
}

// An announced body takes no memory before it comes.
func TestBufferGrowsWithWhatArrives(t *testing.T) {
	t.Parallel()
	const announced = 32 << 20
	for _, arrived := range []int{0, 1, 1000, 20_000, 300_000, 2 << 20, 9 << 20} {
		usage := new(memory.Usage)
		b := &buffer{claim: claim{account: memory.NewAccount(usage, 1<<30)}, limit: announced}
		var most int64
		body := io.MultiReader(bytes.NewReader(make([]byte, arrived)), iotest.ErrReader(io.ErrUnexpectedEOF))
		err := b.read(readerFunc(func(p []byte) (int, error) {
			most = max(most, usage.Bytes())
			return body.Read(p)
		}), announced)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", arrived, err)
		}
		limit := int64((growth+1)*arrived + firstRead)
		if arrived > trusted {
			limit = announced + trusted
		}
		if most > limit {
			t.Errorf("%d bytes of %d took %d bytes, want at most %d", arrived, announced, most, limit)
		}
		b.release()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A body that ends early, or does not fit into the account, is an error, and leaves nothing reserved.
func TestBufferFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		maximum, others int64 // of the account
		arrives         int
		length          int64 // announced; negative if unknown
		want            string
		always          bool
	}{
		{"cut off", 1 << 30, 0, 99, 100, "unexpected EOF", false},
		{"empty", 1 << 30, 0, 0, 100, "unexpected EOF", false},
		{"nothing left", 1 << 20, 1 << 20, 10, 10, "memory", false},
		{"nothing left, of unknown length", 1 << 20, 1 << 20, 10, -1, "memory", false},
		{"nothing left while it grows", 1 << 20, 900_000, 200_000, 200_000, "memory", false},
		{"nothing left while it grows, of unknown length", 1 << 20, 900_000, 200_000, -1, "memory", false},
		{"larger than the account", 1 << 20, 0, 5 << 20, 5 << 20, "memory", true},
		{"larger than the account, of unknown length", 1 << 20, 0, 5 << 20, -1, "memory", true},
	} {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, keep %t", test.name, keep), func(t *testing.T) {
				t.Parallel()
				usage := new(memory.Usage)
				b := &buffer{claim: claim{account: memory.NewAccount(usage, test.maximum)}, limit: 8 << 20, keep: keep}
				b.account.Reserve(test.others)
				body := bytes.NewReader(make([]byte, test.arrives))
				var err error
				if test.length < 0 {
					err = b.readToEnd(body)
				} else {
					err = b.read(body, test.length)
				}
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				if full, ok := errors.AsType[*fullError](err); ok && full.always != test.always {
					t.Errorf("always %t, want %t", full.always, test.always)
				}
				b.release()
				if usage.Bytes() != test.others {
					t.Errorf("%d bytes are reserved, want %d", usage.Bytes(), test.others)
				}
			})
		}
	}
}

// A body waits for memory that other requests give back, but not forever, and not for what it can never get.
func TestBufferWaits(t *testing.T) {
	t.Parallel()
	const maximum, length = 8 << 20, 5 << 20
	for _, test := range []struct {
		name   string
		others int64
		freed  time.Duration // when the others give their memory back
		length int64
		ok     bool
		took   time.Duration
	}{
		{"enough", 0, 0, length, true, 0},
		{"none for its beginning", maximum, time.Second, length, true, time.Second},
		{"none for its length", maximum / 2, time.Second, length, true, time.Second},
		{"a small one goes first", maximum - firstRead, time.Hour, 1000, true, 0},
		{"too late", maximum / 2, time.Hour, length, false, memoryWait},
		{"never enough", maximum / 2, time.Second, 2 * maximum, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				usage := new(memory.Usage)
				account := memory.NewAccount(usage, maximum)
				account.Reserve(test.others)
				others := time.AfterFunc(test.freed, func() { account.Release(test.others) })
				defer others.Stop()
				b := &buffer{claim: claim{account: account, ctx: t.Context()}}
				began := time.Now()
				err := b.read(bytes.NewReader(make([]byte, test.length)), test.length)
				if took := time.Since(began); (err == nil) != test.ok || took != test.took {
					t.Errorf("%v after %v, want ok %t after %v", err, took, test.ok, test.took)
				}
				b.release()
				if others.Stop() {
					account.Release(test.others)
				}
				if usage.Bytes() != 0 {
					t.Errorf("%d bytes are left", usage.Bytes())
				}
			})
		})
	}
}

// Large memory is used again, but not kept for long, and no more of it than maxIdle.
func TestLargePool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p largePool
		c := classOf(16 << 20)
		made := func(c class) *[]byte { b := make([]byte, c.size()); return &b }
		one := made(c)
		p.put(one, time.Now())
		if p.get(c-1) != nil || p.get(c) != one || p.get(c) != nil {
			t.Error("memory of another size was taken, or twice the same")
		}
		for range maxIdle/c.size() + 3 {
			p.put(made(c), time.Now())
		}
		if p.bytes != maxIdle {
			t.Errorf("%d bytes are idle, want %d", p.bytes, maxIdle)
		}
		time.Sleep(idleTime / 2)
		p.put(one, time.Now())
		time.Sleep(idleTime * 3 / 4)
		synctest.Wait()
		if p.bytes != c.size() {
			t.Errorf("%d bytes are idle, want only the %d that were used last", p.bytes, c.size())
		}
		time.Sleep(idleTime)
		synctest.Wait()
		if p.bytes != 0 || len(p.idle) != 0 || p.scheduled {
			t.Errorf("%d bytes are idle in the end", p.bytes)
		}
	})
}

func gzipped(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(plain)
	z.Close()
	return b.Bytes()
}

func zstandard(t testing.TB, plain []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, options...)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(plain)
	z.Close()
	return b.Bytes()
}

func zstandardAll(t testing.TB, plain []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(plain, nil)
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	random := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(random)
	small, zeros := []byte(`{"model":"m"}`), make([]byte, 3<<20)
	tooLarge := make([]byte, limit+1)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2}, zstandardAll(t, small)...)
	hugeWindow := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x01, 0x00, 0x00} // of 1 GiB, with one empty block
	for _, test := range []struct {
		name, coding string
		packed       []byte
		want         []byte
		err          string
	}{
		{"gzip", "gzip", gzipped(t, small), small, ""},
		{"gzip, large", "gzip", gzipped(t, random), random, ""},
		{"gzip, zeros", "x-gzip", gzipped(t, zeros), zeros, ""},
		{"gzip, exactly the limit", "gzip", gzipped(t, tooLarge[1:]), tooLarge[1:], ""},
		{"gzip, two members", "gzip", append(gzipped(t, small), gzipped(t, small)...), slices.Concat(small, small), ""},
		{"gzip, too large", "gzip", gzipped(t, tooLarge), nil, "too large"},
		{"gzip, cut off", "gzip", gzipped(t, random)[:1000], nil, "unexpected EOF"},
		{"no gzip", "gzip", small, nil, "header"},
		{"empty", "gzip", nil, nil, "EOF"},
		{"zstd", "zstd", zstandard(t, small), small, ""},
		{"zstd, in one segment", "zstd", zstandardAll(t, small), small, ""},
		{"zstd, large", "zstd", zstandard(t, random), random, ""},
		{"zstd, large, in one segment", "zstd", zstandardAll(t, random), random, ""},
		{"zstd, larger than its window", "zstd", zstandard(t, random, zstd.WithWindowSize(64<<10)), random, ""},
		{"zstd, zeros", "zstd", zstandard(t, zeros), zeros, ""},
		{"zstd, exactly the limit", "zstd", zstandardAll(t, tooLarge[1:]), tooLarge[1:], ""},
		{"zstd, two frames", "zstd", append(zstandard(t, small), zstandard(t, small)...), slices.Concat(small, small), ""},
		{"zstd, after a skippable frame", "zstd", skippable, small, ""},
		{"zstd, too large", "zstd", zstandard(t, tooLarge), nil, "too large"},
		{"zstd, too large, in one segment", "zstd", zstandardAll(t, tooLarge), nil, "too large"},
		{"zstd, cut off", "zstd", zstandard(t, random)[:1000], nil, "unexpected EOF"},
		{"zstd, a huge window", "zstd", hugeWindow, nil, "window size exceeded"},
		{"zstd, a larger window in the second frame", "zstd", append(zstandard(t, small, zstd.WithWindowSize(1<<10)), zstandard(t, random, zstd.WithWindowSize(4<<20))...), nil, "exceeded"},
		{"no zstd", "zstd", small, nil, "magic"},
		{"empty zstd", "zstd", nil, nil, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			usage := new(memory.Usage)
			b := &buffer{claim: claim{account: memory.NewAccount(usage, 64<<20)}, limit: limit}
			err := unpackJSON(test.packed, test.coding, b)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
			} else if err != nil || !bytes.Equal(b.bytes, test.want) {
				t.Errorf("%d bytes, want %d; %v", len(b.bytes), len(test.want), err)
			}
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge != (test.err == "too large") {
				t.Errorf("%v", err)
			}
			b.release()
			if usage.Bytes() != 0 {
				t.Errorf("%d bytes are left", usage.Bytes())
			}
		})
	}
}

// A few bytes that announce a large window or content are refused if there is no memory for it, and take none.
func TestUnpackReservesTheWindow(t *testing.T) {
	t.Parallel()
	usage := new(memory.Usage)
	b := &buffer{claim: claim{account: memory.NewAccount(usage, 1<<20)}, limit: 32 << 20}
	for name, packed := range map[string][]byte{
		"a window of 8 MiB":   {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x01, 0x00, 0x00},
		"a content of 16 MiB": {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00},
	} {
		if _, full := errors.AsType[*fullError](unpackJSON(packed, "zstd", b)); !full || usage.Bytes() != 0 {
			t.Errorf("%s was accepted, with %d bytes reserved", name, usage.Bytes())
		}
	}
}

// A decoder of foreign bytes must not panic, leave memory reserved, or return more than the limit.
func FuzzUnpack(f *testing.F) {
	small := []byte(`{"model":"m","messages":[]}`)
	f.Add(gzipped(f, small), false)
	f.Add(zstandard(f, small), true)
	f.Add(zstandardAll(f, small), true)
	f.Add(append(zstandard(f, small), zstandardAll(f, small)...), true)
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x01, 0x00, 0x00}, true)
	f.Fuzz(func(t *testing.T, packed []byte, isZstd bool) {
		coding := "gzip"
		if isZstd {
			coding = "zstd"
		}
		usage := new(memory.Usage)
		b := &buffer{claim: claim{account: memory.NewAccount(usage, 8<<20)}, limit: 1 << 20}
		err := unpackJSON(packed, coding, b)
		if len(b.bytes) > 1<<20 && err == nil {
			t.Errorf("%d bytes exceed the limit", len(b.bytes))
		}
		b.release()
		if usage.Bytes() != 0 {
			t.Errorf("%d bytes are left", usage.Bytes())
		}
	})
}
