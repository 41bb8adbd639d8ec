// Package prices knows what a request costs: from lines of the configuration, a file in LiteLLM's shape, and a small table
// of its own, in this order. What none of them knows is unknown, never zero.
//
// It counts no tokens and bounds nobody's budget: it is told what was used and gives US dollars. It stands on router, whose
// patterns it shares.
package prices
