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
	prompt      prompt
	stream      bool
	api         api
	header      string // more header lines of the request
	vary        vary
	model       string // that is asked for; m by default
	models      string // the models of llm_proxy; m by default
	directives  string // more directives of llm_proxy
	kind        string // of its upstream; openai by default
	options     string // more directives of its upstream
	rival       string // the handler that llm_proxy is compared with; reverse_proxy by default
	observed    bool   // both proxies write an access log and have metrics, which are read every second
	upstream    upstream
	measure     func(context.Context, *pass) (sample, error)
	proxiesOnly bool // the upstream itself is not measured
	bars        []bar
}

// An api is the API of the client, by the path of its requests.
type api string

const (
	openAI     api = "/v1/chat/completions"
	embeddings api = "/v1/embeddings"
	anthropic  api = "/v1/messages"
	ollama     api = "/api/chat"
	responses  api = "/v1/responses"
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

	openStreams = 1000   // when their memory is measured
	manyModels  = 10_000 // see numberedModel
)

// upstream is how the upstream answers.
type upstream struct {
	bytes      int // of the content of an answer that is not a stream
	tokens     int // of a stream
	tokenBytes int // of a token; 0 means a short word
	interval   time.Duration
	vectors    int // of an answer with embeddings
	dimensions int
}

// duration returns how long a stream takes.
func (u upstream) duration() time.Duration { return time.Duration(u.tokens) * u.interval }

