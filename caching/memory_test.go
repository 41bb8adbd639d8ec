package caching

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func key(n int) (k Key) {
	binary.LittleEndian.PutUint64(k[:], uint64(n))
	return k
}

func TestMemory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := NewMemory(1 << 20)
	defer m.Close()
	m.Put("a", []Item{{key(1), []byte("one")}, {key(2), []byte("two")}}, time.Hour)
	m.Put("b", []Item{{key(3), []byte("three")}}, time.Hour)
	got := m.Get(ctx, "a", []Key{key(1), key(9), key(3)})
	if string(got[0]) != "one" || got[1] != nil || string(got[2]) != "three" {
		t.Errorf("%q", got)
	}
	if n, err := m.Purge(ctx, "a"); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if got := m.Get(ctx, "", []Key{key(1), key(3)}); got[0] != nil || got[1] == nil {
		t.Errorf("%q", got)
	}
	if n, err := m.Purge(ctx, ""); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if entries, bytes, _ := m.Usage(); entries != 0 || bytes != 0 {
		t.Errorf("%d entries, %d bytes", entries, bytes)
	}
}

func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(1 << 20)
		defer m.Close()
		m.Put("a", []Item{{key(1), []byte("one")}}, time.Second)
		m.Put("a", []Item{{key(2), []byte("two")}}, time.Hour)
		<-time.After(3 * time.Second)
		if got := m.Get(context.Background(), "a", []Key{key(1), key(2)}); got[0] != nil || got[1] == nil {
			t.Errorf("%q", got)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := NewMemory(1 << 20)
	defer m.Close()
	for i := range 10_000 {
		m.Put("a", []Item{{key(i), make([]byte, 1000)}}, time.Hour)
	}
	entries, bytes, evicted := m.Usage()
	if bytes > 1<<20 || entries < 500 || entries > (1<<20)/1000 || evicted == 0 {
		t.Errorf("%d entries, %d bytes, %d evicted", entries, bytes, evicted)
	}
	m.Resize(1 << 18)
	if entries, bytes, _ := m.Usage(); bytes > 1<<18 || entries > (1<<18)/1000 {
		t.Errorf("after the change %d entries, %d bytes", entries, bytes)
	}
}

// BenchmarkMemoryBound puts a million random entries into 64 MiB and prints what the process takes in the end.
func BenchmarkMemoryBound(b *testing.B) {
	const size, bound = 1_000_000, 64 << 20
	for b.Loop() {
		debug.FreeOSMemory()
		before := resident(b)
		m := NewMemory(bound)
		for i := range size {
			m.Put("model", []Item{{key(i), make([]byte, 50+rand.IntN(2000))}}, time.Hour)
		}
		runtime.GC()
		var heap runtime.MemStats
		runtime.ReadMemStats(&heap)
		entries, bytes, _ := m.Usage()
		b.ReportMetric(float64(entries), "entries")
		b.ReportMetric(float64(bytes)/(1<<20), "MiB-counted")
		b.ReportMetric(float64(heap.HeapAlloc)/(1<<20), "MiB-heap")
		b.ReportMetric(float64(resident(b)-before)/(1<<20), "MiB-RSS")
		m.Close()
		runtime.KeepAlive(m)
	}
}

func resident(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib << 10
}
