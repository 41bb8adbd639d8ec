// Package http1 is a lean client for servers that speak plain HTTP/1.1 in the same rack. It exists because net/http's
// transport spends about 45 µs and two goroutines on a request, more than the rest of the gateway together; here the
// goroutine that asks also writes and reads, and neither an idle connection nor an answer in chunks holds a buffer.
//
// It decides which connection a request takes and whether one that failed may be sent again. It knows no TLS, no HTTP/2,
// no proxies, no redirects, no cookies and no compression: upstreams that need one of these take Caddy's transport. Parsing
// the heads of answers is left to net/http, but for those that have nothing unusual to them. It stands on the lowest floor and
// imports no other package of this project.
//
// The price of one goroutine: the answer is not looked at before the request is written. A server that answers early and
// neither reads on nor closes is only left when the request's context ends.
package http1
