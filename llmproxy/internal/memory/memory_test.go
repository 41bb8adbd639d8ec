package memory

import (
	"sync"
	"sync/atomic"
	"testing"
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
