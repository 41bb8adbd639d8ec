package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A scenario is one way of being busy, measured pass by pass on each side.
type scenario struct {
	name        string // for -scenario and the results file
	title       string
	connections int
	size        int // of the request's body in bytes
	stream      bool
	header      string // more lines of the request's header
	cache       bool   // llm_proxy has one
	upstream    options
	measure     func(context.Context, *pass) (sample, error)
	proxiesOnly bool // the upstream itself is of no interest
	bars        []bar
}

// A bar is what the median of a figure, or of its ratio to reverse_proxy, must not exceed.
type bar struct {
	figure   figure
	limit    float64
	absolute bool
}

const (
	kilobyte = 1024
	megabyte = 1024 * kilobyte
	// held is how many streams are open at once when memory is measured.
	held = 1000
)

// scenarios is all of them, in the order in which they run.
func scenarios() []scenario {
	p99 := bar{figure: latency99, limit: 1.1}
	cpu := func(limit float64) bar { return bar{figure: cpuPerRequest, limit: limit} }
	return []scenario{
		whole("1k-1", kilobyte, 1, p99),
		whole("1k-16", kilobyte, 16, cpu(0.85), p99),
		whole("1k-256", kilobyte, 256, cpu(0.70), p99),
		whole("100k-1", 100*kilobyte, 1, p99),
		whole("100k-16", 100*kilobyte, 16, cpu(0.90), p99),
		whole("100k-256", 100*kilobyte, 256, cpu(0.90), p99),
		{
			name: "stream-full", title: "streams of 200 events at full speed, 16 connections",
			connections: 16, size: kilobyte, stream: true,
			upstream: options{tokens: 200}, measure: busy,
			bars: []bar{{figure: cpuPerEvent, limit: 1.15}, p99},
		},
		{
			name: "stream-10ms", title: "500 streams of 200 events, one every 10 ms",
			connections: 500, size: kilobyte, stream: true,
			upstream: options{tokens: 200, interval: 10 * time.Millisecond}, measure: pacedStreams,
			bars: []bar{{figure: cpuPerEvent, limit: 1.0}, {figure: gap99, limit: 1.1}},
		},
		{
			name: "hit-1", title: "1 KB answers from the cache, 1 connection",
			connections: 1, size: kilobyte, cache: true,
			upstream: options{bytes: kilobyte}, measure: hits,
			bars: []bar{{figure: latency50, limit: 0.1, absolute: true}},
		},
		{
			name: "hit-16", title: "1 KB answers from the cache, 16 connections",
			connections: 16, size: kilobyte, cache: true,
			upstream: options{bytes: kilobyte}, measure: hits,
			bars: []bar{cpu(0.5)},
		},
		{
			name: "hit-stream", title: "streams of 200 events from the cache, 16 connections",
			connections: 16, size: kilobyte, stream: true, cache: true,
			upstream: options{tokens: 200}, measure: hits,
			bars: []bar{{figure: cpuPerEvent, limit: 0.5}},
		},
		{
			name: "stream-memory", title: fmt.Sprintf("memory of %d open streams, an event a second", held),
			connections: held, size: kilobyte, stream: true, proxiesOnly: true,
			upstream: options{tokens: 6, interval: time.Second}, measure: heldStreams,
			bars: []bar{{figure: rssPerStream, limit: 64, absolute: true}},
		},
		{
			name: "body-memory", title: "memory of a 5 MB body, one request at a time",
			connections: 1, size: 5 * megabyte, proxiesOnly: true,
			upstream: options{bytes: kilobyte}, measure: largeBody,
			bars: []bar{{figure: bodyCopies, limit: 2, absolute: true}},
		},
	}
}

// whole is answers that are not streams, as large as their requests.
func whole(name string, size, connections int, bars ...bar) scenario {
	noun := "connections"
	if connections == 1 {
		noun = "connection"
	}
	return scenario{
		name: name, title: fmt.Sprintf("%d KB requests and answers, %d %s", size/kilobyte, connections, noun),
		connections: connections, size: size, upstream: options{bytes: size}, measure: busy, bars: bars,
	}
}

// request is what openai-python sends, with `messages` before `model`, but without its many X-Stainless headers:
// what reverse_proxy does with each header would flatter the other side.
func (sc *scenario) request(size int) []byte {
	begin, end := `{"messages":[{"role":"user","content":"`, `"}],"model":"m"}`
	if sc.stream {
		end = `"}],"model":"m","stream":true}`
	}
	const words = "The quick brown fox jumps over the lazy dog. "
	n := size - len(begin) - len(end)
	body := begin + strings.Repeat(words, n/len(words)+1)[:n] + end
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\n"+
		"Host: 127.0.0.1\r\n"+
		"Accept: application/json\r\n"+
		"Content-Type: application/json\r\n"+
		"User-Agent: OpenAI/Python 2.8.1\r\n"+
		"Authorization: Bearer sk-bench\r\n"+
		"%sContent-Length: %d\r\n\r\n%s", sc.header, len(body), body)
}
