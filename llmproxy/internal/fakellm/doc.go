// Package fakellm is an upstream for tests and benchmarks: it speaks as one kind of real server does (OpenAI, Ollama, vLLM,
// llama.cpp) over a real socket, and fails the way its script tells it to: slow, refusing, cut, silent, wrong.
//
// It decides nothing and judges nothing: it says what it was told to say, in the words of its kind, and keeps what it was sent.
// It never generates: the answer is the script's tokens, whatever was asked.
//
// What it sends was taken from real servers. For llama-server and Ollama the package's tests compare it with the captures in
// testdata; for vLLM nothing was captured, its shapes come from its source and documentation; those of OpenAI from its
// published specification.
//
// It stands beside the floors: tests and benchmarks of all of them use it, it imports none of them.
package fakellm
