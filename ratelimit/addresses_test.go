package ratelimit_test

import (
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := ratelimit.Network(netip.MustParseAddr(given)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", given, got, want)
		}
	}
	if ratelimit.Network(netip.Addr{}).IsValid() {
		t.Error("the zero address counts as a valid one")
	}
}

// A million addresses take 24 MiB, and two million take no more.
func TestAddressesAreBounded(t *testing.T) {
	m, r := ratelimit.NewMemory(), limittest.Rule(t, ratelimit.Requests, "10/m")
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
			m.TakeAt(now, &ratelimit.Reservation{Limits: []*ratelimit.Limit{{Address: a, Rule: r}}})
		}
	}
	fill(0, 1_000_000)
	one := heap() - before
	fill(1_000_000, 2_000_000)
	two := heap() - before
	t.Logf("a million addresses: %.1f MiB, two million: %.1f MiB", float64(one)/(1<<20), float64(two)/(1<<20))
	if two > 26<<20 {
		t.Errorf("two million addresses take %d bytes, want 26 MiB at most", two)
	}
	runtime.KeepAlive(m)
}

// A busy address keeps its bucket while others come and go.
func TestBusyAddressIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := ratelimit.NewMemory(), limittest.Rule(t, ratelimit.Requests, "10/d")
		request := func(a netip.Addr) int {
			return limittest.Granted(m, time.Now(), 1, ratelimit.Reservation{Limits: []*ratelimit.Limit{{Address: a, Rule: r}}})
		}
		granted := 0
		for i := range 100_000 {
			if i%1000 == 0 {
				granted += request(netip.MustParseAddr("198.51.100.1"))
			}
			request(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if granted != 10 {
			t.Errorf("%d requests were granted, want 10", granted)
		}
	})
}
