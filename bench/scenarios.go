package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
)

// A scenario is one kind of load, and one section of the report. To add one, add it to scenarios.
type scenario struct {
	name        string // for -scenario and the results file
	title       string
	connections int
	size        int // of the request body in bytes
	stream      bool
	api         api
	header      string // more header lines of the request
	site        string // more directives of the site, for both proxies
	directives  string // more directives of llm_proxy
	kind        string // of its upstream; openai by default
	upstream    upstream
	measure     func(context.Context, *pass) (sample, error)
	proxiesOnly bool // the upstream itself is not measured
	bars        []bar
}

// An api is the API of the client, by the path of its requests.
type api string

const (
	openAI    api = "/v1/chat/completions"
	anthropic api = "/v1/messages"
	ollama    api = "/api/chat"
	responses api = "/v1/responses"
)

// A bar is a limit for the median of a figure's ratio to reverse_proxy, or of the figure itself.
type bar struct {
	figure   figure
	limit    float64
	absolute bool
}

const (
	kilobyte = 1024
	megabyte = 1024 * kilobyte

	openStreams = 1000 // when their memory is measured
)

// upstream is how the upstream answers.
type upstream struct {
	bytes    int // of the content of an answer that is not a stream
	tokens   int // of a stream
	interval time.Duration
}

// duration returns how long a stream takes.
func (u upstream) duration() time.Duration { return time.Duration(u.tokens) * u.interval }

// scenarios returns all scenarios in the order in which they run.
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
			upstream: upstream{tokens: 200}, measure: saturated,
			bars: []bar{{figure: cpuPerEvent, limit: 1.15}, p99},
		},
		{
			name: "stream-10ms", title: "500 streams of 200 events, one every 10 ms",
			connections: 500, size: kilobyte, stream: true,
			upstream: upstream{tokens: 200, interval: 10 * time.Millisecond}, measure: pacedStreams,
			bars: []bar{{figure: cpuPerEvent, limit: 1.0}, {figure: gap99, limit: 1.1}},
		},
		{
			name: "hit-1", title: "1 KB answers from the cache, 1 connection",
			connections: 1, size: kilobyte, directives: "cache",
			upstream: upstream{bytes: kilobyte}, measure: cacheHits,
			bars: []bar{{figure: latency50, limit: 0.1, absolute: true}},
		},
		{
			name: "hit-16", title: "1 KB answers from the cache, 16 connections",
			connections: 16, size: kilobyte, directives: "cache",
			upstream: upstream{bytes: kilobyte}, measure: cacheHits,
			bars: []bar{cpu(0.5)},
		},
		{
			name: "hit-stream", title: "streams of 200 events from the cache, 16 connections",
			connections: 16, size: kilobyte, stream: true, directives: "cache",
			upstream: upstream{tokens: 200}, measure: cacheHits,
			bars: []bar{{figure: cpuPerEvent, limit: 0.5}},
		},
		clientOf("anthropic-16", anthropic),
		clientOf("ollama-16", ollama),
		clientOf("responses-16", responses),
		{
			name: "stream-memory", title: fmt.Sprintf("memory of %d open streams, an event a second", openStreams),
			connections: openStreams, size: kilobyte, stream: true, proxiesOnly: true,
			upstream: upstream{tokens: 6, interval: time.Second}, measure: streamMemory,
			bars: []bar{{figure: rssPerStream, limit: 64, absolute: true}},
		},
		{
			name: "body-memory", title: "memory of a 5 MB body, one request at a time",
			connections: 1, size: 5 * megabyte, proxiesOnly: true,
			upstream: upstream{bytes: kilobyte}, measure: bodyMemory,
			bars: []bar{{figure: bodyCopies, limit: 2, absolute: true}},
		},
	}
}

// whole returns a scenario of answers that are not streams and as large as their requests.
func whole(name string, size, connections int, bars ...bar) scenario {
	noun := "connections"
	if connections == 1 {
		noun = "connection"
	}
	return scenario{
		name: name, title: fmt.Sprintf("%d KB requests and answers, %d %s", size/kilobyte, connections, noun),
		connections: connections, size: size, upstream: upstream{bytes: size}, measure: saturated, bars: bars,
	}
}

// clientOf returns a scenario of answers that are translated for a client of another API than the upstream's.
func clientOf(name string, a api) scenario {
	return scenario{
		name: name, title: fmt.Sprintf("1 KB requests to %s and answers, translated to OpenAI's API and back, 16 connections", a),
		connections: 16, size: kilobyte, upstream: upstream{bytes: kilobyte}, measure: translated(a),
		bars: []bar{{figure: translatedShare, limit: 1.15, absolute: true}}, kind: "deepseek", // which has chat only
	}
}

// request returns what openai-python sends, with `messages` before `model`, but without its many X-Stainless headers:
// reverse_proxy copies each of them, which would flatter llm_proxy.
func (sc *scenario) request(size int) []byte {
	begin, end := `{"messages":[{"role":"user","content":"`, `"}],"model":"m"}`
	switch {
	case sc.stream:
		end = `"}],"model":"m","stream":true}`
	case sc.api == anthropic:
		end = `"}],"model":"m","max_tokens":4096}`
	case sc.api == ollama:
		end = `"}],"model":"m","stream":false}`
	case sc.api == responses:
		begin, end = `{"input":"`, `","model":"m"}`
	}
	const words = "The quick brown fox jumps over the lazy dog. "
	n := size - len(begin) - len(end)
	body := begin + strings.Repeat(words, n/len(words)+1)[:n] + end
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\n"+
		"Host: 127.0.0.1\r\n"+
		"Accept: application/json\r\n"+
		"Content-Type: application/json\r\n"+
		"User-Agent: OpenAI/Python 2.8.1\r\n"+
		"Authorization: Bearer sk-bench\r\n"+
		"%sContent-Length: %d\r\n\r\n%s", cmp.Or(sc.api, openAI), sc.header, len(body), body)
}
