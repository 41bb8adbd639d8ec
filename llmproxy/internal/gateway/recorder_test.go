package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A sluggish client takes what it is sent only when it is let.
type sluggish struct {
	*httptest.ResponseRecorder
	writing chan struct{} // closed when something is sent
	let     chan struct{}
	once    sync.Once
}

func newSluggish() *sluggish {
	return &sluggish{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), let: make(chan struct{})}
}

func (s *sluggish) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.writing) })
	<-s.let
	return s.ResponseRecorder.Write(p)
}

// leads sends a chat whose client is the sluggish one; wait returns when its handler has ended.
func (s *setup) leads(client http.ResponseWriter, stream bool) (wait func()) {
	r := httptest.NewRequest(http.MethodPost, s.server.URL+chatPath, strings.NewReader(chat("m", stream)))
	var handler sync.WaitGroup
	handler.Go(func() { s.server.Config.Handler.ServeHTTP(client, r) })
	return handler.Wait
}

// A client that reads nothing keeps neither the upstream waiting nor another client with the same request.
func TestASlowClientKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	for _, test := range []struct {
		name   string
		stream bool
		answer fakellm.Answer
	}{
		{"stream", true, fakellm.Text("Hello", " world").HoldAfter(1, gate)},
		{"whole", false, fakellm.Text("Hello", " world")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, fake := cached(t, nil)
			fake.Always(test.answer)
			slow := newSluggish()
			wait := s.leads(slow, test.stream)
			<-slow.writing
			if test.stream {
				how, rest, _ := s.begin(chat("m", true))
				close(gate)
				if got, err := io.ReadAll(rest); how != "coalesced" || err != nil || !strings.HasSuffix(string(got), "data: [DONE]\n\n") {
					t.Errorf("%q %v %s", how, err, got)
				}
			}
			fake.WaitIdle(t)
			until(t, func() bool { return s.config.Cache.Shared.Leaders.ClosedCount() > 0 })
			later := s.post(chatPath, chat("m", test.stream))
			if later.status != http.StatusOK || later.cache() != "hit" || !strings.Contains(later.body, "world") {
				t.Errorf("%d %q %s", later.status, later.cache(), later.body)
			}
			close(slow.let)
			wait()
			if diff := cmp.Diff(later.body, slow.Body.String()); diff != "" {
				t.Error(diff)
			}
			if n := len(fake.Requests()); n != 1 {
				t.Errorf("%d requests reached the upstream", n)
			}
		})
	}
}

// said is the text of a stream.
func said(t *testing.T, stream string) string {
	t.Helper()
	var all strings.Builder
	for _, found := range regexp.MustCompile(`"content":("[^"]*")`).FindAllStringSubmatch(stream, -1) {
		text, err := strconv.Unquote(found[1])
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	return all.String()
}

// An answer that is too long to be written down reaches a slow client whole.
func TestASlowClientGetsAllOfALongAnswer(t *testing.T) {
	t.Parallel()
	long := make([]string, 100)
	for i := range long {
		long[i] = strings.Repeat(string(rune('a'+i%26)), 1000)
	}
	long[0] = "Hello" // for begin
	for _, followed := range []bool{false, true} {
		s, fake := cached(t, func(c *answercache.Cache) { c.MaxEntry = 4000 })
		gate := make(chan struct{})
		fake.Always(fakellm.Text(long...).HoldAfter(1, gate))
		slow := newSluggish()
		wait := s.leads(slow, true)
		<-slow.writing
		follower := make(chan string, 1)
		if followed {
			how, rest, _ := s.begin(chat("m", true))
			if how != "coalesced" {
				t.Fatal(how)
			}
			go func() {
				got, err := io.ReadAll(rest)
				if err != nil {
					t.Error(err)
				}
				follower <- string(got)
			}()
		}
		close(gate)
		close(slow.let)
		wait()
		body := slow.Body.String()
		if got := said(t, body); got != strings.Join(long, "") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("followed %v: %d characters: %s", followed, len(got), body[max(0, len(body)-200):])
		}
		if followed {
			if got := <-follower; said(t, got) != strings.Join(long[1:], "") || !strings.HasSuffix(got, "data: [DONE]\n\n") { // begin has read the first event
				t.Errorf("the follower got %d characters: %s", len(said(t, got)), got[max(0, len(got)-200):])
			}
		}
		if n := s.config.Cache.Shared.Leaders.PendingBytes(); n != 0 {
			t.Errorf("%d bytes are still held", n)
		}
	}
}

// A bursting client panics when it is sent something, as handlers in front of this one might.
type bursting struct{ *httptest.ResponseRecorder }

func (bursting) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// A panic of what lies between here and the client ends its own request alone.
func TestAPanicOfTheClientsWriter(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	fake.Always(fakellm.Text("Hello"))
	func() {
		defer func() {
			if r := recover(); r != http.ErrAbortHandler {
				t.Errorf("recovered %v", r)
			}
		}()
		r := httptest.NewRequest(http.MethodPost, s.server.URL+chatPath, strings.NewReader(chat("m", true)))
		s.server.Config.Handler.ServeHTTP(bursting{httptest.NewRecorder()}, r)
	}()
	if n := s.config.Cache.Shared.Leaders.PendingBytes(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	if got := s.post(chatPath, chat("m", true)); got.status != http.StatusOK || !strings.Contains(got.body, "Hello") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
