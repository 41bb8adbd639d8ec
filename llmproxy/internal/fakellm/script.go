package fakellm

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Answer is one step of a script. The zero Answer is the normal one. The methods return a modified copy, so that a step
// fits in one line: Text("a", "b").Interval(time.Second).CutAfter(1).
type Answer struct {
	// At most one of these replaces the normal content.
	refusal     refusal
	status      int
	errorInside bool
	garbage     bool
	raw         *rawAnswer
	events      []string

	thinking     []string
	tokens       []string
	calls        []toolCall
	finish       string
	stopSequence string
	usage        usage
	header       []string // pairs of name and value

	roleFirst, noFinish, noDone bool
	batch                       int

	timing  timing
	fault   fault
	after   int            // tokens, or bytes of an answer that is not a stream
	failure *failureReason // of response.failed
}

type failureReason struct{ code, message string }

type usage struct{ input, output, cached int }

type toolCall struct{ name, arguments string }

type rawAnswer struct {
	status int
	header http.Header
	body   []byte
}

// timing delays the parts of an answer.
type timing struct {
	delay, first, interval, pings time.Duration
	hold                          <-chan struct{} // before the headers
	deaf                          bool            // during hold
	gate                          <-chan struct{} // after gateAfter tokens
	gateAfter                     int
}

// A fault is the way in which an answer fails after it has begun.
type fault uint8

const (
	noFault fault = iota
	errorEvent
	cut
	drop
	reset
	stall
)

// A refusal is a reason to answer with an error. Each kind has its own error for it.
type refusal uint8

const (
	accepted refusal = iota
	busy
	loading
	unknownModel
	tooLong
	outputTooLong
	noTools
	internalError
	unauthorized
	rateLimited
	noQuota
	badJSON
	missingModel
	missingInput
	tokenInput
	wrongPath
	wrongMethod
)

// Text answers normally, as a stream or as JSON, whichever the request asks for. Every token is one event of a stream.
func Text(tokens ...string) Answer { return Answer{tokens: tokens} }

// Thinking begins an answer of chat or of the Responses API with reasoning. Its tokens count like those of the text that follows.
func (a Answer) Thinking(tokens ...string) Answer { a.thinking = tokens; return a }

// Call adds a call of a tool to an answer of chat or of the Responses API, after the text: Text().Call("get_weather", `{"city":"Paris"}`). A
// stream has some events of it that count like tokens. If the request has a custom tool of that name, the arguments are its input.
func (a Answer) Call(tool, arguments string) Answer {
	a.calls = append(slices.Clip(a.calls), toolCall{tool, arguments})
	return a
}

// Status refuses with this status, in the kind's error format. The headers are pairs of name and value.
func Status(code int, header ...string) Answer { return Answer{status: code}.With(header...) }

// Raw answers with exactly this. A body of type text/event-stream is sent event by event, so that faults and timing apply.
func Raw(status int, header http.Header, body []byte) Answer {
	return Answer{raw: &rawAnswer{status, header, body}}
}

// RawEvents answers with a stream of exactly these events. It adds the blank line that ends an event where it is missing.
func RawEvents(events ...string) Answer { return Answer{events: append([]string{}, events...)} }

// Garbage answers 200 with something that is not JSON: a broken event in a stream, an HTML page otherwise.
func Garbage() Answer { return Answer{garbage: true} }

// ErrorInside200 fails as OpenRouter does: with status 200 and an error object instead of the answer.
func ErrorInside200() Answer { return Answer{errorInside: true} }

// Busy refuses because the server is overloaded: Ollama's and vLLM's full queue, OpenAI's 503. llama-server queues without
// limit; here it answers what it says to GET /slots?fail_on_no_slot=1.
func Busy() Answer { return Answer{refusal: busy} }

// Loading answers as a server that is starting. llama-server and OpenAI answer 503, Ollama is silent until the client leaves,
// and vLLM does not listen yet: its connection is reset (see also Server.Down).
func Loading() Answer { return Answer{refusal: loading} }

// UnknownModel refuses because the server does not have the model.
func UnknownModel() Answer { return Answer{refusal: unknownModel} }

// TooLong refuses a prompt that does not fit in the context window.
func TooLong() Answer { return Answer{refusal: tooLong} }

