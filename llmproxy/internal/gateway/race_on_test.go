//go:build race

package gateway

// raceCopies is how many more copies of a body are made under the race detector, which keeps the compiler from optimizing
// append(s, make([]byte, n)...) in slices.Concat, by which a body of unknown length is joined.
const raceCopies = 1
