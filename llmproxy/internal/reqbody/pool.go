package reqbody

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Memory is pooled by size, so that a small body does not occupy the memory of a large one while its answer is streamed. Up to maxSmall the
// sizes are powers of two, and above it there are four to each power of two, so that at most a fifth of a large size is left unused. Smaller
// sizes than minPooled cost next to nothing, and larger ones than maxPooled are rare.
const (
	minPooled = 1 << 10
	maxSmall  = 1 << 20
	maxPooled = 32 << 20
)

// A class is a size of pooled memory.
type class int

// smallClasses is the number of classes up to maxSmall.
const smallClasses = 11

// classOf returns the class whose memory holds n bytes, at most maxPooled.
func classOf(n int) class {
	if n <= maxSmall {
		return class(bits.Len(uint(max(n, minPooled)-1)) - bits.Len(uint(minPooled-1)))
	}
	doublings := bits.Len(uint(n-1)) - bits.Len(uint(maxSmall))
	quarter := (n - 1 - maxSmall<<doublings) / (maxSmall / 4 << doublings) // rounded down: the first holds up to a quarter more
	return class(smallClasses + 4*doublings + quarter)
}

// size returns the size of the memory of a class.
func (c class) size() int {
	if c < smallClasses {
		return minPooled << c
	}
	doublings, quarter := (c-smallClasses)/4, (c-smallClasses)%4
	return (maxSmall + int(quarter+1)*(maxSmall/4)) << doublings
}

// get returns pooled memory with arbitrary content, or new memory.
func (c class) get() *[]byte {
	var b *[]byte
	if c < smallClasses {
		b, _ = small[c].Get().(*[]byte)
	} else {
		b = large.get(c)
	}
	if b == nil {
		fresh := make([]byte, c.size())
		b = &fresh
	}
	return b
}

func (c class) put(b *[]byte) {
	if c < smallClasses {
		small[c].Put(b)
	} else {
		large.put(b, time.Now())
	}
}

var (
	small [smallClasses]sync.Pool // of *[]byte
	large largePool
)

// pooledSize returns how many bytes Make takes for n bytes.
func pooledSize(n int) int64 {
	if n > maxPooled {
		return int64(n)
	}
	return int64(classOf(n).size())
}

const (
	// maxIdle bounds the large memory that is pooled, in bytes, and idleTime how long it stays so.
	maxIdle  = 64 << 20
	idleTime = 10 * time.Second
)

// A largePool pools large memory. A sync.Pool would keep some of every size for each processor, and new memory is expensive: the processor
// clears it, and the kernel maps each of its pages. One timer is enough, because all memory stays for the same time. It is safe for
// concurrent use.
type largePool struct {
	mu        sync.Mutex
	idle      []idleMemory // the least recently used first
	bytes     int
	scheduled bool // a timer is running
}

type idleMemory struct {
	bytes *[]byte
	since time.Time
}

// get takes the most recently used memory of a class, whose pages the processor still has in its cache. It returns nil if none is left.
func (p *largePool) get(c class) *[]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if b := p.idle[i].bytes; len(*b) == c.size() {
			p.remove(i, i+1)
			return b
		}
	}
	return nil
}

// put adds memory, and drops the least recently used if that is too much.
func (p *largePool) put(b *[]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, idleMemory{b, now})
	p.bytes += len(*b)
	n := 0
	for left := p.bytes; left > maxIdle; n++ {
		left -= len(*p.idle[n].bytes)
	}
	p.remove(0, n)
	p.schedule(now)
}

// expire drops what was idle for too long.
func (p *largePool) expire() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= idleTime {
		n++
	}
	p.remove(0, n)
	p.scheduled = false
	p.schedule(now)
}

// schedule starts the timer for the least recently used memory, if none is running. The caller holds mu.
func (p *largePool) schedule(now time.Time) {
	if len(p.idle) > 0 && !p.scheduled {
		p.scheduled = true
		time.AfterFunc(p.idle[0].since.Add(idleTime).Sub(now), p.expire)
	}
}

// remove removes a range of the idle memory. The caller holds mu.
func (p *largePool) remove(from, to int) {
	for _, m := range p.idle[from:to] {
		p.bytes -= len(*m.bytes)
	}
	p.idle = slices.Delete(p.idle, from, to)
}

// A Memory is the pooled memory of one request's body. It returns to the pool when neither its owner nor a reader of a payload in it
// holds it any more. That matters because a transport may continue to read after it has returned a response or an error. Memory that
// is never released is garbage collected.
type Memory struct {
	bytes   *[]byte
	class   class
	holders atomic.Int64
}

// Make returns n bytes with arbitrary content. The caller holds them until it calls Release, which it must do once.
func (m *Memory) Make(n int) []byte {
	if n > maxPooled {
		return make([]byte, n)
	}
	m.class = classOf(n)
	m.holders.Store(1)
	m.bytes = m.class.get()
	return (*m.bytes)[:n]
}

// Replace returns memory with room for exactly n bytes, which begins with kept, and returns the memory that held kept to its pool. Nobody else
// may hold it yet.
func (m *Memory) Replace(kept []byte, n int) []byte {
	old, class := m.bytes, m.class
	m.bytes = nil
	larger := m.Make(n)[:len(kept):n]
	copy(larger, kept)
	if old != nil {
		class.put(old)
	}
	return larger
}

// hold adds a holder. It reports false if the memory has already been released.
func (m *Memory) hold() bool {
	for {
		n := m.holders.Load()
		if n <= 0 {
			return false
		}
		if m.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release removes a holder. It does nothing if the memory is not pooled.
func (m *Memory) Release() {
	if m.bytes == nil || m.holders.Add(-1) != 0 {
		return
	}
	m.class.put(m.bytes)
}
