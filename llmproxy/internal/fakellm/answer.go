package fakellm

import (
	"net/http"
	"slices"
	"time"
)

// An Answer is one step of a script. The zero Answer is the normal one. The methods return a changed copy, so that steps
// are written in one line: Text("a", "b").Interval(time.Second).CutAfter(1).
type Answer struct {
	tokens []string
	finish string
	usage  usage
	image  int

	refusal refusal
	status  int
	inside  bool // OpenRouter: the error is inside a 200
	garbage bool
	raw     *rawAnswer
	events  []string
	header  []string

	timing timing
	fault  fault
	after  int

	roleFirst, noFinish, noDone bool
	comments, batch, pieces     int
}

type usage struct{ input, output, cached int }

type rawAnswer struct {
	status int
	header http.Header
	body   []byte
}

// timing says when the parts of an answer leave.
type timing struct {
	delay, first, interval, pings time.Duration
	hold                          <-chan struct{} // before the headers
	gate                          <-chan struct{} // after gateAfter tokens
	gateAfter                     int
}

// A fault is how an answer goes wrong under way.
type fault uint8

const (
	noFault fault = iota
	errorEvent
	cut
	drop
	reset
	stall
)

// Text is the normal answer, as a stream or as JSON, whichever is asked for. Every token is one event of a stream.
func Text(tokens ...string) Answer { return Answer{tokens: tokens} }

// Status refuses with this status, in the shape of the kind's errors. Header is pairs of name and value.
func Status(code int, header ...string) Answer { return Answer{status: code}.With(header...) }

// Raw answers with exactly this. A body of type text/event-stream leaves event by event, so that faults and timing apply.
func Raw(status int, header http.Header, body []byte) Answer {
	return Answer{raw: &rawAnswer{status, header, body}}
}

// RawEvents is an event stream of exactly these events. The blank line that ends an event is added where it is missing.
func RawEvents(events ...string) Answer { return Answer{events: append([]string{}, events...)} }

// Garbage is a 200 whose content is no JSON: a broken event in a stream, a page of HTML otherwise.
func Garbage() Answer { return Answer{garbage: true} }

// ErrorInside200 fails as OpenRouter does: an error object where the answer should be, under status 200.
func ErrorInside200() Answer { return Answer{inside: true} }

// With sets headers of the answer, as pairs of name and value. An empty value takes a header away.
func (a Answer) With(header ...string) Answer {
	if len(header)%2 != 0 {
		panic("fakellm: headers come as pairs of name and value")
	}
	a.header = append(slices.Clip(a.header), header...)
	return a
}

// Finish is the finish_reason, "stop" if not set.
func (a Answer) Finish(reason string) Answer { a.finish = reason; return a }

// Usage is the token counts told; without it the prompt has 12, of which none was cached, and the answer its tokens and one more.
func (a Answer) Usage(input, output, cached int) Answer {
	a.usage = usage{input, output, cached}
	return a
}

// Image makes the image of an images answer this many bytes of base64, in one line.
func (a Answer) Image(bytes int) Answer { a.image = bytes; return a }

// Delay waits before the headers leave, as a server does that loads a model or has no place.
func (a Answer) Delay(d time.Duration) Answer { a.timing.delay = d; return a }

// Hold waits for the channel to be closed before the headers leave.
func (a Answer) Hold(release <-chan struct{}) Answer { a.timing.hold = release; return a }

// DelayFirst sends the headers and waits before the first event, as vLLM does while a request is in its queue.
func (a Answer) DelayFirst(d time.Duration) Answer { a.timing.first = d; return a }

// Interval waits between two tokens. The schedule is absolute: what one token lost is caught up by the next.
func (a Answer) Interval(d time.Duration) Answer { a.timing.interval = d; return a }

// HoldAfter sends n tokens and waits for the channel to be closed before it goes on.
func (a Answer) HoldAfter(n int, release <-chan struct{}) Answer {
	a.timing.gateAfter, a.timing.gate = n, release
	return a
}

// Pings sends a comment this often while DelayFirst, HoldAfter or StallAfter keep a stream silent (llama-server: every 30 s).
func (a Answer) Pings(every time.Duration) Answer { a.timing.pings = every; return a }

// Comments sends this many comments before the first event; before a JSON answer, blank lines, as DeepSeek does while queueing.
func (a Answer) Comments(n int) Answer { a.comments = n; return a }

// RoleFirst sends what opens a stream without saying anything (role chunk, response.created) on its own, also where the kind
// puts the role into the first token's chunk, and also before a fault after 0 tokens.
func (a Answer) RoleFirst() Answer { a.roleFirst = true; return a }

// NoFinish leaves out the event with the finish_reason; [DONE] comes.
func (a Answer) NoFinish() Answer { a.noFinish = true; return a }

// NoDone leaves out [DONE]; the finish_reason comes.
func (a Answer) NoDone() Answer { a.noDone = true; return a }

// Batch flushes once every n events instead of after each.
func (a Answer) Batch(n int) Answer { a.batch = n; return a }

// Pieces sends a stream in pieces of n bytes with a flush after each, so that reads end anywhere in an event.
func (a Answer) Pieces(n int) Answer { a.pieces = n; return a }

// ErrorEventAfter tells of a failure in the stream after n tokens, as the kind does it. After 0 it is the first thing under
// status 200. Ollama says nothing: it ends the stream without finish_reason and [DONE]. An answer that is not a stream becomes
// InternalError.
//
// Of all faults: n counts tokens, in an answer that is not a stream, bytes; with an n of all or more, everything was sent but
// the end. After 0 tokens nothing was sent but the headers, unless RoleFirst.
func (a Answer) ErrorEventAfter(n int) Answer { return a.failing(errorEvent, n) }

// CutAfter ends the body cleanly after n tokens, as if that was all.
func (a Answer) CutAfter(n int) Answer { return a.failing(cut, n) }

// DropAfter closes the connection after n tokens, in the middle of the next event, as a server does that is killed.
func (a Answer) DropAfter(n int) Answer { return a.failing(drop, n) }

// ResetAfter is DropAfter with a TCP reset.
func (a Answer) ResetAfter(n int) Answer { return a.failing(reset, n) }

// StallAfter says nothing more after n tokens until the client leaves.
func (a Answer) StallAfter(n int) Answer { return a.failing(stall, n) }

func (a Answer) failing(f fault, n int) Answer { a.fault, a.after = f, n; return a }

// text is the answer as one string.
func (a *Answer) text() string {
	n := 0
	for _, t := range a.tokens {
		n += len(t)
	}
	b := make([]byte, 0, n)
	for _, t := range a.tokens {
		b = append(b, t...)
	}
	return string(b)
}

// normal fills in what the script left open.
func (a Answer) normal() Answer {
	if a.tokens == nil {
		a.tokens = defaultTokens
	}
	if a.finish == "" {
		a.finish = "stop"
	}
	if a.usage == (usage{}) {
		a.usage = usage{input: 12, output: len(a.tokens) + 1}
	}
	if a.image == 0 {
		a.image = 64
	}
	return a
}

// The tokens of the model that the captures were made with.
var defaultTokens = []string{"Hello", " from", " the tiny", " test", " model", "."}
