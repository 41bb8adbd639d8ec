package coalesce

import (
	"bytes"
	"context"
	"io"
	"testing"
)

var roomy = Limits{Answer: 4 << 20, Total: 16 << 20}

// recordAnswer records an answer and has the leader's own client read it.
func recordAnswer(tb testing.TB, group *Group[int, string], leader *Leader[int, string], body []byte) {
	tb.Helper()
	leader.Begin("head")
	own := leader.OwnReader()
	leader.Expect(len(body))
	if !leader.Write(body, false) {
		tb.Fatal("interrupted")
	}
	leader.Finish(true)
	leader.Close()
	for n := 0; ; {
		part, err := own.Next(context.Background(), true)
		if err == io.EOF && n == len(body) {
			break
		} else if err != nil || !bytes.Equal(part, body[n:n+len(part)]) {
			tb.Fatalf("%d bytes of %d, %v", n, len(body), err)
		}
		n += len(part)
	}
	own.Close()
	if n := group.PendingBytes(); n != 0 {
		tb.Fatalf("%d bytes are pending", n)
	}
}

// What a follower got stays as it was when later answers are recorded.
func TestFollowersKeepWhatTheyRead(t *testing.T) {
	var group Group[int, string]
	for _, size := range []int{10, 10_000, 100_000, 1 << 20, 3 << 20} {
		body := bytes.Repeat([]byte("a"), size)
		leader, _ := group.Join(1, roomy, func() {})
		_, f := group.Join(1, roomy, func() {})
		_, g := group.Join(1, roomy, func() {})
		recordAnswer(t, &group, group.Private(roomy, func() {}), bytes.Repeat([]byte("b"), size)) // fills the pool
		leader.Begin("head")
		leader.Write(body, false)
		leader.Finish(true)
		kept, err := f.Next(context.Background(), true)
		if err != nil {
			t.Fatal(err)
		}
		all, _, err := g.All(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		g.Close()
		leader.Close()
		for range 3 {
			recordAnswer(t, &group, group.Private(roomy, func() {}), bytes.Repeat([]byte("c"), size))
		}
		if !bytes.Equal(kept, body) || !bytes.Equal(all, body) {
			t.Errorf("an answer of %d bytes has changed", size)
		}
	}
}

func TestSizesOfMemory(t *testing.T) {
	for n, want := range map[int]int{
		0: 0, 1: 1, minPooled / 2: minPooled / 2, minPooled/2 + 1: minPooled, minPooled: minPooled, minPooled + 1: 2 * minPooled,
		100_000: 128 << 10, maxPooled - 1: maxPooled, maxPooled: maxPooled, maxPooled + 1: maxPooled + 1,
	} {
		if got := sizeFor(n); got != want {
			t.Errorf("%d bytes take %d, want %d", n, got, want)
		}
		b, memory := newMemory(sizeFor(n))
		if len(b) != 0 || cap(b) != want || (memory != nil) != (want >= minPooled && want <= maxPooled) {
			t.Errorf("%d bytes: length %d, capacity %d, pooled %v", n, len(b), cap(b), memory != nil)
		}
		if memory != nil {
			recycle(memory)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, size := range map[string]int{"1k": 1000, "100k": 100_000} {
		b.Run(name, func(b *testing.B) {
			var group Group[int, string]
			body := bytes.Repeat([]byte("a"), size)
			b.ReportAllocs()
			for b.Loop() {
				recordAnswer(b, &group, group.Private(roomy, func() {}), body)
			}
		})
	}
}
