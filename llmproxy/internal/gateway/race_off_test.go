//go:build !race

package gateway

// raceCopies is how many more copies of a body are made under the race detector.
const raceCopies = 0
