package prefix

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"
)

// text returns n bytes that differ with the number.
func text(number, n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = binary.BigEndian.AppendUint64(b, uint64(number)<<32|uint64(i))
	}
	return b[:n]
}

func TestMatch(t *testing.T) {
	t.Parallel()
	system, first, second := text(1, 3000), text(2, 1000), text(3, 2000)
	var x Index
	x.Add("m", NewHead("s", system, first))
	for _, test := range []struct {
		name, model, session string
		parts                [][]byte
		blocks               int
		sameSession          bool
	}{
		{"the same", "m", "s", [][]byte{system, first}, 4000 / blockSize, true},
		{"one that continues it", "m", "", [][]byte{system, first, second}, 4000 / blockSize, false},
		{"one that begins like it", "m", "other", [][]byte{system, second}, 3000 / blockSize, false},
		{"the same bytes in other parts", "m", "", [][]byte{bytes.Join([][]byte{system, first}, nil)}, 4000 / blockSize, false},
		{"another beginning", "m", "s", [][]byte{second, system, first}, 0, true},
		{"another model", "other", "s", [][]byte{system, first}, 0, false},
		{"shorter than a block", "m", "", [][]byte{text(1, blockSize-1)}, 0, false},
		{"nothing", "m", "", nil, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			blocks, session := x.Match(test.model, NewHead(test.session, test.parts...))
			if blocks != test.blocks || session != test.sameSession {
				t.Errorf("%d blocks, session %v; want %d, %v", blocks, session, test.blocks, test.sameSession)
			}
		})
	}
	x.Clear()
	if blocks, session := x.Match("m", NewHead("s", system)); blocks != 0 || session {
		t.Errorf("after Clear, %d blocks and session %v", blocks, session)
	}
}

// An index is bounded. It keeps what is used, and of that also the beginning.
func TestIndexForgets(t *testing.T) {
	t.Parallel()
	var x Index
	used, unused := NewHead("used", text(-1, 100_000)), NewHead("unused", text(-2, 100_000))
	x.Add("m", unused)
	for i := range 2000 {
		x.Add("m", used)
		x.Add("m", NewHead(strconv.Itoa(i), text(i, 50_000)))
		if n := len(x.young) + len(x.old); n > 2*maxKeys {
			t.Fatalf("%d keys", n)
		}
	}
	if blocks, session := x.Match("m", used); blocks != len(used.blocks) || !session {
		t.Errorf("of the used one, %d of %d blocks, session %v", blocks, len(used.blocks), session)
	}
	if blocks, session := x.Match("m", unused); blocks != 0 || session {
		t.Errorf("of the unused one, %d blocks, session %v", blocks, session)
	}
}

func TestHeadIsBounded(t *testing.T) {
	t.Parallel()
	if h := NewHead("", text(1, 1<<20)); len(h.blocks) != maxBlocks {
		t.Errorf("%d blocks", len(h.blocks))
	}
}

func BenchmarkPrefix(b *testing.B) {
	for _, size := range []int{2 << 10, 32 << 10, 1 << 20} {
		prompt := text(1, size)
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			var x Index
			x.Add("m", NewHead("s", prompt))
			b.Run("hash", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					NewHead("s", prompt)
				}
			})
			h := NewHead("s", prompt)
			b.Run("match", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					x.Match("m", h)
				}
			})
			b.Run("add", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					x.Add("m", h)
				}
			})
		})
	}
}
