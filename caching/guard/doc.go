// Package guard tells what must be the same in two questions, so that one may get the answer to the other: everything but
// the little words that a question can have or not. Embeddings hardly see whether it says 5 or 50, Paris or Rome, with or
// without, before or after; an outline does. It decides nothing by meaning, and errs towards another question.
//
// It stands on the lowest floor and knows nothing but text.
package guard
