package caching

import (
	"context"
	"encoding/binary"
	"fmt"
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
		t.Errorf("Get: %q", got)
	}
	if n := m.Purge("a"); n != 2 {
		t.Errorf("Purge of a model deleted %d entries, want 2", n)
	}
	if got := m.Get(ctx, "", []Key{key(1), key(3)}); got[0] != nil || got[1] == nil {
		t.Errorf("Get after a purge of the other model: %q", got)
	}
	if n := m.Purge(""); n != 1 {
		t.Errorf("Purge of everything deleted %d entries, want 1", n)
	}
	if entries, bytes, _ := m.Size(); entries != 0 || bytes != 0 {
		t.Errorf("%d entries and %d bytes are left", entries, bytes)
	}
}

func TestMemoryExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(1 << 20)
		defer m.Close()
		m.Put("a", []Item{{key(1), []byte("one")}}, time.Second)
		m.Put("a", []Item{{key(2), []byte("two")}}, time.Hour)
		<-time.After(3 * time.Second)
		if got := m.Get(context.Background(), "a", []Key{key(1), key(2)}); got[0] != nil || got[1] == nil {
			t.Errorf("Get after three seconds: %q", got)
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
	entries, bytes, evicted := m.Size()
	if bytes > 1<<20 || entries < 500 || entries > (1<<20)/1000 || evicted == 0 {
		t.Errorf("%d entries, %d bytes, %d evicted", entries, bytes, evicted)
	}
	m.Resize(1 << 18)
	if entries, bytes, _ := m.Size(); bytes > 1<<18 || entries > (1<<18)/1000 {
		t.Errorf("after Resize %d entries, %d bytes", entries, bytes)
	}
}

const filledSize = 64 << 20

// filled returns a store of 64 MiB after random entries were put into it.
func filled(entries int) *Memory {
	m := NewMemory(filledSize)
	for i := range entries {
		m.Put("model", []Item{{key(i), make([]byte, 50+rand.IntN(2000))}}, time.Hour)
	}
	return m
}

// The counted size is what the heap really grows by, and at most a third more.
func TestMemoryCountsWhatItTakes(t *testing.T) {
	before := heap()
	m := filled(100_000) // twice what it can hold
	defer m.Close()
	entries, bytes, _ := m.Size()
	taken := heap() - before
	t.Logf("%d entries, %d MiB counted, %d MiB of heap", entries, bytes>>20, taken>>20)
	if bytes > filledSize || taken > bytes || taken < bytes*3/4 {
		t.Errorf("%d bytes are counted, %d are taken, the maximum is %d", bytes, taken, filledSize)
	}
}

// heap returns the size of the heap in use.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkMemoryBound reports how much memory the process takes for a million random entries in 64 MiB: Go lets its heap grow
// by GOGC percent between two collections.
func BenchmarkMemoryBound(b *testing.B) {
	for _, percent := range []int{100, 25} {
		b.Run(fmt.Sprintf("GOGC-%d", percent), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(percent))
			for b.Loop() {
				debug.FreeOSMemory()
				before := resident(b)
				m := filled(1_000_000)
				b.ReportMetric(float64(resident(b)-before)/(1<<20), "MiB-RSS")
				entries, bytes, _ := m.Size()
				b.ReportMetric(float64(entries), "entries")
				b.ReportMetric(float64(bytes)/(1<<20), "MiB-counted")
				b.ReportMetric(float64(heap())/(1<<20), "MiB-heap")
				m.Close()
				runtime.KeepAlive(m)
			}
		})
	}
}

func resident(t *testing.B) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
