package caching

import (
	"cmp"
	"container/list"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// maxDimensions bounds a vector: 32 KiB.
	maxDimensions = 8192
	// matches is how many answers Find names at most.
	matches = 3
	// phraseOverhead is what a phrase costs in memory beside its text and its vector.
	phraseOverhead = 320
)

// A Phrase is a question by its wording.
type Phrase struct {
	// Frame stands for everything about the question that must be the same: phrases are compared within it only.
	Frame Key
	Text  string
	// Vector is the wording's embedding, as Unit gives it; nil while nobody needed it.
	Vector []float32
	// Answer is the key of its answer in the store.
	Answer Key
	// Like is where the answer is that was given in its place, if none was stored; nil if one was.
	Like *Match
}

// A Match is an answer to a question that reads like the one that was asked.
type Match struct {
	Answer     Key
	Similarity float64 // of the two vectors: the cosine between them, 1 for the same direction
}

// An Index finds answers by the wording of their questions. It holds no answers. It looks at each phrase of the frame, so that
// none is missed, and what was evicted leaves nothing behind. The zero value is ready and safe for concurrent use.
type Index struct {
	mu     sync.RWMutex
	frames map[Key][]*list.Element
	oldest list.List // of *indexed, the oldest in front
	bytes  int64
}

// An indexed is a phrase, whose it is, and how long it is of use.
type indexed struct {
	Phrase
	model string
	until time.Time
}

func (e *indexed) size() int64 {
	return int64(4*cap(e.Vector) + len(e.Text) + len(e.model) + phraseOverhead)
}

// Unit brings a vector to length 1; nil if it is none: empty, without direction, not finite, or too long.
func Unit(vector []float32) []float32 {
	if len(vector) == 0 || len(vector) > maxDimensions {
		return nil
	}
	sum := 0.0
	for _, v := range vector {
		sum += float64(v) * float64(v)
	}
	length := math.Sqrt(sum)
	if length == 0 || math.IsNaN(length) || math.IsInf(length, 0) {
		return nil
	}
	unit := make([]float32, len(vector))
	for i, v := range vector {
		unit[i] = float32(float64(v) / length)
	}
	return unit
}

// Put adds a phrase whose answer was stored for a time; the same one takes its own place. Of more than max, the oldest go.
func (x *Index) Put(p Phrase, model string, ttl time.Duration, max int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.frames == nil {
		x.frames = map[Key][]*list.Element{}
	}
	for _, e := range x.frames[p.Frame] {
		if e.Value.(*indexed).Answer == p.Answer {
			x.remove(e)
			break
		}
	}
	e := &indexed{p, model, time.Now().Add(ttl)}
	x.frames[p.Frame] = append(x.frames[p.Frame], x.oldest.PushBack(e))
	x.bytes += e.size()
	now := time.Now()
	for front := x.oldest.Front(); front != nil && (x.oldest.Len() > max || !now.Before(front.Value.(*indexed).until)); front = x.oldest.Front() {
		x.remove(front)
	}
}

// remove forgets a phrase. The caller holds mu.
func (x *Index) remove(e *list.Element) {
	gone := x.oldest.Remove(e).(*indexed)
	x.bytes -= gone.size()
	of := x.frames[gone.Frame]
	at := slices.Index(of, e)
	of[at] = of[len(of)-1]
	of[len(of)-1] = nil
	if of = of[:len(of)-1]; len(of) == 0 {
		delete(x.frames, gone.Frame)
		return
	}
	x.frames[gone.Frame] = of
}

// Waiting gives phrases of a frame that have no vector yet, at most so many; any tells whether the frame has phrases at all.
func (x *Index) Waiting(frame Key, most int) (phrases []Phrase, any bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	now := time.Now()
	for _, e := range x.frames[frame] {
		p := e.Value.(*indexed)
		if !now.Before(p.until) {
			continue
		}
		if any = any || p.Like == nil; p.Vector == nil && p.Like == nil && len(phrases) < most {
			phrases = append(phrases, p.Phrase)
		}
	}
	return phrases, any
}

// Known gives the answer that was given in place of an answer before.
func (x *Index) Known(frame, answer Key) (m Match, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.frames[frame] {
		if p := e.Value.(*indexed); p.Like != nil && p.Answer == answer && time.Now().Before(p.until) {
			return *p.Like, true
		}
	}
	return m, false
}

// Learn gives the phrase of an answer its vector.
func (x *Index) Learn(frame, answer Key, vector []float32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.frames[frame] {
		if p := e.Value.(*indexed); p.Answer == answer && p.Like == nil {
			x.bytes -= p.size()
			p.Vector = vector
			x.bytes += p.size()
		}
	}
}

// Find gives the answers to the phrases that are at least as similar as the threshold, the most similar first, and how similar
// the nearest one is of all that were compared; zero if there was none.
func (x *Index) Find(p *Phrase, threshold float64) (found []Match, nearest float64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	now := time.Now()
	for _, e := range x.frames[p.Frame] {
		other := e.Value.(*indexed)
		if len(other.Vector) != len(p.Vector) || !now.Before(other.until) {
			continue
		}
		similarity := dot(p.Vector, other.Vector)
		nearest = max(nearest, min(float64(similarity), 1))
		if similarity >= float32(threshold) {
			found = append(found, Match{other.Answer, min(float64(similarity), 1)})
		}
	}
	slices.SortFunc(found, func(a, b Match) int { return cmp.Compare(b.Similarity, a.Similarity) })
	return found[:min(len(found), matches)], nearest
}

// dot multiplies vectors of one length. Four sums let the processor go on without waiting for the last one.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(a) >= 8 && len(b) >= 8 {
		p, q := (*[8]float32)(a), (*[8]float32)(b)
		s0 += p[0]*q[0] + p[4]*q[4]
		s1 += p[1]*q[1] + p[5]*q[5]
		s2 += p[2]*q[2] + p[6]*q[6]
		s3 += p[3]*q[3] + p[7]*q[7]
		a, b = a[8:], b[8:]
	}
	for i := range a {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// Purge forgets the phrases of a model, or all if it is empty.
func (x *Index) Purge(model string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for e := x.oldest.Front(); e != nil; {
		next := e.Next()
		if model == "" || e.Value.(*indexed).model == model {
			x.remove(e)
		}
		e = next
	}
}

// Usage is how many phrases there are, and how many bytes they take.
func (x *Index) Usage() (entries int, bytes int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.oldest.Len(), x.bytes
}
