//go:build race

package gateway

// raceAllocations is how many more allocations a request may take under the race detector, where pools forget on purpose.
const raceAllocations = 4

// raceCopies is how many more copies of a body are made under the race detector, which keeps the compiler from optimizing
// append(s, make([]byte, n)...) in slices.Concat, by which a body of unknown length is joined.
const raceCopies = 1
