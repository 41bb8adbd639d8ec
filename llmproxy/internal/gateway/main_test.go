package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/http1"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connectErrors translates dial errors as package llmproxy does.
type connectErrors struct{ *http1.Transport }

func (n connectErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := n.Transport.RoundTrip(req)
	var dial *http1.DialError
	if errors.As(err, &dial) {
		return nil, &upstream.ConnectError{Err: err}
	}
	return res, err
}

// A setup is a gateway on a real socket, or in a bubble.
type setup struct {
	t         testing.TB
	bubble    *bubble // nil for real sockets
	upstreams []*upstream.Upstream
	config    Config
	models    []router.Model // beside those that serve is given
	gateway   *Gateway
	server    *httptest.Server
	logged    bool // as if there was an access log
	mu        sync.Mutex
	records   []*exchange.Record
}

// up adds an upstream; change may set its timers and so on.
func (s *setup) up(name string, kind *upstream.Kind, change func(*upstream.Config), addresses ...string) {
	s.t.Helper()
	c := upstream.Config{Name: name, Kind: kind, Transport: s.transport()}
	for _, a := range addresses {
		base, err := upstream.OpenAI.ParseAddress(a)
		if err != nil {
			s.t.Fatal(err)
		}
		c.Bases = append(c.Bases, base)
	}
	if kind.ServiceBase != "" && len(addresses) == 0 {
		base, err := url.Parse(kind.ServiceBase)
		if err != nil {
			s.t.Fatal(err)
		}
		c.Bases = append(c.Bases, base)
	}
	if change != nil {
		change(&c)
	}
	s.upstreams = append(s.upstreams, upstream.New(c))
}

// fake starts a scripted upstream on a socket, or in the bubble, and returns its address as well.
func (s *setup) fake(kind string, opts ...fakellm.Option) (fake *fakellm.Server, address string) {
	s.t.Helper()
	if s.bubble != nil {
		return s.bubble.fake(s.t, kind, opts...)
	}
	fake = fakellm.Start(s.t, kind, opts...)
	return fake, fake.URL()
}

func (s *setup) transport() http.RoundTripper {
	if s.bubble != nil {
		return s.bubble.transport(s.t)
	}
	transport := connectErrors{&http1.Transport{}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// assemble makes the gateway with the models, each "name target…", with "|" between pools.
func (s *setup) assemble(models ...string) *Gateway {
	s.t.Helper()
	configured := s.models
	for _, m := range models {
		name, rest, _ := strings.Cut(m, " ")
		model := router.Model{Name: name}
		for pool := range strings.SplitSeq(rest, "|") {
			model.Pools = append(model.Pools, router.PoolConfig{Targets: strings.Fields(pool), Policy: router.First})
		}
		configured = append(configured, model)
	}
	var routes []*router.Upstream
	for _, u := range s.upstreams {
		routes = append(routes, u.Route)
	}
	table, err := router.Compile(routes, configured)
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.Upstreams, s.config.Models = s.upstreams, table
	s.gateway = New(s.config)
	s.t.Cleanup(s.gateway.Close)
	return s.gateway
}

// serve starts the gateway of the models on a socket, or in the bubble.
func (s *setup) serve(models ...string) *setup {
	s.t.Helper()
	g := s.assemble(models...)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		task, claim := g.Match(r)
		if claim != Ours { // the next handler answers everything
			http.Error(w, "next handler", http.StatusTeapot)
			return
		}
		rec := &exchange.Record{Logged: s.logged}
		defer func() {
			s.mu.Lock()
			s.records = append(s.records, rec)
			s.mu.Unlock()
		}()
		g.Serve(w, r, task, rec)
	})
	if s.bubble != nil {
		s.server = s.bubble.start(s.t, handler)
		return s
	}
	s.server = httptest.NewServer(handler)
	s.t.Cleanup(s.server.Close)
	return s
}

// record is the record of the last request, once it is closed.
func (s *setup) record() *exchange.Record {
	s.t.Helper()
	s.server.Close() // waits for the handlers
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		s.t.Fatal("nothing was recorded")
	}
	return s.records[len(s.records)-1]
}

// A reply is what a client saw.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // what reading the body ended with, if not its end
}

func (s *setup) post(path, body string, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.do(req)
}

// do may be called in any goroutine: without an answer the test has failed, and goes on.
func (s *setup) do(req *http.Request) reply {
	s.t.Helper()
	limit := patient
	if s.bubble != nil {
		limit = 24 * time.Hour // of no duration
	}
	ctx, cancel := context.WithTimeout(req.Context(), limit)
	defer cancel()
	res, err := s.server.Client().Do(req.WithContext(ctx))
	if err != nil {
		s.t.Error(err)
		return reply{err: err}
	}
	defer res.Body.Close()
	var body bytes.Buffer
	_, err = io.Copy(&body, res.Body)
	return reply{res.StatusCode, res.Header, body.String(), err}
}

// start posts a chat whose answer nobody waits for. Leave ends it from the client's side, and gives what the client got: an
// answer, if it is nil.
func (s *setup) start(body string) (leave func() error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		res, err := s.server.Client().Do(req)
		if err == nil {
			res.Body.Close()
		}
		gone <- err
	}()
	leave = sync.OnceValue(func() error {
		cancel()
		return <-gone
	})
	s.t.Cleanup(func() { leave() })
	return leave
}

func chat(model string, stream bool) string {
	if stream {
		return `{"messages":[{"role":"user","content":"Hi"}],"model":"` + model + `","stream":true}`
	}
	return `{"messages":[{"role":"user","content":"Hi"}],"model":"` + model + `"}`
}

// patient is how long something may take that must happen, on a machine that has other things to do.
const patient = 2 * time.Minute

// until waits for what another goroutine brings about and nobody can be told of.
func until(t testing.TB, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patient)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("it did not happen within %s", patient)
		}
	}
}
