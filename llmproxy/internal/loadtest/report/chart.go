package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

// The size of a chart and of the area in which it draws, in the units of its SVG.
const (
	chartWidth, chartHeight  = 560, 250
	left, right, top, bottom = 58, 22, 14, 36
	plotWidth, plotHeight    = chartWidth - left - right, chartHeight - top - bottom
	chartBins                = 40
	yTickCount, xTickCount   = 5, 6
	nameWidth                = 30 // of a mark
)

// A chart is a drawing for the template: everything has its place.
type chart struct {
	Title, Unit, Label string // Label is for those who cannot see it
	Server             string // empty if there is only one
	Bars               []column
	Lines              []line
	Marks              []mark
	Hints              []hint
	X, Y               []tick
	XUnit              string
	Empty              bool
}

type (
	column struct{ X, Y, W, H float64 }
	line   struct {
		Path, Class, Name string
	}
	// A mark is a vertical line with a name, such as a percentile.
	mark struct {
		X, Y float64 // Y is where its name stands
		Name string
		End  bool // the name stands before the line, because there is no space after it
	}
	// A hint is an area that shows a text when the pointer is on it.
	hint struct {
		X, W float64
		Text string
	}
	tick struct {
		At   float64
		Text string
	}
)

// A scale maps values from zero, or from a lowest value, to a length.
type scale struct{ low, high, length float64 }

func (s scale) at(v float64) float64 {
	if s.high <= s.low {
		return 0
	}
	return math.Round(min(max((v-s.low)/(s.high-s.low), 0), 1)*s.length*10) / 10
}

// step returns the round distance of about n ticks on a span.
func step(span float64, n int) float64 {
	if span <= 0 {
		return 1
	}
	least := span / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 2.5, 5, 10} {
		if factor*power >= least*.999 {
			return factor * power
		}
	}
	return least
}

// ticks returns round values between the ends of a scale.
func ticks(s scale, n int, format func(float64) string) (list []tick) {
	distance := step(s.high-s.low, n)
	for v := math.Ceil(s.low/distance-1e-9) * distance; v <= s.high*(1+1e-9) && len(list) < 4*n; v += distance {
		list = append(list, tick{s.at(v), format(v)})
	}
	return list
}

func plain(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	return digits(v)
}

// yAxis returns a scale from zero to a round value not below the highest one, and its ticks.
func yAxis(highest float64) (scale, []tick) {
	distance := step(max(highest, 1e-9), yTickCount)
	s := scale{0, math.Ceil(highest/distance-1e-9) * distance, plotHeight}
	s.high = max(s.high, distance)
	list := ticks(s, yTickCount, plain)
	for i := range list {
		list[i].At = plotHeight - list[i].At
	}
	return s, list
}

// unit is that in which durations up to the highest one are shown.
func unit(highest time.Duration) (name string, of func(time.Duration) float64) {
	if highest >= 2*time.Second {
		return "s", time.Duration.Seconds
	}
	return "ms", func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
}

// histograms draws a duration of several servers on the same scales.
func histograms(title, counted string, all ...*loadtest.Distribution) []chart {
	binned := loadtest.Bins(chartBins, all...)
	most, low, high := int64(0), time.Duration(math.MaxInt64), time.Duration(0)
	for _, bins := range binned {
		for _, b := range bins {
			most, low, high = max(most, b.Count), min(low, b.From), max(high, b.To)
		}
	}
	name, in := unit(high)
	y, yTicks := yAxis(float64(most))
	x := scale{in(low), in(high), plotWidth}
	charts := make([]chart, len(all))
	for i, d := range all {
		c := chart{Title: title, XUnit: name, Unit: counted, Empty: d.Count() == 0}
		if !c.Empty {
			c.X, c.Y = ticks(x, xTickCount, plain), yTicks
			c.Label = fmt.Sprintf("Histogram of %s: median %s, 95th percentile %s", strings.ToLower(title), duration(d.Percentile(50)), duration(d.Percentile(95)))
			for _, b := range binned[i] {
				from, to, h := x.at(in(b.From)), x.at(in(b.To)), y.at(float64(b.Count))
				c.Bars = append(c.Bars, column{from + .5, plotHeight - h, max(to-from-1, 1), h})
				text := fmt.Sprintf("%s – %s: %s", duration(b.From), duration(b.To), plain(float64(b.Count)))
				if b.Last {
					text = fmt.Sprintf("%s and more: %s", duration(b.From), plain(float64(b.Count)))
				}
				c.Hints = append(c.Hints, hint{from, to - from, text})
			}
			for j, p := range []float64{50, 95} {
				at := x.at(in(d.Percentile(p)))
				c.Marks = append(c.Marks, mark{at, 8 + 14*float64(j), fmt.Sprintf("p%g", p), at > plotWidth-nameWidth || p == 50 && at > nameWidth})
			}
		}
		charts[i] = c
	}
	return charts
}

