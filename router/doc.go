// Package router decides where a request may go: it turns the name of a model into a plan, the ordered pools of targets
// that may answer it, and picks one target after another by the pool's policy, the state of its replicas and their free
// slots, in whose lines requests wait. It also names the verdicts, what the end of an attempt means for the next one.
//
// It never sends anything, starts neither goroutines nor timers, and knows neither JSON nor HTTP: it takes and gives plain
// values, so that every decision can be tested as a table. It stands on the lowest floor and imports no other package of this
// project.
package router
