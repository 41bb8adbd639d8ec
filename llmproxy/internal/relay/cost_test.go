package relay

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// chunk is an ordinary chat chunk of 250 bytes.
var chunk = func() string {
	head := `data: {"id":"chatcmpl-k2SHZDxfE0eESuiv8HhBhvJ1Of715ZC8","object":"chat.completion.chunk","created":1795424810,` +
		`"model":"tiny","choices":[{"index":0,"delta":{"content":"`
	tail := `"},"finish_reason":null}]}` + "\n\n"
	return head + strings.Repeat("x", 250-len(head)-len(tail)) + tail
}()

// nobody is a client that costs nothing.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header         { return n.header }
func (n nobody) WriteHeader(int)             {}
func (n nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n nobody) Flush() error                { return nil }

func (n nobody) Commit(context.Context, bool) (bool, error)            { return false, nil }
func (n nobody) ErrorEvent(*openai.Error, openai.ResponseState) []byte { return nil }

// paced gives one event a read, as a server does that is slower than we are.
type paced struct{ events []string }

func (p *paced) Read(b []byte) (int, error) {
	if len(p.events) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.events[0])
	p.events = p.events[1:]
	return n, nil
}

func streamOf(events int) *paced {
	p := &paced{events: make([]string, 0, events+2)}
	for range events {
		p.events = append(p.events, chunk)
	}
	p.events = append(p.events, stop, done)
	return p
}

func relayed(t testing.TB, src io.Reader) {
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, HideUsage: true, Choices: 1, Progress: progressFunc(func() {})}
	res, _ := respond("text/event-stream", src)
	answer, err := Hold(res, expect)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Send(nobody{http.Header{}}, false); err != nil {
		t.Fatal(err)
	}
	answer.Close()
}

// TestEventsDoNotAllocate holds that a long stream costs no more memory than a short one.
func TestEventsDoNotAllocate(t *testing.T) {
	cost := func(events int) float64 {
		src := streamOf(events)
		all := src.events
		return testing.AllocsPerRun(50, func() {
			src.events = all
			relayed(t, src)
		})
	}
	short, long := cost(1), cost(1001)
	if long > short+2 { // under the race detector, pools forget on purpose
		t.Errorf("a stream of one event makes %v allocations, one of 1001 events %v", short, long)
	}
}

// BenchmarkEvent is the relay's own part of an event.
func BenchmarkEvent(b *testing.B) {
	text := strings.Repeat(chunk, 1000) + stop + done
	for _, way := range []struct {
		name string
		src  func() io.Reader
	}{
		{"a read each", func() io.Reader { return streamOf(1000) }},
		{"many a read", func() io.Reader { return strings.NewReader(text) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				relayed(b, way.src())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1002), "ns/event")
		})
	}
}
