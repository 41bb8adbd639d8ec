// Package guard tells whether two questions that read alike may be about different things. Embeddings hardly see whether it
// says 5 or 50, Paris or Rome, with or without: so two texts agree only if what such a difference hangs on is the same in
// both, in the same order. It decides nothing by meaning, and errs towards no.
//
// It stands on the lowest floor and knows nothing but text.
package guard
