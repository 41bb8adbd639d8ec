package fakellm

import "sync"

// script is what a server is told to answer.
type script struct {
	mu     sync.Mutex
	next   []Answer
	always Answer
	paths  map[string]Answer
	load   chan struct{} // closed when loaded; nil when not loading
}

// Next scripts the answers to the next requests at generating endpoints, one each. After them come normal answers, or what
// Always said.
func (s *Server) Next(steps ...Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	s.script.next = append(s.script.next, steps...)
}

// Always is the answer to every request at a generating endpoint for which Next says nothing.
func (s *Server) Always(a Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	s.script.always = a
}

// OnPath is the answer to every request for this path ("/health", "/v1/models"), before Next and Always. An answer that only
// has timing or a fault gives those to what the path says anyway.
func (s *Server) OnPath(path string, a Answer) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	if s.script.paths == nil {
		s.script.paths = map[string]Answer{}
	}
	s.script.paths[path] = a
}

// SetLoading begins or ends the loading of a model. Meanwhile llama-server answers 503 at every path, Ollama holds requests
// that generate and GET /api/ps. For the other kinds it means nothing: vLLM does not listen while it loads, see Down.
func (s *Server) SetLoading(on bool) {
	s.script.mu.Lock()
	defer s.script.mu.Unlock()
	switch {
	case on && s.script.load == nil:
		s.script.load = make(chan struct{})
	case !on && s.script.load != nil:
		close(s.script.load)
		s.script.load = nil
	}
}

func (s *script) loading() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load
}

// find gives the call its answer, and tells whether its path has a script of its own.
func (s *script) find(c *call, generating bool) (scripted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, scripted := s.paths[c.path]
	switch {
	case scripted || !generating:
	case len(s.next) > 0:
		a, s.next = s.next[0], s.next[1:]
	default:
		a = s.always
	}
	c.answer = a.normal()
	return scripted
}
