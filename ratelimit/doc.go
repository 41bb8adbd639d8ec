// Package ratelimit decides how much: whether a request fits the limits that apply to it, what it takes of them before it
// runs, and what it gives back or owes when its real usage is known. It counts requests, tokens, places and money.
//
// Requests and tokens are metered by GCRA, in its leaky-bucket form: a bucket of the limit's size that drains evenly over
// the window. It is exact, two numbers of memory, knows to the nanosecond when to come back, and an estimate is corrected by
// moving one number. Its price: after a pause the whole limit may be used at once, while the bucket goes on draining. For
// money that is not good enough, so that budgets are sliding windows of 60 slots, or calendar periods: whatever stretch of
// the window's length is looked at, no more was spent in it.
//
// In Redis, any number of processes hold limits together: each request is one script there. While it is away, each process
// takes its share of what was left, and owes what it took.
//
// It never knows a key, a model or HTTP: limits have an identity, a string, and callers are addresses. State holds facts; the
// rules come with each call, so that a reload changes the rules and keeps the facts. It stands on the floor above wire, and
// imports no other package of this project.
package ratelimit
