package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// A lingering transport answers without having read the request, as net/http's does when a server answers early, and reads on
// when the request is over.
type lingering struct {
	fails  bool
	bodies []io.ReadCloser
	again  []func() (io.ReadCloser, error)
}

func (l *lingering) RoundTrip(req *http.Request) (*http.Response, error) {
	l.bodies, l.again = append(l.bodies, req.Body), append(l.again, req.GetBody)
	if l.fails {
		return nil, errors.New("connection reset")
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{}`))}, nil
}

// The body's memory is not another request's before a transport has let go of it, however the request ended.
func TestTransportReadsOnWhenTheRequestIsOver(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails %t", fails), func(t *testing.T) {
			guest := &lingering{fails: fails}
			serve := cheap(t, guest)
			synctest.Test(t, func(*testing.T) { // there are pauses between attempts
				for i := range 8 {
					body := `{"model":"m","x":"` + strings.Repeat(fmt.Sprint(i), 2000) + `"}`
					serve(strings.NewReader(body), int64(len(body)))
				}
			})
			for i, body := range guest.bodies {
				attempts := len(guest.bodies) / 8
				want := `{"model":"there","x":"` + strings.Repeat(fmt.Sprint(i/attempts), 2000) + `"}`
				got, err := io.ReadAll(body)
				if err != nil || string(got) != want {
					t.Errorf("attempt %d: read %.40q…, %v", i, got, err)
				}
				body.Close()
				late, err := guest.again[i]()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(late); err == nil && string(got) != want {
					t.Errorf("attempt %d: the body opened again is %.40q…, without an error", i, got)
				}
			}
		})
	}
}

// net/http's own transport, too, goes on for a while with sending a body whose answer has come already: the race detector sees to
// it that nobody writes there meanwhile.
func TestEarlyAnswerFromNetHTTP(t *testing.T) {
	const requests, size = 6, 900 << 10
	release, bodies := make(chan struct{}), make(chan []byte, requests)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		early := http.NewResponseController(w)
		if err := early.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header()["Content-Type"], w.Header()["Content-Length"] = []string{"application/json"}, []string{"2"}
		io.WriteString(w, "{}")
		early.Flush()
		<-release
		body, _ := io.ReadAll(r.Body) // the transport leaves off somewhere
		bodies <- body
	}))
	small := func(c net.Conn) { // so that most of a body waits on our side
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
		c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { small(c); return ctx }
	server.Start()
	defer server.Close()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
		if err == nil {
			small(c)
		}
		return c, err
	}}
	defer transport.CloseIdleConnections()
	serve := cheap(t, transport)
	for i := range requests {
		body := `{"model":"m","x":"` + strings.Repeat(fmt.Sprint(i), size) + `"}`
		if to := serve(strings.NewReader(body), int64(len(body))); to.status != http.StatusOK {
			t.Fatalf("status %d", to.status)
		}
	}
	close(release)
	for range requests {
		body := <-bodies
		begin := `{"model":"there","x":"`
		if len(body) <= len(begin) {
			t.Fatalf("no more than %q came", body)
		}
		digit := string(body[len(begin)])
		if want := begin + strings.Repeat(digit, size) + `"}`; !strings.HasPrefix(want, string(body)) {
			t.Errorf("the body that begins with %s holds another request's", digit)
		}
	}
}

// Where there is an access log, the facts about a request are still available after its end.
func TestSignalsBehindTheEnd(t *testing.T) {
	t.Parallel()
	for _, logged := range []bool{false, true} {
		s, _ := one(t, "openai", nil)
		s.logged = logged
		s.serve("m u")
		s.post("/v1/chat/completions", chat("m", false))
		rec := s.record()
		if got := rec.Signals().Content(); got != "" != logged {
			t.Errorf("logged %t: the content is %q", logged, got)
		}
	}
}
