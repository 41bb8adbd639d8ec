// Package fakellm is a scripted upstream for tests and benchmarks. A Server imitates one kind of real server (OpenAI, Ollama,
// vLLM, llama.cpp) over a real socket and fails as its script says: slow, refusing, cut off, silent, malformed.
//
// It never generates: an answer is the script's tokens in the format of the imitated server, whatever the request asks. It
// keeps the requests it receives, so that a test can inspect them.
//
// The formats come from real servers. The package's tests compare those of llama-server, Ollama and vLLM with the captures in
// testdata; those of OpenAI follow its published specification. To imitate another server, describe it as a kind in a file of
// its own, as vllm.go does, and list it in kinds.
//
// It imports no other package of this project; the tests of any package may import it.
package fakellm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const maxBody = 64 << 20

// A Server imitates one kind of real server.
type Server struct {
	kind      *kind
	models    []string
	parents   map[string]string // of the models that are adapters
	slots     chan struct{}     // nil means unlimited
	memory    *memory           // nil means that all models are in memory
	canned    *canned           // the answers of a benchmark; nil otherwise
	ids       atomic.Int64
	generated atomic.Int64 // tokens sent
	// cacheTokens and preemptions are what vLLM says about its KV cache.
	cacheTokens int
	preemptions atomic.Int64
	script      script
	traffic     traffic
	listener    listener
}

// An Option configures a Server.
type Option func(*Server)

// Models sets the models that the server has. It refuses all others, except that llama-server answers any name with its only
// model. Without this option the server lists "tiny" and accepts any name.
func Models(names ...string) Option {
	return func(s *Server) { s.models = slices.Clone(names) }
}

// Adapters adds adapters (LoRA) of a model, which are listed as models.
func Adapters(parent string, names ...string) Option {
	return func(s *Server) {
		s.models = append(s.names(), names...)
		s.parents = map[string]string{}
		for _, name := range names {
			s.parents[name] = parent
		}
	}
}

// Slots lets n requests generate at once. The others wait in an unbounded queue, as they do at every local server; only vLLM
// sends the status and headers of a stream before its turn.
func Slots(n int) Option {
	return func(s *Server) { s.slots = make(chan struct{}, n) }
}

// CacheTokens sets the size of vLLM's KV cache in tokens, a multiple of 16. Without it, the server does not state one.
func CacheTokens(n int) Option {
	return func(s *Server) { s.cacheTokens = n }
}

// Router makes llama-server run in router mode: it has several models, keeps so many of them in memory at once, and loads one at the first
// request for it. To make space, it unloads a model without requests, and waits for one. SetLoading keeps loads from ending.
func Router(most int) Option {
	return func(s *Server) {
		s.memory = &memory{loading: s.script.loading, most: most, models: map[string]*loadedModel{}, changed: make(chan struct{})}
	}
}

// Loads returns the models that a server in router mode has loaded, in order.
func (s *Server) Loads() []string {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	return slices.Clone(s.memory.loads)
}

// Preempt makes vLLM count one more request that it interrupted because its KV cache was full.
func (s *Server) Preempt() { s.preemptions.Add(1) }

// Benchmark makes the server cheap: its answers to chat completions and embeddings are rendered once, and it keeps no requests.
func Benchmark(l Load) Option {
	return func(s *Server) { s.canned = &canned{load: l} }
}

