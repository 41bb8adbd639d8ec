package relay

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestStreamHeaders(t *testing.T) {
	t.Parallel()
	to := newClient()
	pass(t, "text/event-stream; charset=utf-8", strings.NewReader(hi+stop+done), Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, Choices: 1}, to)
	want := map[string][]string{
		"Content-Type": {"text/event-stream; charset=utf-8"}, "Openai-Version": {"2020-10-01"},
		"Cache-Control": {"no-cache, no-transform"}, "X-Accel-Buffering": {"no"},
	}
	if diff := cmp.Diff(want, map[string][]string(to.header)); diff != "" || to.status != 200 {
		t.Errorf("status %d, header (-want +got):\n%s", to.status, diff)
	}
}

// The client may leave at any byte, or be found gone with a flush.
func TestStreamClientLeaves(t *testing.T) {
	t.Parallel()
	const in = role + hi + there + stop
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, Choices: 1}
	for room := 1; room < len(in+done); room++ {
		to := newClient()
		to.room = room
		got := pass(t, "text/event-stream", iotest.OneByteReader(strings.NewReader(in)), expect, to)
		if got.Sent != "client left" || got.Body != (in + done)[:room] {
			t.Fatalf("with room for %d bytes: %+v", room, got)
		}
	}
	to := newClient()
	to.gone = errLeft
	if got := pass(t, "text/event-stream", strings.NewReader(in), expect, to); got.Sent != "client left" {
		t.Errorf("when a flush fails: %+v", got)
	}
}

// Events that were held leave together with the content for which they were held.
func TestStreamBeginsWithOneFlush(t *testing.T) {
	t.Parallel()
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, Choices: 1}
	res, _ := respond("text/event-stream", &paced{[]string{role, ping, hi, stop + done}})
	answer, err := Hold(res, expect)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	to := newClient()
	if err := answer.Send(to, false); err != nil || to.body.String() != role+ping+hi+stop+done || to.flushes != 2 {
		t.Errorf("%d flushes of %q, %v", to.flushes, to.body.String(), err)
	}
}

// All events that one read brings leave with one write; what is there is never kept waiting for more.
func TestStreamBatches(t *testing.T) {
	t.Parallel()
	src, feed := io.Pipe()
	progress := make(chan struct{})
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, HideUsage: true, Choices: 1, Progress: progressFunc(func() { progress <- struct{}{} })}
	ended := make(chan error, 1)
	to := newClient()
	go func() {
		res, _ := respond("text/event-stream", src)
		answer, err := Hold(res, expect)
		if err == nil {
			defer answer.Close()
			err = answer.Send(to, false)
		}
		ended <- err
	}()
	want := ""
	for i, batch := range []struct {
		in, out string
		writes  int
	}{{role + hi, role + hi, 1}, {there + there + there, there + there + there, 2}, {hi + usage + there, hi + there, 4}, {ping, ping, 5}} {
		if _, err := io.WriteString(feed, batch.in); err != nil {
			t.Fatal(err)
		}
		<-progress
		want += batch.out
		if to.body.String() != want || to.flushed != len(want) || to.writes != batch.writes {
			t.Fatalf("batch %d: %d writes, %d bytes flushed, body %q", i, to.writes, to.flushed, to.body.String())
		}
	}
	feed.Close()
	if err := <-ended; !errors.Is(err, ErrIncomplete) {
		t.Errorf("got %v", err)
	}
}
