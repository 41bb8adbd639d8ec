package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	series := func(f figure, values ...float64) (list []sample) {
		for _, v := range values {
			list = append(list, sample{f: v})
		}
		return list
	}
	yes, no := true, false
	tests := []struct {
		name         string
		theirs, ours []sample
		bar          bar
		ratio        *ratios
		met          *bool
	}{
		{
			name: "the median of the pairs, not the ratio of the medians", bar: bar{figure: cpuPerRequest, limit: 0.6},
			theirs: series(cpuPerRequest, 100, 200, 400), ours: series(cpuPerRequest, 90, 100, 240),
			ratio: &ratios{Median: 0.6, Min: 0.5, Max: 0.9}, met: &yes,
		},
		{
			name: "missed", bar: bar{figure: cpuPerRequest, limit: 0.59},
			theirs: series(cpuPerRequest, 100, 100), ours: series(cpuPerRequest, 50, 70),
			ratio: &ratios{Median: 0.6, Min: 0.5, Max: 0.7}, met: &no,
		},
		{
			name: "absolute", bar: bar{figure: rssPerStream, limit: 64, absolute: true},
			theirs: series(rssPerStream, 40), ours: series(rssPerStream, 65),
			ratio: &ratios{Median: 1.625, Min: 1.625, Max: 1.625}, met: &no,
		},
		{
			name: "without a ratio, the bar is not met", bar: bar{figure: cpuPerRequest, limit: 1},
			theirs: series(cpuPerRequest, 0), ours: series(cpuPerRequest, 1), met: &no,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := outcomes([sides][]sample{baseline: tt.theirs, ours: tt.ours}, []bar{tt.bar})
			if len(got) != 1 {
				t.Fatalf("got %d outcomes, want 1", len(got))
			}
			if diff := cmp.Diff(tt.ratio, got[0].Ratio); diff != "" {
				t.Error("ratio:", diff)
			}
			if diff := cmp.Diff(tt.met, got[0].Met); diff != "" {
				t.Error("met:", diff)
			}
		})
	}
}