// Kinds returns the names of the kinds that New accepts, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// New returns a server of one of the Kinds. It panics if the kind is unknown.
func New(kind string, opts ...Option) *Server {
	k := kinds[kind]
	if k == nil {
		panic("fakellm: unknown kind " + kind)
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

// names returns the models that the server lists.
func (s *Server) names() []string {
	if len(s.models) == 0 {
		return []string{"tiny"}
	}
	return s.models
}

// hasModel reports whether the server lists the model. As with Ollama, "tiny" and "tiny:latest" are the same model.
func (s *Server) hasModel(model string) bool {
	model = strings.TrimSuffix(model, ":latest")
	return slices.ContainsFunc(s.names(), func(name string) bool { return strings.TrimSuffix(name, ":latest") == model })
}

// slotCount returns the number of slots; an unlimited server reports one.
func (s *Server) slotCount() int { return max(1, cap(s.slots)) }

// load returns how many requests are generating and how many are waiting for a slot.
func (s *Server) load() (running, waiting int) {
	n := s.InFlight()
	if s.slots == nil {
		return n, 0
	}
	running = min(n, cap(s.slots))
	return running, n - running
}

// ServeHTTP answers as the imitated server would, or as the script says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := s.kind.path(r.URL.Path)
	if s.canned != nil && s.canned.answers(path) && r.Method == http.MethodPost {
		s.canned.serve(w, r, path)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	x := &exchange{server: s, kind: s.kind, r: r, path: path, id: s.ids.Add(1), body: body, render: s.kind.endpoints[path]}
	if x.idle = s.kind.idle != nil && s.kind.idle(path, body); x.idle {
		x.render = nil
	}
	seen := s.traffic.begin(x, s.canned == nil)
	defer s.traffic.end(seen)
	if err != nil { // the client left while sending, or the body is too large
		seen.state.canceled.Store(true)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if err := s.answer(x, newSender(x, w)); err != nil {
		seen.state.canceled.Store(!errors.Is(context.Cause(r.Context()), errClosed))
		panic(http.ErrAbortHandler) // otherwise net/http would end the body as if it were complete
	}
}

// answer decides what to answer and sends it. An error means that the client left before it had everything.
func (s *Server) answer(x *exchange, out *sender) error {
	if x.kind.intercept != nil {
		if rep, ok := x.kind.intercept(x, s.script.loading()); ok {
			return out.send(rep)
		}
	}
	scripted := s.script.assign(x)
	switch {
	case x.generates():
		return s.generate(x, out)
	case scripted && !x.answer.normal():
		return out.send(x.reply())
	case x.render != nil:
		return out.send(x.wrongMethod(http.MethodPost))
	}
	return out.send(x.probe())
}

// generate answers a request at one of the kind's endpoints, once it has a slot.
func (s *Server) generate(x *exchange, out *sender) error {
	refused := x.parse()
	if x.answer.normal() {
		x.answer.refusal = refused
	}
	if s.memory != nil && refused == accepted {
		end, err := s.memory.use(x.r.Context(), x.params.Model)
		if err != nil {
			return err
		}
		defer end()
	}
	if s.slots == nil {
		return out.send(x.reply())
	}
	if x.kind.earlyHeaders && x.params.Stream && x.answer.normal() {
		out.headers(x.reply())
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		return out.send(x.reply())
	case <-x.r.Context().Done():
		return x.r.Context().Err()
	}
}

// A listener serves a Server on a TCP address. A Server that is only used as a handler never opens it.
type listener struct {
	mu     sync.Mutex
	addr   string // kept while closed, so that Up finds it again
	http   *http.Server
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when http.Serve has returned
}

var errClosed = errors.New("the server was closed")

// Start returns a new server that listens on a loopback address of its own until the test ends.
func Start(tb testing.TB, kind string, opts ...Option) *Server {
	tb.Helper()
	s := New(kind, opts...)
	// While a server is down, the system may give its port to another program. A random address in 127.0.0.0/8 avoids that,
	// but only Linux has these addresses without configuration.
	own := fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	if s.listener.open(own, s) != nil {
		if err := s.listener.open("127.0.0.1:0", s); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(s.listener.close)
	return s
}

// URL returns the address without a path: "http://127.0.0.1:1234".
func (s *Server) URL() string { return "http://" + s.Addr() }

// Addr returns host and port.
func (s *Server) Addr() string {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return s.listener.addr
}

// Down closes all connections and refuses new ones, like a server that is switched off.
func (s *Server) Down() { s.listener.close() }

// Up listens on the same address again.
func (s *Server) Up(tb testing.TB) {
	tb.Helper()
	if err := s.listener.open(s.Addr(), s); err != nil {
		tb.Fatal(err)
	}
}

func (l *listener) open(addr string, h http.Handler) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.http != nil {
		return nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	l.addr, l.cancel, l.done = ln.Addr().String(), cancel, make(chan struct{})
	l.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(ln) // always returns an error: http.ErrServerClosed
	}(l.http, l.done)
	return nil
}

func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.http == nil {
		return
	}
	l.cancel(errClosed) // before closing, so that handlers can tell this from a client that left
	_ = l.http.Close()
	<-l.done
	l.http = nil
}
