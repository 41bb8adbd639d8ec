//go:build !race

package gateway

// raceAllocations is how many more allocations a request may take under the race detector, where pools forget on purpose.
const raceAllocations = 0

// raceCopies is how many more copies of a body are made under the race detector.
const raceCopies = 0
