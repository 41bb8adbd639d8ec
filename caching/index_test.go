package caching

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// phrase makes one whose vector has this similarity with the one of similarity 1.
func phrase(frame byte, text string, similarity float64) Phrase {
	v := []float32{float32(similarity), float32(math.Sqrt(1 - similarity*similarity))}
	return Phrase{Frame: Key{frame}, Text: text, Vector: Unit(v), Answer: Key{frame, text[0]}}
}

func answers(found []Match, _ float64) (names string) {
	for _, m := range found {
		names += string(m.Answer[1])
	}
	return names
}

func TestFind(t *testing.T) {
	asked := phrase(1, "what is it", 1)
	for _, test := range []struct {
		name      string
		put       []Phrase
		threshold float64
		want      string
	}{
		{"nothing is there", nil, 0.9, ""},
		{"the nearest first", []Phrase{phrase(1, "how is it", 0.96), phrase(1, "so is it", 0.97), phrase(1, "and is it", 0.98)}, 0.9, "ash"},
		{"three at most", []Phrase{phrase(1, "how is it", 0.96), phrase(1, "so is it", 0.97), phrase(1, "and is it", 0.98), phrase(1, "the it", 0.99)}, 0.9, "tas"},
		{"at the threshold", []Phrase{phrase(1, "how is it", 0.95)}, 0.95, "h"},
		{"just below it", []Phrase{phrase(1, "how is it", 0.9499)}, 0.95, ""},
		{"threshold 1", []Phrase{{Frame: Key{1}, Text: "how is it", Vector: asked.Vector, Answer: Key{1, 'h'}}}, 1, "h"},
		{"another frame", []Phrase{phrase(2, "how is it", 1)}, 0.9, ""},
		{"no vector yet", []Phrase{{Frame: Key{1}, Text: "how is it", Answer: Key{1, 'h'}}}, 0.9, ""},
		{"other dimensions", []Phrase{{Frame: Key{1}, Text: "how is it", Vector: []float32{1}, Answer: Key{1, 'h'}}}, 0.9, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var x Index
			for _, p := range test.put {
				x.Put(p, "m", time.Hour, 100)
			}
			if got := answers(x.Find(&asked, test.threshold)); got != test.want {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}

// Who purges a cache means its questions, too.
func TestPurgeForgetsQuestions(t *testing.T) {
	t.Parallel()
	c := New(1 << 20)
	defer c.Close()
	c.Index.Put(phrase(1, "how is it", 1), "m", time.Hour, 100)
	c.Index.Put(phrase(2, "how is it", 1), "n", time.Hour, 100)
	if _, err := c.Purge(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	for frame, want := range map[byte]bool{1: false, 2: true} {
		if _, any := c.Index.Waiting(Key{frame}, 1); any != want {
			t.Errorf("frame %d: a question is kept: %t", frame, any)
		}
	}
}

func TestUnit(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, test := range []struct {
		name       string
		give, want []float32
	}{
		{"length 1", []float32{3, 4}, []float32{0.6, 0.8}},
		{"none", nil, nil},
		{"no direction", []float32{0, 0}, nil},
		{"not a number", []float32{1, nan}, nil},
		{"infinite", []float32{1, inf}, nil},
		{"large", []float32{3e38, 0}, []float32{1, 0}},
		{"small", []float32{1e-40, 0}, []float32{1, 0}},
		{"too long", make([]float32, maxDimensions+1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Unit(test.give)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A phrase without a vector waits for one, and is found once it has it.
func TestAVectorThatComesLater(t *testing.T) {
	var x Index
	if _, any := x.Waiting(Key{1}, 8); any {
		t.Error("an empty index has something")
	}
	p := phrase(1, "how is it", 0.99)
	vector := p.Vector
	p.Vector = nil
	x.Put(p, "m", time.Hour, 100)
	waiting, any := x.Waiting(Key{1}, 8)
	if !any || len(waiting) != 1 || waiting[0].Text != "how is it" {
		t.Fatalf("%v %v", waiting, any)
	}
	x.Learn(Key{1}, p.Answer, vector)
	if waiting, any := x.Waiting(Key{1}, 8); !any || len(waiting) != 0 {
		t.Errorf("%v %v", waiting, any)
	}
	asked := phrase(1, "what is it", 1)
	if got := answers(x.Find(&asked, 0.9)); got != "h" {
		t.Errorf("%q", got)
	}
	for i := range 20 {
		x.Put(Phrase{Frame: Key{2}, Text: "x", Answer: Key{2, byte(i)}}, "m", time.Hour, 100)
	}
	if waiting, _ := x.Waiting(Key{2}, 8); len(waiting) != 8 {
		t.Errorf("%d wait", len(waiting))
	}
}

// What got the answer to another question gets it again, but nothing is compared with it: likeness would wander off.
func TestAnAnswerInPlaceOfAnother(t *testing.T) {
	var x Index
	x.Put(phrase(1, "how is it", 1), "m", time.Hour, 100)
	p := phrase(1, "so is it", 0.96)
	if _, ok := x.Known(p.Frame, p.Answer); ok {
		t.Error("it is known before it was given")
	}
	given := Match{Key{1, 'h'}, 0.96}
	x.Put(Phrase{Frame: p.Frame, Answer: p.Answer, Like: &given}, "m", time.Hour, 100)
	if m, ok := x.Known(p.Frame, p.Answer); !ok || m != given {
		t.Errorf("%v %v", m, ok)
	}
	x.Learn(p.Frame, p.Answer, p.Vector)
	if waiting, any := x.Waiting(p.Frame, 8); !any || len(waiting) != 0 {
		t.Errorf("%v wait", waiting)
	}
	asked := phrase(1, "what is it", 0.96)
	if got := answers(x.Find(&asked, 0.95)); got != "h" {
		t.Errorf("%q", got)
	}
	x.Put(p, "m", time.Hour, 100) // now it has an answer of its own
	if _, ok := x.Known(p.Frame, p.Answer); ok {
		t.Error("the other answer is still given")
	}
}

// What is too much, too old, or purged, is gone, and takes no room.
func TestTheIndexForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x Index
		asked := phrase(1, "what is it", 1)
		x.Put(phrase(1, "how is it", 0.99), "m", time.Minute, 2)
		x.Put(phrase(1, "how is it", 0.99), "m", time.Minute, 2) // again
		x.Put(phrase(1, "so is it", 0.98), "m2", time.Hour, 2)
		if got := answers(x.Find(&asked, 0.9)); got != "hs" {
			t.Errorf("%q", got)
		}
		time.Sleep(time.Minute)
		if got := answers(x.Find(&asked, 0.9)); got != "s" {
			t.Errorf("%q is found though one is too old", got)
		}
		x.Put(phrase(1, "and is it", 0.97), "m", time.Hour, 2)
		x.Put(phrase(1, "the it", 0.96), "m", time.Hour, 2)
		if got := answers(x.Find(&asked, 0.9)); got != "at" {
			t.Errorf("%q is found though two are the most", got)
		}
		x.Purge("m2")
		if n, _ := x.Usage(); n != 2 {
			t.Errorf("%d are left", n)
		}
		x.Purge("")
		if n, bytes := x.Usage(); n != 0 || bytes != 0 || len(x.frames) != 0 {
			t.Errorf("%d are left, %d bytes, %d frames", n, bytes, len(x.frames))
		}
	})
}

func TestTheIndexForMany(t *testing.T) {
	var x Index
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				p := phrase(byte(i%3), fmt.Sprintf("%c is it", 'a'+i%26), 0.9)
				p.Answer = Key{byte(g), byte(i)}
				if i%2 == 0 {
					p.Vector = nil
				}
				x.Put(p, "m", time.Hour, 50)
				x.Waiting(p.Frame, 4)
				x.Learn(p.Frame, p.Answer, Unit([]float32{1, 2}))
				x.Find(&p, 0.5)
				if i%100 == 0 {
					x.Purge("m")
				}
			}
		})
	}
	wg.Wait()
	if n, bytes := x.Usage(); n == 0 || n > 50 || bytes > 50*400 {
		t.Errorf("%d, %d bytes", n, bytes)
	}
}

// randomIndex is full of phrases of so many frames.
func randomIndex(n, dimensions, frames int) (*Index, Phrase) {
	x, random := new(Index), rand.New(rand.NewPCG(1, 2))
	var p Phrase
	for i := range n {
		v := make([]float32, dimensions)
		for j := range v {
			v[j] = float32(random.NormFloat64())
		}
		p = Phrase{Frame: Key{byte(i % frames)}, Text: fmt.Sprintf("What should I know of the matter that has the number %d?", i), Vector: Unit(v), Answer: Key{byte(i), byte(i >> 8), byte(i >> 16)}}
		x.Put(p, "m", time.Hour, n)
	}
	return x, p
}

func BenchmarkFind(b *testing.B) {
	for _, dimensions := range []int{384, 1536} {
		b.Run(fmt.Sprint("10000 of ", dimensions), func(b *testing.B) {
			x, p := randomIndex(10_000, dimensions, 1)
			b.ReportAllocs()
			for b.Loop() {
				if found, _ := x.Find(&p, 0.95); len(found) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

// What the index says it takes is what it takes.
func TestTheIndexCountsTruly(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x, _ := randomIndex(20_000, 64, 200)
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	_, bytes := x.Usage()
	if ratio := float64(bytes) / heap; ratio < 0.8 || ratio > 1.25 {
		t.Errorf("%d bytes by its own count, %.0f of heap", bytes, heap)
	}
}