// A series is a figure of each interval of a run; it has no value where nothing was measured.
type series struct {
	name, class string
	of          func(loadtest.Point) (value float64, measured bool)
}

// timelines draws series of several servers on the same scales.
func timelines(title, unit string, shown []series, all [][]loadtest.Point) []chart {
	highest, end := 0.0, time.Duration(0)
	for _, points := range all {
		for _, p := range points {
			end = max(end, p.At+p.Width)
			for _, s := range shown {
				if v, ok := s.of(p); ok {
					highest = max(highest, v)
				}
			}
		}
	}
	y, yTicks := yAxis(highest)
	x := scale{0, end.Seconds(), plotWidth}
	charts := make([]chart, len(all))
	for i, points := range all {
		c := chart{Title: title, Unit: unit, XUnit: "s", X: ticks(x, xTickCount, plain), Y: yTicks, Empty: len(points) == 0 || highest == 0}
		c.Label = title + ", in " + unit
		for _, s := range shown {
			c.Lines = append(c.Lines, line{path(points, s, x, y), s.class, s.name})
		}
		for _, p := range points {
			text := fmt.Sprintf("%s – %s s", digits(p.At.Seconds()), digits((p.At + p.Width).Seconds()))
			for _, s := range shown {
				if v, ok := s.of(p); ok {
					text += fmt.Sprintf("\n%s: %s %s", s.name, plain(v), unit)
				}
			}
			c.Hints = append(c.Hints, hint{x.at(p.At.Seconds()), x.at((p.At + p.Width).Seconds()) - x.at(p.At.Seconds()), text})
		}
		charts[i] = c
	}
	return charts
}

// path draws a series through the middles of its intervals. Intervals in which nothing was measured have no point.
func path(points []loadtest.Point, s series, x, y scale) string {
	var b strings.Builder
	for _, p := range points {
		if v, ok := s.of(p); ok {
			at := fmt.Sprintf("%g %g", x.at((p.At + p.Width/2).Seconds()), math.Round((plotHeight-y.at(v))*10)/10)
			if b.Len() == 0 {
				b.WriteString("M" + at) // and a line to itself, because a single point is a dot
			}
			b.WriteString("L" + at)
		}
	}
	return b.String()
}

// percentileSeries returns the median and the 95th percentile of a distribution of each interval.
func percentileSeries(of func(loadtest.Point) *loadtest.Distribution, in func(time.Duration) float64) []series {
	at := func(p float64) func(loadtest.Point) (float64, bool) {
		return func(point loadtest.Point) (float64, bool) {
			d := of(point)
			if d == nil {
				return 0, false
			}
			return in(d.Percentile(p)), true
		}
	}
	return []series{{"p95", "p95", at(95)}, {"p50", "p50", at(50)}}
}

// longestOf returns the longest 95th percentile that a chart shows.
func longestOf(all [][]loadtest.Point, of func(loadtest.Point) *loadtest.Distribution) (longest time.Duration) {
	for _, points := range all {
		for _, p := range points {
			if d := of(p); d != nil {
				longest = max(longest, d.Percentile(95))
			}
		}
	}
	return longest
}
