// Package gateway is a request's way through: begin → parse → route → deliver (attempt → commit → relay)*, and account,
// deferred, exactly once. Serve reads as its table of contents; each step is a file.
//
// It decides in which order things happen and what a client is told when they fail. It never chooses a target itself (router
// does), never reads or frames a stream (relay does) and knows nothing of Caddy: the skin gives it upstreams and a table,
// and reads the Record. It stands above upstream and relay.
package gateway
