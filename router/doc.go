// Package router decides where a request may go: it turns the name of a model into a plan, the ordered pools of targets
// that may answer it, and picks one target after another by the pool's policy and the free slots of its replicas, in whose lines
// requests wait. It also names the verdicts, what the end of
// an attempt means for the next one.
//
// It never sends anything, reads no clock, and knows neither JSON nor HTTP: it takes and gives plain values, so that
// every decision can be tested as a table. It stands on the lowest floor and imports no other package of this project.
package router
