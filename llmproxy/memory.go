package llmproxy

import (
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const (
	// minMemory is the smallest max_memory. It catches a number without a unit.
	minMemory = 1 << 20
	// memoryShare is the part of the memory that requests may take by default: one in memoryShare bytes. Go's garbage collector
	// lets the heap grow to twice what is in use, and Caddy and the cache need memory, too.
	memoryShare = 4
	// ballastShare and maxBallast limit the ballast: to one in ballastShare bytes of the memory, and in bytes.
	ballastShare = 128
	maxBallast   = 12 << 20
	// assumedMemory is the machine's memory if it is not known.
	assumedMemory = 2 << 30
)

// acquireMemory returns the account of the memory that requests may take, whose usage all handlers share. If maximum is zero, it is
// the default share.
func acquireMemory(closer *state.Closer, maximum int64) *memory.Account {
	usage, _ := state.Acquire(closer.AddLasting, state.Memory, state.ThisMachine, func() (*memory.Usage, error) { return new(memory.Usage), nil }) // building it cannot fail
	if maximum == 0 {
		maximum = availableMemory() / memoryShare
	}
	return memory.NewAccount(usage, maximum)
}

// availableMemory returns how much memory the process may use: that of its container or of the machine, or GOMEMLIMIT if that is less.
func availableMemory() int64 {
	available := int64(assumedMemory)
	if n, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)(); err == nil && n <= math.MaxInt64 {
		available = int64(n)
	}
	return min(available, debug.SetMemoryLimit(-1))
}

// acquireBallast makes Go's garbage collector run less often. The collector runs when the heap has doubled. A busy gateway that holds little
// doubles its heap of 5 MiB 20 times a second, and collecting garbage takes an eighth of its CPU time. The ballast is a piece of memory that nobody
// touches. It counts as part of the heap, but the operating system never provides it. So the heap may grow by its size before garbage is
// collected, and not by more, however large the heap becomes. All handlers share one ballast.
func acquireBallast(closer *state.Closer) {
	size := ballastSize(availableMemory(), os.Getenv("GOGC"))
	_, _ = state.Acquire(closer.AddLasting, state.Ballast, state.ThisMachine, func() ([]byte, error) { return make([]byte, size), nil }) // building it cannot fail
}

// releaseGarbage makes sure that memory which was needed only to load a configuration is returned to the operating system, once, when the
// last of its handlers has been provisioned. The garbage of a configuration with thousands of models takes 30 MiB, which the process would
// keep until its heap is as large again.
func releaseGarbage(closer *state.Closer) {
	timer, _ := state.Acquire(closer.AddLasting, state.GarbageTimer, state.ThisMachine, func() (*time.Timer, error) { return time.AfterFunc(state.StartDelay, debug.FreeOSMemory), nil }) // building it cannot fail
	timer.Reset(state.StartDelay)
}

// ballastSize returns the size of the ballast in bytes. It is zero if the user has set GOGC.
func ballastSize(available int64, gogc string) int64 {
	if gogc != "" {
		return 0
	}
	return min(available/ballastShare, maxBallast)
}
