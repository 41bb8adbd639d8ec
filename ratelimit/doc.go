// Package ratelimit implements rate limits and budgets. It decides whether a request fits the limits that apply to it,
// reserves its estimated usage before it runs, and settles the reservation when the real usage is known. It counts requests,
// tokens, concurrent requests and money.
//
// Requests and tokens use token buckets (GCRA): they are exact and need two numbers of memory, and an estimate is corrected by
// changing one of them. After a pause a client may use the whole limit at once, while the bucket goes on draining. That is
// not good enough for money, so budgets are sliding windows of 60 intervals, or calendar periods.
//
// Memory counts in this process. Package redislimit counts in Redis or Valkey for any number of processes; Offline decides for
// it while the server cannot be reached.
//
// The package does not know keys, models, HTTP or Redis: a limit is identified by a string or a client address. Counters do not
// contain the rules. These are passed with each call, so that a reload changes rules and keeps usage. It imports no other
// package of this module.
package ratelimit
