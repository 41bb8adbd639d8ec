// Package guard tells what must be the same in two questions, so that one may get the answer to the other: everything but how
// a question is put. Embeddings hardly see whether it says 5 or 50, Paris or Rome, with or without, before or after; an outline
// does. It decides nothing by meaning, and errs towards another question: no word is left out wherever it stands, only where
// it is part of a turn that is known to say nothing, such as "could you please tell me" at the beginning.
//
// It stands on the lowest floor and knows nothing but text.
package guard
