// Package upstream knows one upstream: what kind of server it is and how that kind differs from the others, how a request
// to it is built, which models it has, and which verdict an answer of it stands for.
//
// It never chooses among upstreams (router does), never reads an answer's stream and never writes to a client (relay does).
// It gets its connections as an http.RoundTripper, so it knows nothing of Caddy. It stands above router and openai.
package upstream