// OutputTooLong refuses a max_tokens that does not fit in the context window after the prompt. Only OpenAI and vLLM do that; the
// others answer normally, with finish_reason "length".
func OutputTooLong() Answer { return Answer{refusal: outputTooLong} }

// NoTools refuses tools.
func NoTools() Answer { return Answer{refusal: noTools} }

// InternalError is the kind's status 500.
func InternalError() Answer { return Answer{refusal: internalError} }

// Unauthorized refuses the API key.
func Unauthorized() Answer { return Answer{refusal: unauthorized} }

// RateLimited is OpenAI's 429 with Retry-After: 1, for every kind: a local server has no rate limit, but a proxy in front of it may.
func RateLimited() Answer { return Answer{refusal: rateLimited} }

// NoQuota is OpenAI's 429 insufficient_quota, for every kind.
func NoQuota() Answer { return Answer{refusal: noQuota} }

// With sets response headers, given as pairs of name and value. An empty value removes a header.
func (a Answer) With(header ...string) Answer {
	if len(header)%2 != 0 {
		panic("fakellm: headers must be pairs of name and value")
	}
	a.header = append(slices.Clip(a.header), header...)
	return a
}

// Finish sets the finish_reason; default "stop", or "tool_calls" if there are any.
func (a Answer) Finish(reason string) Answer { a.finish = reason; return a }

// StopSequence says which stop sequence ended the answer, where a server says so.
func (a Answer) StopSequence(text string) Answer { a.stopSequence = text; return a }

// Usage sets the reported token counts; default 12 input tokens, none of them cached, and one output token more than the
// answer has.
func (a Answer) Usage(input, output, cached int) Answer {
	a.usage = usage{input, output, cached}
	return a
}

// Delay waits before the headers, as a server that is loading a model or has no free slot.
func (a Answer) Delay(d time.Duration) Answer { a.timing.delay = d; return a }

// Hold waits before the headers until the channel is closed.
func (a Answer) Hold(release <-chan struct{}) Answer { a.timing.hold = release; return a }

// HoldDeaf is Hold of a server that does not notice meanwhile that the client has left, like llama-server while it reads a prompt.
func (a Answer) HoldDeaf(release <-chan struct{}) Answer {
	a.timing.deaf = true
	return a.Hold(release)
}

// DelayFirst sends the headers and waits before the first event, as vLLM does while a request is in its queue.
func (a Answer) DelayFirst(d time.Duration) Answer { a.timing.first = d; return a }

// Interval spaces the tokens. The schedule is absolute: after a late token, the next one is on time again.
func (a Answer) Interval(d time.Duration) Answer { a.timing.interval = d; return a }

// HoldAfter waits after n tokens until the channel is closed.
func (a Answer) HoldAfter(n int, release <-chan struct{}) Answer {
	a.timing.gateAfter, a.timing.gate = n, release
	return a
}

// Pings sends a comment this often while DelayFirst, HoldAfter or StallAfter keep a stream silent. llama-server does so every
// 30 seconds.
func (a Answer) Pings(every time.Duration) Answer { a.timing.pings = every; return a }

// RoleFirst sends what opens a stream without content (role chunk, response.created) on its own, even for a kind that puts the
// role into the first token's chunk, and even before a fault after 0 tokens.
func (a Answer) RoleFirst() Answer { a.roleFirst = true; return a }

// NoFinish omits the event with the finish_reason, but not [DONE].
func (a Answer) NoFinish() Answer { a.noFinish = true; return a }

// NoDone omits [DONE], but not the finish_reason.
func (a Answer) NoDone() Answer { a.noDone = true; return a }

// Batch flushes after every n events instead of after each.
func (a Answer) Batch(n int) Answer { a.batch = n; return a }

// ErrorEventAfter reports a failure in the stream after n tokens, in the kind's format. After 0 tokens it is the first event of
// a 200. Ollama's OpenAI API reports nothing: it ends the stream without finish_reason and [DONE]. An answer that is not a stream becomes
// InternalError.
//
// For all faults, n counts the tokens of a stream, or the bytes of any other answer; if n is that many or more, only the end is
// missing. After 0 tokens only the headers were sent, except with RoleFirst.
func (a Answer) ErrorEventAfter(n int) Answer { return a.failing(errorEvent, n) }

