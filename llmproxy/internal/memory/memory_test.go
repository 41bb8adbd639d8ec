package memory

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAccount(t *testing.T) {
	t.Parallel()
	usage := new(Usage)
	large := NewAccount(usage, 100)
	small, half := NewAccount(usage, 10), large.Half()
	for _, step := range []struct {
		name    string
		account *Account
		n       int64 // to reserve; negative to release
		ok      bool
		used    int64
	}{
		{"fits", small, 10, true, 10},
		{"one too many", small, 1, false, 10},
		{"another account may have more", large, 90, true, 100},
		{"half of it is full, too", half, 1, false, 100},
		{"and is full itself", large, 1, false, 100},
		{"nothing always fits", large, 0, true, 100},
		{"released", large, -90, true, 10},
		{"what others hold counts", small, 1, false, 10},
		{"released by the other", small, -10, true, 0},
		{"fits again", small, 10, true, 10},
		{"half of the other", half, 40, true, 50},
		{"no more than half", half, 1, false, 50},
		{"the other half is left", large, 50, true, 100},
	} {
		ok := true
		if step.n < 0 {
			step.account.Release(-step.n)
		} else {
			ok = step.account.Reserve(step.n)
		}
		if ok != step.ok || usage.Bytes() != step.used {
			t.Errorf("%s: %v with %d bytes in use, want %v with %d", step.name, ok, usage.Bytes(), step.ok, step.used)
		}
	}
	if small.CouldHold(11) || !small.CouldHold(10) {
		t.Error("an account of 10 bytes could hold 10 bytes and no more")
	}
}

// A nil account is for callers that need no maximum, such as tests.
func TestNilAccount(t *testing.T) {
	t.Parallel()
	var a *Account
	if a.Half() != nil {
		t.Error("half of a nil account has a maximum")
	}
	if !a.Reserve(1<<62) || !a.CouldHold(1<<62) {
		t.Error("a nil account has a maximum")
	}
	a.Release(1 << 62)
}

// However many reserve at once, never more than the maximum is granted, and all of it is given back.
func TestAccountIsExact(t *testing.T) {
	t.Parallel()
	usage := new(Usage)
	account := NewAccount(usage, 64)
	var held, highest atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 1000 {
				if !account.Reserve(5) {
					continue
				}
				now := held.Add(5)
				for {
					seen := highest.Load()
					if now <= seen || highest.CompareAndSwap(seen, now) {
						break
					}
				}
				held.Add(-5)
				account.Release(5)
			}
		})
	}
	all.Wait()
	if highest.Load() > 64 || usage.Bytes() != 0 {
		t.Errorf("up to %d bytes were granted of 64, and %d are left", highest.Load(), usage.Bytes())
	}
}

// Those who wait for memory get it in their order, as soon as it suffices, and nobody waits in vain for long.
func TestAwait(t *testing.T) {
	t.Parallel()
	type wait struct {
		need    int64
		patient time.Duration
		granted bool
		after   time.Duration
	}
	for _, test := range []struct {
		name     string
		releases []int64 // one a second, of the 100 bytes that others hold
		waits    []wait
	}{
		{"at once", nil, []wait{{0, time.Minute, true, 0}}},
		{"more than there will ever be", []int64{100}, []wait{{101, time.Minute, false, 0}}},
		{"when it suffices", []int64{10, 10, 10}, []wait{{25, time.Minute, true, 3 * time.Second}}},
		{"in vain", []int64{10}, []wait{{20, 5 * time.Second, false, 5 * time.Second}}},
		{"in order", []int64{10, 10, 10}, []wait{{20, time.Minute, true, 2 * time.Second}, {10, time.Minute, true, 2 * time.Second}}},
		{"after one that leaves", []int64{10, 0, 10}, []wait{{50, 2500 * time.Millisecond, false, 2500 * time.Millisecond}, {10, time.Minute, true, 2500 * time.Millisecond}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				usage := new(Usage)
				account := NewAccount(usage, 100)
				account.Reserve(100)
				held := int64(100)
				var all sync.WaitGroup
				for i, w := range test.waits {
					all.Go(func() {
						began := time.Now()
						ctx, cancel := context.WithTimeout(t.Context(), w.patient)
						defer cancel()
						granted := account.Await(ctx, w.need)
						if took := time.Since(began); granted != w.granted || took != w.after {
							t.Errorf("%d: granted %t after %v, want %t after %v", i, granted, took, w.granted, w.after)
						}
						if granted {
							account.Release(w.need)
						}
					})
					synctest.Wait() // so that they come in their order
				}
				for _, n := range test.releases {
					time.Sleep(time.Second)
					account.Release(n)
					held -= n
				}
				all.Wait()
				if usage.Bytes() != held || usage.waiting.Load() != 0 {
					t.Errorf("%d bytes are reserved and %d wait, want %d and none", usage.Bytes(), usage.waiting.Load(), held)
				}
			})
		})
	}
}

// However many wait at once, all of them get their memory, and none is lost.
func TestAwaitLosesNothing(t *testing.T) {
	t.Parallel()
	usage := new(Usage)
	account := NewAccount(usage, 10)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 500 {
				if need := int64(1 + i%10); account.Await(t.Context(), need) {
					account.Release(need)
				} else {
					t.Error("not granted")
				}
				if account.Reserve(3) {
					account.Release(3)
				}
			}
		})
	}
	all.Wait()
	if usage.Bytes() != 0 || usage.waiting.Load() != 0 {
		t.Errorf("%d bytes are left, and %d wait", usage.Bytes(), usage.waiting.Load())
	}
}
