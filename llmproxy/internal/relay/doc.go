// Package relay brings an upstream's answer to the client. It decides when an answer is worth committing to: a stream at
// its first event with content, a JSON answer when it is whole, anything else at its first byte. Until then nothing
// reaches the client, so that another target may still answer. Afterwards it passes on what comes, event by event, and
// reports whether the answer reached its end.
//
// It alone writes answers to clients. It never retries, never chooses what an error means (its caller does), and never
// re-encodes an event. It stands above openai and sse.
package relay