// FailAfter is ErrorEventAfter, but a stream of the Responses API ends with response.failed, which says why.
func (a Answer) FailAfter(n int, code, message string) Answer {
	a.failure = &failureReason{code, message}
	return a.failing(errorEvent, n)
}

// CutAfter ends the body cleanly after n tokens, as if it were complete.
func (a Answer) CutAfter(n int) Answer { return a.failing(cut, n) }

// DropAfter closes the connection after n tokens, in the middle of the next event, as when a server is killed.
func (a Answer) DropAfter(n int) Answer { return a.failing(drop, n) }

// ResetAfter is DropAfter with a TCP reset.
func (a Answer) ResetAfter(n int) Answer { return a.failing(reset, n) }

// StallAfter sends nothing more after n tokens until the client leaves.
func (a Answer) StallAfter(n int) Answer { return a.failing(stall, n) }

func (a Answer) failing(f fault, n int) Answer { a.fault, a.after = f, n; return a }

// normal reports whether the answer has the normal content.
func (a *Answer) normal() bool {
	return a.refusal == accepted && a.status == 0 && !a.errorInside && !a.garbage && a.raw == nil && a.events == nil
}

func (a *Answer) text() string { return strings.Join(a.tokens, "") }

// withDefaults fills in what the script left open.
func (a Answer) withDefaults() Answer {
	if a.tokens == nil && a.calls == nil {
		a.tokens = defaultTokens
	}
	if a.finish == "" {
		a.finish = "stop"
		if len(a.calls) > 0 {
			a.finish = "tool_calls"
		}
	}
	if a.usage == (usage{}) {
		a.usage = usage{input: 12, output: len(a.thinking) + len(a.tokens) + len(a.calls) + 1}
	}
	return a
}

// defaultTokens are those of the model with which the captures were made.
var defaultTokens = []string{"Hello", " from", " the tiny", " test", " model", "."}

// pieces splits a call's arguments, as servers that stream them do.
func (c toolCall) pieces() [2]string {
	half := len(c.arguments) / 2
	return [2]string{c.arguments[:half], c.arguments[half:]}
}

// A script says what a server answers.
type script struct {
	mu     sync.Mutex
	next   []Answer
	always Answer
	steer  func(request []byte) Answer // replaces always; nil unless the server is Steered
	paths  map[string]Answer
	loaded chan struct{} // closed when loading ends; nil while no model is loading
}

// Next sets the answers to the next requests at endpoints that generate, one each. They are followed by the answer that Always
// set, or by normal answers.
func (s *Server) Next(steps ...Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	s.script.next = append(s.script.next, steps...)
}

// Always sets the answer to every request at an endpoint that generates for which Next has none.
func (s *Server) Always(a Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	s.script.always = a
}

// OnPath sets the answer to every request for this path ("/health", "/v1/models"); it takes precedence over Next and Always. An
// answer with nothing but timing or a fault applies these to the path's own answer.
func (s *Server) OnPath(path string, a Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	if s.script.paths == nil {
		s.script.paths = map[string]Answer{}
	}
	s.script.paths[path] = a
}

// SetLoading begins or ends the loading of a model. Meanwhile llama-server answers 503 at every path, and Ollama holds back
// requests that generate and GET /api/ps. It has no effect on the other kinds: vLLM does not listen while it loads, see Down.
func (s *Server) SetLoading(on bool) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	switch {
	case on && s.script.loaded == nil:
		s.script.loaded = make(chan struct{})
	case !on && s.script.loaded != nil:
		close(s.script.loaded)
		s.script.loaded = nil
	}
}

// loading returns a channel that is closed when loading ends, or nil while no model is loading.
func (s *script) loading() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded
}

// assign sets the exchange's answer and reports whether it comes from OnPath.
func (s *script) assign(x *exchange) (onPath bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, onPath := s.paths[x.path]
	switch {
	case onPath || !x.generates():
	case len(s.next) > 0:
		a, s.next = s.next[0], s.next[1:]
	case s.steer != nil:
		a = s.steer(x.body)
	default:
		a = s.always
	}
	x.answer = a.withDefaults()
	return onPath
}
