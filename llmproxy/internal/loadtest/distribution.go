package loadtest

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Distribution has the values of a duration in a histogram of fixed size. Percentiles are exact to three digits, the mean, the
// smallest and the largest value are exact.
type Distribution struct {
	histogram *hdrhistogram.Histogram
	sum       time.Duration
	min, max  time.Duration
}

const longest = 24 * time.Hour

func newDistribution(digits int) *Distribution {
	return &Distribution{histogram: hdrhistogram.New(1, longest.Microseconds(), digits), min: longest}
}

func (d *Distribution) add(v time.Duration) {
	v = min(max(v, 0), longest)
	_ = d.histogram.RecordValue(v.Microseconds()) // fails only out of range
	d.sum += v
	d.min, d.max = min(d.min, v), max(d.max, v)
}

func (d *Distribution) merge(o *Distribution) {
	d.histogram.Merge(o.histogram)
	d.sum += o.sum
	d.min, d.max = min(d.min, o.min), max(d.max, o.max)
}

// Count returns the number of values.
func (d *Distribution) Count() int64 { return d.histogram.TotalCount() }

// Mean returns the mean, or 0 without values.
func (d *Distribution) Mean() time.Duration {
	if n := d.Count(); n > 0 {
		return d.sum / time.Duration(n)
	}
	return 0
}

// Percentile returns the value that p percent of all values do not exceed, or 0 without values.
func (d *Distribution) Percentile(p float64) time.Duration {
	if d.Count() == 0 {
		return 0
	}
	return min(micros(d.histogram.ValueAtPercentile(p)), d.max)
}

// Max returns the largest value.
func (d *Distribution) Max() time.Duration { return d.max }

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// A Bin is a part of a histogram to be drawn.
type Bin struct {
	From, To time.Duration // To is exclusive
	Count    int64
	Last     bool // it has all the larger values as well
}

// Bins returns at most n bins of equal, round width. The last one has all values above the 99th percentile that the others do not, so
// that one outlier does not squeeze them.
func (d *Distribution) Bins(n int) []Bin { return Bins(n, d)[0] }

// Bins returns the same bins of several distributions.
func Bins(n int, all ...*Distribution) [][]Bin {
	low, high := longest, time.Duration(0)
	for _, d := range all {
		if d.Count() > 0 {
			low, high = min(low, d.min), max(high, d.Percentile(99))
		}
	}
	result := make([][]Bin, len(all))
	if low == longest {
		return result // no distribution has values
	}
	// Bins that are much narrower than their values would have the same labels.
	width := roundUp(max((high-low+1)/time.Duration(max(n-1, 1)), high/time.Duration(10*n)))
	first := low.Truncate(width)
	count := int((high-first)/width) + 1
	for i, d := range all {
		bins := make([]Bin, count)
		for j := range bins {
			bins[j].From = first + time.Duration(j)*width
			bins[j].To = bins[j].From + width
		}
		for _, bar := range d.histogram.Distribution() {
			if bar.Count > 0 {
				middle := micros(bar.From) + micros(bar.To-bar.From)/2
				bins[min(max(int((middle-first)/width), 0), count-1)].Count += bar.Count
			}
		}
		bins[count-1].Last = true
		result[i] = bins
	}
	return result
}

// roundUp returns the smallest width of 1, 2 or 5 times a power of ten that is not below a duration.
func roundUp(least time.Duration) time.Duration {
	least = max(least, time.Microsecond)
	power := math.Pow(10, math.Floor(math.Log10(float64(least))))
	for _, factor := range []float64{1, 2, 5} {
		if width := time.Duration(math.Round(factor * power)); width >= least {
			return width
		}
	}
	return time.Duration(math.Round(10 * power))
}
