// Package caching gives an answer again to whoever asks the same again. It decides what counts as the same (a Key over
// everything that was asked), how long an answer is kept, what a client's Cache-Control means, and that of identical
// requests at the same time only one generates while the others read along. Its index finds questions whose vectors are
// alike; who makes the vectors, it does not know.
//
// It never looks into requests or answers: it takes bytes and plain values, and knows neither JSON nor HTTP handlers. It
// stands on the floor of router and ratelimit, and knows neither of them.
package caching
