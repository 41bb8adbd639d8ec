package ratelimit

import (
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := Network(netip.MustParseAddr(given)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", given, got, want)
		}
	}
	if Network(netip.Addr{}).IsValid() {
		t.Error("no address counts as one")
	}
}

// A million addresses take 24 MiB, and two million no more.
func TestAddressesAreBounded(t *testing.T) {
	m, r := NewMemory(), rule(t, Requests, "10/m")
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before, now := heap(), time.Now()
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			a := netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
			m.take(now, &Reservation{Limits: []*Limit{{Address: a, Rule: r}}})
		}
	}
	fill(0, 1_000_000)
	million := heap() - before
	fill(1_000_000, 2_000_000)
	two := heap() - before
	t.Logf("a million addresses: %.1f MiB, two: %.1f MiB", float64(million)/(1<<20), float64(two)/(1<<20))
	if two > 26<<20 {
		t.Errorf("%d bytes", two)
	}
	runtime.KeepAlive(m)
}

// An address that goes on is not forgotten while others come and go.
func TestBusyAddressStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := NewMemory(), rule(t, Requests, "10/d")
		busy := netip.MustParseAddr("198.51.100.1")
		fit := 0
		for i := range 100_000 {
			if i%1000 == 0 {
				fit += takes(m, time.Now(), 1, Reservation{Limits: []*Limit{{Address: busy, Rule: r}}})
			}
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			takes(m, time.Now(), 1, Reservation{Limits: []*Limit{{Address: a, Rule: r}}})
		}
		if fit != 10 {
			t.Errorf("%d fit, want 10", fit)
		}
	})
}
