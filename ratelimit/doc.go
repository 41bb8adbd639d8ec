// Package ratelimit implements rate limits and budgets. It decides whether a request fits the limits that apply to it,
// reserves its estimated usage before it runs, and settles the reservation when the real usage is known. It counts requests,
// tokens, concurrent requests and money.
//
// Requests and tokens use token buckets (GCRA): exact, two numbers of memory, and an estimate is corrected by moving one
// number. After a pause a client may use the whole limit at once, while the bucket goes on draining. That is not good enough
// for money, so budgets are sliding windows of 60 slots, or calendar periods.
//
// Memory holds limits in this process; Shared holds them in Redis or Valkey for any number of processes, one script per
// request. While Redis is unavailable, Fallback grants each process its share of what was left, and adds what it granted to
// the shared state afterwards.
//
// The package does not know keys, models or HTTP: a limit is identified by a string or a client address. Stored state does not
// contain the rules; they are passed with each call, so that a reload changes rules and keeps usage. It imports no other
// package of this module.
package ratelimit
