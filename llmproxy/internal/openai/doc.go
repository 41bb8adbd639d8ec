// Package openai knows the shapes of OpenAI's dialect and reads them in place: which endpoints there are, what the gateway must
// know of a request, and what an answer, an event, an error or a usage says. It also makes a stream of a whole answer, and a whole
// answer of a stream.
//
// It never decodes a request to encode it again, so that unknown fields, zero values, the spelling of numbers and the order of keys
// survive. It frames no events (sse does) and does no input or output. It stands above jsonspan, formdata and sse.
package openai
