package fakellm

import (
	"net/http"
	"slices"
	"sync/atomic"
)

// A Server speaks as one kind of real server does, and fails when its script says so.
type Server struct {
	kind     *kind
	models   []string
	slots    chan struct{} // nil: no limit
	canned   *canned       // the answers of a benchmark; nil otherwise
	ids      atomic.Int64
	decoded  atomic.Int64 // tokens that were generated
	script   script
	record   record
	flights  flights
	listener listener
}

// An Option is a trait of a Server.
type Option func(*Server)

// Models are the models that the server has. It refuses others, except llama-server, which answers as its first one whatever
// is asked. Without this option it lists "tiny", and answers for any name.
func Models(names ...string) Option {
	return func(s *Server) { s.models = slices.Clone(names) }
}

// Slots lets n requests generate at once; the others wait in line without a word, as none of the local servers bounds its queue
// (vLLM alone sends status and headers of a stream before that).
func Slots(n int) Option {
	return func(s *Server) { s.slots = make(chan struct{}, n) }
}

// Benchmark makes the server cheap: what it answers to chat completions is rendered once, and nothing is kept of requests.
func Benchmark(l Load) Option {
	return func(s *Server) { s.canned = &canned{load: l} }
}

// New makes a Server of a kind: "openai", "ollama", "vllm" or "llamacpp". It panics for another name.
func New(kind string, opts ...Option) *Server {
	k := kinds[kind]
	if k == nil {
		panic("fakellm: there is no kind " + kind)
	}
	s := &Server{kind: k}
	for _, o := range opts {
		o(s)
	}
	if s.canned != nil {
		s.canned.render(s)
	}
	return s
}

// names are the models that the server lists.
func (s *Server) names() []string {
	if len(s.models) == 0 {
		return []string{"tiny"}
	}
	return s.models
}

// ServeHTTP answers as the kind does, or as the script says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := s.kind.path(r.URL.Path)
	if s.canned != nil && path == chatPath && r.Method == http.MethodPost {
		s.canned.serve(w, r)
		return
	}
	body, err := readBody(w, r)
	seen := newRequest(r, path, body)
	defer close(seen.state.done) // last of all: whoever waited for it finds nothing in flight any more
	e := endpoints[path]
	generating := r.Method == http.MethodPost && slices.Contains(e.kinds, s.kind.name)
	if generating { // before it is recorded: whoever waited for the request finds it in flight
		s.flights.enter()
		defer s.flights.leave()
	}
	if s.canned == nil {
		s.record.add(seen)
	}
	if err != nil { // the client left while it was sending, or sent without end
		seen.state.canceled.Store(true)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	c := &call{s: s, kind: s.kind, r: r, path: path, id: s.ids.Add(1), body: body}
	if gone := s.answer(c, newPlayer(c, w), e, generating); gone != nil {
		seen.state.canceled.Store(!s.listener.closed(r.Context()))
		panic(http.ErrAbortHandler) // or net/http would end the body as if that was all
	}
}

// answer finds what to say and says it. The error is a client that left before all of it was said.
func (s *Server) answer(c *call, p *player, e endpoint, generating bool) error {
	if rep, ok := s.kind.forbid(c); ok {
		return p.play(rep)
	}
	if rep, ok := s.kind.load(c, s.script.loading()); ok {
		return p.play(rep)
	}
	scripted := s.script.find(c, generating)
	switch {
	case generating:
		return s.generate(c, p, e)
	case scripted && !c.answer.plain():
		return p.play(c.reply(e))
	case slices.Contains(e.kinds, s.kind.name):
		return p.play(s.kind.wrongMethod(c, http.MethodPost))
	}
	return p.play(s.kind.probe(c))
}

// generate answers at one of the endpoints that the script is for.
func (s *Server) generate(c *call, p *player, e endpoint) error {
	refused := c.parse()
	if c.answer.plain() {
		c.answer.refusal = refused
	}
	if s.slots == nil {
		return p.play(c.reply(e))
	}
	if s.kind.early && c.ask.Stream && c.answer.plain() {
		p.headers(c.reply(e))
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		return p.play(c.reply(e))
	case <-c.r.Context().Done():
		return c.r.Context().Err()
	}
}
