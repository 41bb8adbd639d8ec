package fakellm

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScript(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai")
	next := func() int { return status(t, s, http.MethodPost, chatPath, chatBody) }
	s.Next(Status(501), Status(502))
	s.Next(Status(503))
	if code, _ := get(t, s, "/v1/models"); code != http.StatusOK {
		t.Errorf("listing models uses up a step of the script: %d", code)
	}
	got := []int{next(), next(), next(), next()}
	s.Always(Status(504))
	got = append(got, next(), next())
	s.Next(Text())
	got = append(got, next(), next())
	s.OnPath(chatPath, Status(505))
	got = append(got, next())
	if want := []int{501, 502, 503, 200, 504, 504, 200, 504, 505}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.OnPath("/v1/models", Unauthorized())
	if code, _ := get(t, s, "/v1/models"); code != http.StatusUnauthorized {
		t.Errorf("the list of models: %d", code)
	}
	s.OnPath("/v1/models", Text().CutAfter(9))
	if _, body := get(t, s, "/v1/models"); body != `{"object"` {
		t.Errorf("the list of models, cut: %s", body)
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	s := Start(t, "ollama")
	get(t, s, "/api/version")
	post(t, s, "/api/show", `{"model":"tiny"}`)
	post(t, s, chatPath+"?a=b", chatBody)
	post(t, s, "/v1/files", `{}`)
	type seen struct{ method, path, query, body string }
	list := func(all []Request) (out []seen) {
		for _, r := range all {
			r.WaitDone(t)
			out = append(out, seen{r.Method, r.Path, r.Query, string(r.Body)})
			if "http://"+r.Host != s.URL() || r.Header.Get("User-Agent") == "" {
				t.Errorf("host %q, header %v", r.Host, r.Header)
			}
		}
		return out
	}
	want := []seen{{"POST", chatPath, "a=b", chatBody}, {"POST", "/v1/files", "", "{}"}}
	if diff := cmp.Diff(want, list(s.Wait(t, 2)), cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	want = []seen{{"GET", "/api/version", "", ""}, {"POST", "/api/show", "", `{"model":"tiny"}`}}
	if diff := cmp.Diff(want, list(s.Probes()), cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("probes (-want +got):\n%s", diff)
	}
}

// No request is refused while the slots are taken: requests wait, and are served one by one.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ollama", "llamacpp"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind, Slots(1))
			release := make(chan struct{})
			s.Always(Text("a").Hold(release))
			codes := make(chan int)
			for range 3 {
				go func() { codes <- status(t, s, http.MethodPost, chatPath, streamBody) }()
			}
			if s.Wait(t, 3); s.InFlight() != 3 {
				t.Errorf("%d in flight", s.InFlight())
			}
			if kind == "llamacpp" {
				if code, _ := get(t, s, "/slots?fail_on_no_slot=1"); code != http.StatusServiceUnavailable {
					t.Errorf("slots: %d", code)
				}
				if _, body := get(t, s, "/metrics"); !strings.Contains(body, "requests_deferred 2\n") {
					t.Errorf("metrics: %s", body)
				}
			}
			close(release)
			for range 3 {
				if code := <-codes; code != http.StatusOK {
					t.Errorf("got %d", code)
				}
			}
			if s.WaitIdle(t); s.MaxInFlight() != 3 || s.InFlight() != 0 {
				t.Errorf("%d in flight, at most %d", s.InFlight(), s.MaxInFlight())
			}
		})
	}
}

// vLLM sends status 200 before the request has a slot.
func TestSlotsEarlyHeaders(t *testing.T) {
	t.Parallel()
	s := Start(t, "vllm", Slots(1))
	release := make(chan struct{})
	s.Next(Text().HoldAfter(1, release))
	first := post(t, s, chatPath, streamBody)
	rest := bufio.NewReader(first.Body)
	firstEvent(t, rest) // it has the slot
	first.Body = io.NopCloser(rest)
	second := post(t, s, chatPath, streamBody) // returns after status and headers were sent
	if second.StatusCode != http.StatusOK || s.InFlight() != 2 {
		t.Errorf("got %d with %d in flight", second.StatusCode, s.InFlight())
	}
	close(release)
	for _, resp := range []*http.Response{first, second} {
		if got := outline(resp); !strings.HasSuffix(got, "fd eof") {
			t.Errorf("got %q", got)
		}
	}
}