// scenarios returns all scenarios in the order in which they run.
func scenarios() []scenario {
	p99 := bar{figure: latency99, limit: 1.1}
	cpu := func(limit float64) bar { return bar{figure: cpuPerRequest, limit: limit} }
	memoryOfStreams := func(limit float64) scenario {
		return scenario{
			name: "stream-memory", title: fmt.Sprintf("memory of %d open streams, an event a second", openStreams),
			connections: openStreams, size: kilobyte, stream: true, proxiesOnly: true,
			upstream: upstream{tokens: 6, interval: time.Second}, measure: streamMemory,
			bars: []bar{{figure: rssPerStream, limit: limit, absolute: true}},
		}
	}
	burst := scenario{
		name: "burst", title: "memory of 8 bodies of 30 MB at once",
		connections: 8, size: 30 * megabyte, proxiesOnly: true,
		upstream: upstream{bytes: kilobyte}, measure: burstMemory,
		bars: []bar{{figure: peakGrowth, limit: 300, absolute: true}},
	}
	return []scenario{
		whole("1k-1", kilobyte, 1, p99),
		whole("1k-16", kilobyte, 16, cpu(0.60), p99),
		whole("1k-256", kilobyte, 256, cpu(0.55), p99),
		whole("1k-2000", kilobyte, 2000, cpu(0.55)),
		whole("100k-1", 100*kilobyte, 1, p99),
		whole("100k-16", 100*kilobyte, 16, cpu(0.90), p99),
		whole("100k-256", 100*kilobyte, 256, cpu(0.90), p99),
		withEverything(whole("1k-16", kilobyte, 16, cpu(1.0))),
		withEverything(whole("100k-16", 100*kilobyte, 16, cpu(1.0))),
		whole("1k-32", kilobyte, 32),
		whole("16k-32", 16*kilobyte, 32),
		large("text-5m", "5 MB of text", 5*megabyte, text, cpu(1.0)),
		large("image-10m", "an image of 10 MB", 10*megabyte, image, cpu(1.0)),
		large("messages-126k", "126,000 short messages", 126_000*len(shortMessage), shortMessages, cpu(1.3)),
		withEverything(large("messages-126k", "126,000 short messages", 126_000*len(shortMessage), shortMessages, cpu(3.0))),
		{
			name: "answer-4m", title: "answers of 4.3 MB that are not streams, 1 connection",
			connections: 1, size: kilobyte,
			upstream: upstream{bytes: 4300 * kilobyte}, measure: saturated,
			bars: []bar{cpu(1.1)},
		},
		{
			name: "event-200k", title: "streams of one event of 200 KB, 1 connection",
			connections: 1, size: kilobyte, stream: true,
			upstream: upstream{tokens: 1, tokenBytes: 200 * kilobyte}, measure: saturated,
			bars: []bar{{figure: cpuPerEvent, limit: 1.1}},
		},
		{
			name: "embeddings-1000", title: "1,000 embeddings of 384 numbers, converted to base64, 1 connection",
			connections: 1, size: 32 * kilobyte, prompt: inputs(1000), api: embeddings,
			upstream: upstream{vectors: 1000, dimensions: 384}, measure: converted,
			bars: []bar{{figure: cpuPerRequest, limit: 10_000, absolute: true}},
		},
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
			bars: []bar{{figure: cpuPerEvent, limit: 0.92}, {figure: gap99, limit: 1.1}},
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
			name: "hit-respond", title: "1 KB answers from the cache compared with Caddy's respond instead of reverse_proxy, 16 connections",
			connections: 16, size: kilobyte, directives: "cache", rival: respond(kilobyte),
			upstream: upstream{bytes: kilobyte}, measure: saturated,
			bars: []bar{cpu(1.3)},
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
		memoryOfStreams(48),
		withEverything(memoryOfStreams(60)),
		{
			name: "body-memory", title: "memory of a 5 MB body, one request at a time",
			connections: 1, size: 5 * megabyte, proxiesOnly: true,
			upstream: upstream{bytes: kilobyte}, measure: bodyMemory,
			bars: []bar{{figure: bodyCopies, limit: 2, absolute: true}},
		},
		burst,
		withEverything(burst),
		{
			name: "models-10k", title: "memory after a request to each of 10,000 models, with the metrics read once",
			connections: 16, size: kilobyte, models: numberedModels(manyModels), model: numberedModel(0), vary: eachModel(manyModels), proxiesOnly: true,
			upstream: upstream{bytes: kilobyte}, measure: modelMemory,
			bars: []bar{{figure: rssScraped, limit: 110, absolute: true}},
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

// large returns a scenario of large requests with small answers.
func large(name, what string, size int, p prompt, bars ...bar) scenario {
	return scenario{
		name: name, title: fmt.Sprintf("requests with %s, 1 connection", what),
		connections: 1, size: size, prompt: p, upstream: upstream{bytes: kilobyte}, measure: saturated, bars: bars,
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

// withEverything returns the scenario with everything on that an operator is likely to use. No limit is ever reached, no rule matches,
// and no request repeats another: this measures what it costs to look.
func withEverything(sc scenario) scenario {
	sc.name, sc.title = "all-"+sc.name, sc.title+", with everything on"
	sc.observed, sc.vary = true, differ
	sc.options = `
			max_concurrent 4096
			queue 1024 1m`
	sc.models = `
		upstream spare openai http://` + upstreamAddr + `
		model m {
			@private llm content "(?i)customer|password|confidential"
			route @private spare/m
			route chat
		}
		model chat {
			to u/m
			fallback spare/m
		}`
	sc.directives = `
		key bench ` + secret + ` {
			rate 1G/m
			tokens 1000G/m
			concurrent 10000
			budget $1000000/month
		}
		price u/m 0.15 0.60
		price spare/m 0.15 0.60
		cache`
	return sc
}

// respond returns a handler that answers itself, with a JSON object of this size.
func respond(size int) string {
	begin, end := `{"content":"`, `"}`
	return "respond `" + begin + strings.Repeat("x", size-len(begin)-len(end)) + end + "`"
}

func numberedModels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\t\tmodel %[1]s u/%[1]s\n", numberedModel(i))
	}
	return b.String()
}

// secret is the API key of every request.
const secret = "sk-bench"

// request returns what openai-python sends, with `messages` before `model`, but without its many X-Stainless headers:
// reverse_proxy copies each of them, which would flatter llm_proxy.
func (sc *scenario) request(size int) []byte {
	body := sc.body(size)
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\n"+
		"Host: 127.0.0.1\r\n"+
		"Accept: application/json\r\n"+
		"Content-Type: application/json\r\n"+
		"User-Agent: OpenAI/Python 2.8.1\r\n"+
		"Authorization: Bearer "+secret+"\r\n"+
		"%sContent-Length: %d\r\n\r\n%s", cmp.Or(sc.api, openAI), sc.header, len(body), body)
}

func (sc *scenario) body(size int) string {
	fill, begin, end := sc.prompt, `{"messages":[`, `],"model":"`+cmp.Or(sc.model, "m")+`"`
	if fill == nil {
		fill = text
	}
	switch {
	case sc.stream:
		end += `,"stream":true`
	case sc.api == anthropic:
		end += `,"max_tokens":4096`
	case sc.api == ollama:
		end += `,"stream":false`
	case sc.api == responses:
		begin = `{"input":[`
	case sc.api == embeddings:
		begin = `{"input":[`
		end += `,"encoding_format":"base64"`
	}
	end += "}"
	return begin + fill(size-len(begin)-len(end)) + end
}
