package loadtest

import "time"

// maxCells is how many intervals a timeline has at most. When a run gets longer, two neighbors become one.
const maxCells = 240

// A timeline has what happened in each interval of a run, in bounded memory.
type timeline struct {
	width time.Duration
	cells []*cell
}

type cell struct {
	finished, failed int64
	tokens           float64
	firstToken       *Distribution
	latency          *Distribution
}

func newTimeline() *timeline { return &timeline{width: 100 * time.Millisecond} }

// at returns the cell of a time since the start.
func (t *timeline) at(since time.Duration) *cell {
	since = max(since, 0)
	for since >= maxCells*t.width {
		t.halve()
	}
	for int(since/t.width) >= len(t.cells) {
		t.cells = append(t.cells, new(cell))
	}
	return t.cells[since/t.width]
}

func (t *timeline) halve() {
	t.width *= 2
	for i := range (len(t.cells) + 1) / 2 {
		t.cells[i] = t.cells[2*i]
		if 2*i+1 < len(t.cells) {
			t.cells[i].add(t.cells[2*i+1])
		}
	}
	half := (len(t.cells) + 1) / 2
	clear(t.cells[half:])
	t.cells = t.cells[:half]
}

func (c *cell) add(o *cell) {
	c.finished += o.finished
	c.failed += o.failed
	c.tokens += o.tokens
	mergeInto(&c.firstToken, o.firstToken)
	mergeInto(&c.latency, o.latency)
}

// mergeInto adds a distribution to another one, which it creates if it is nil.
func mergeInto(d **Distribution, o *Distribution) {
	if o == nil {
		return
	}
	if *d == nil {
		*d = newDistribution(cellDigits)
	}
	(*d).merge(o)
}

// cellDigits is the precision of the distributions of cells, which are only drawn.
const cellDigits = 2

// measure adds a value to a distribution of a cell, which it creates if it is nil.
func measure(d **Distribution, v time.Duration) {
	if *d == nil {
		*d = newDistribution(cellDigits)
	}
	(*d).add(v)
}

// A Point is what happened in an interval of a run.
type Point struct {
	At, Width       time.Duration
	Requests        int64 // answers that ended
	Failed          int64
	TokensPerSecond float64
	// FirstToken and Latency are of the requests that began in the interval; nil if there were none.
	FirstToken, Latency *Distribution
}

// points returns at most n intervals up to the end of the run.
func (t *timeline) points(n int, end time.Duration) (points []Point) {
	each := (len(t.cells) + n - 1) / max(n, 1)
	for i := 0; i < len(t.cells); i += max(each, 1) {
		var sum cell
		for _, c := range t.cells[i:min(i+each, len(t.cells))] {
			sum.add(c)
		}
		at := time.Duration(i) * t.width
		width := min(time.Duration(each)*t.width, max(end-at, time.Millisecond))
		points = append(points, Point{at, width, sum.finished, sum.failed, sum.tokens / width.Seconds(), sum.firstToken, sum.latency})
	}
	return points
}