func TestSetLoading(t *testing.T) {
	t.Parallel()
	llama := Start(t, "llamacpp")
	llama.SetLoading(true)
	for _, path := range []string{"/health", "/v1/models", "/nothing"} {
		if code, body := get(t, llama, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "Loading model") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	llama.SetLoading(false)
	if code, _ := get(t, llama, "/health"); code != http.StatusOK {
		t.Errorf("loaded: %d", code)
	}

	ollama := Start(t, "ollama")
	ollama.SetLoading(true)
	if code, _ := get(t, ollama, "/api/version"); code != http.StatusOK {
		t.Errorf("version: %d", code)
	}
	over := make(chan int, 2)
	go func() { over <- status(t, ollama, http.MethodGet, "/api/ps", "") }()
	go func() { over <- status(t, ollama, http.MethodPost, chatPath, chatBody) }()
	ollama.Wait(t, 1)
	select {
	case code := <-over:
		t.Errorf("answered %d while loading", code)
	default:
	}
	ollama.SetLoading(false)
	for range 2 {
		if code := <-over; code != http.StatusOK {
			t.Errorf("got %d", code)
		}
	}
}

// Compatible services have OpenAI's API below any path, the other kinds only at the root.
func TestPrefix(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind   string
		status int
	}{{"openai", 200}, {"vllm", 404}} {
		s := Start(t, tt.kind)
		if got := post(t, s, "/openai/v1/chat/completions", chatBody).StatusCode; got != tt.status {
			t.Errorf("%s: got %d", tt.kind, got)
		}
	}
}

// clock records when flushes happen.
type clock struct {
	*httptest.ResponseRecorder
	begin time.Time
	at    []time.Duration
}

func (c *clock) Flush() {
	c.at = append(c.at, time.Since(c.begin))
	c.ResponseRecorder.Flush()
}

// The timing of the script is kept exactly.
func TestTiming(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct {
		name   string
		answer Answer
		at     []time.Duration // headers, a, b, c, finish, [DONE], end
	}{
		{"none", Text("a", "b", "c"), []time.Duration{0, 0, 0, 0, 0, 0, 0}},
		{"delay", Text("a", "b", "c").Delay(2 * s), []time.Duration{2 * s, 2 * s, 2 * s, 2 * s, 2 * s, 2 * s, 2 * s}},
		{"first", Text("a", "b", "c").DelayFirst(3 * s), []time.Duration{0, 3 * s, 3 * s, 3 * s, 3 * s, 3 * s, 3 * s}},
		{"interval", Text("a", "b", "c").Delay(s).Interval(5 * s), []time.Duration{s, s, 6 * s, 11 * s, 11 * s, 11 * s, 11 * s}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := New("llamacpp")
				server.Always(tt.answer)
				w := &clock{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
				server.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(streamBody)))
				got := slices.Delete(w.at, 1, 2) // the role is flushed with the first token
				if diff := cmp.Diff(tt.at, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A kind can be recognized by its endpoints.
func TestRecognizable(t *testing.T) {
	t.Parallel()
	has := map[string][]string{
		"openai":    {"/v1/models", "/v1/models/a/b:c"},
		"ollama":    {"/", "/api/version", "/api/tags", "/api/ps", "/v1/models", "/v1/models/a/b:c"},
		"vllm":      {"/health", "/ping", "/version", "/load", "/metrics", "/v1/models"},
		"llamacpp":  {"/health", "/v1/health", "/props", "/slots", "/metrics", "/v1/models"},
		"anthropic": {"/v1/models", "/v1/models/a/b:c"},
	}
	every := []string{
		"/", "/api/version", "/api/tags", "/api/ps", "/health", "/ping", "/version", "/load", "/metrics", "/v1/health", "/props", "/slots",
		"/v1/models", "/v1/models/a/b:c",
	}
	words := map[string]string{
		"openai": "Invalid URL", "ollama": "404 page not found", "vllm": `{"detail":"Not Found"}`, "llamacpp": "File Not Found", "anthropic": "Not found",
	}
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind, Models("a/b:c"))
			for _, path := range every {
				code, body := get(t, s, path)
				switch {
				case slices.Contains(has[kind], path):
					if code != http.StatusOK {
						t.Errorf("%s: %d %s", path, code, body)
					}
				case code != http.StatusNotFound || !strings.Contains(body, words[kind]):
					t.Errorf("%s, which does not exist: %d %s", path, code, body)
				}
			}
			if _, body := get(t, s, "/v1/models"); !strings.Contains(body, `"id":"a/b:c"`) {
				t.Errorf("models: %s", body)
			}
		})
	}
}
