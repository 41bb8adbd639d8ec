// Package wire knows OpenAI's JSON: which endpoints there are, what the gateway must know of a request, how a request is
// changed without re-encoding it, and what an answer, an event or an error says.
//
// It decides what a well-formed request is. It never decodes a request to encode it again (unknown fields, zero values,
// spelling of numbers and order of keys survive), never frames events (sse does) and does no input or output. It stands on
// the lowest floor and imports no other package of this project.
package wire
