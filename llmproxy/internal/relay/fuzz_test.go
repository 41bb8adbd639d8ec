package relay

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// FuzzStream holds that every split of a stream means what the events mean one by one, and that nothing reaches the client
// which the upstream did not send.
func FuzzStream(f *testing.F) {
	for i, tt := range streams {
		f.Add(tt.in, uint64(i), tt.hide, false)
	}
	f.Add("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\nevent: response.completed\ndata: {}\n\n", uint64(1), false, true)
	chat, responses := endpoint(f, "/v1/chat/completions"), endpoint(f, "/v1/responses")
	f.Add("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\nevent: response.failed\ndata: {\"response\":{\"error\":{},\"usage\":{\"input_tokens\":1}}}\n", uint64(2), false, true)
	f.Fuzz(func(t *testing.T, in string, seed uint64, hide, typed bool) {
		expect := Expect{Endpoint: chat, Stream: true, HideUsage: hide, Choices: 1}
		if typed {
			expect.Endpoint = responses
		}
		if form, _, _ := formOf([]byte(in)); form == jsonForm {
			return // see FuzzForm
		}
		want, ok := oneByOne(in, expect)
		if !ok {
			return
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var pieces []io.Reader
		for rest := in; rest != ""; {
			n := 1 + random.IntN(len(rest))
			pieces = append(pieces, strings.NewReader(rest[:n]))
			rest = rest[n:]
		}
		for name, src := range map[string]io.Reader{
			"whole":        strings.NewReader(in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
			"random":       io.MultiReader(pieces...),
		} {
			if diff := cmp.Diff(want, pass(t, "text/event-stream", src, expect, newClient())); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

// oneByOne is the plain way: all events first, then one look at each. It returns false for a stream with a whole message in it, which is
// converted.
func oneByOne(in string, expect Expect) (want result, ok bool) {
	events := eventsOf(in, expect)
	first := -1
	for i, raw := range events {
		e, _ := sse.Cut(raw)
		if e.ErrorField != nil {
			return result{Held: "event " + string(e.ErrorField)}, true
		}
		x := expect.Endpoint.Framing.First(e.Name, e.Data)
		if blank(e) {
			continue
		}
		if x.Err != nil {
			return result{Held: "event " + string(x.Err)}, true
		}
		if x.Malformed {
			return result{Held: "malformed"}, true
		}
		if x.Whole {
			return result{}, false
		}
		if x.Content {
			first = i
		}
		if x.Content || x.Done {
			break
		}
	}
	if first < 0 {
		return result{Held: "cut"}, true
	}
	finishes, done := 0, false
	var reason []byte
	malformed := false
	for _, raw := range events {
		e, _ := sse.Cut(raw)
		x := expect.Endpoint.Framing.Next(e.Name, e.Data)
		switch {
		case malformed, done:
			continue
		case e.ErrorField != nil:
			want.Sent = "event " + string(e.ErrorField)
			return want, true
		case blank(e):
			if e.OnlyComments {
				want.Body += string(raw)
			}
			continue
		case x.Err != nil:
			want.Sent = "event " + string(x.Err)
			if x.Terminal {
				want.Body += string(raw)
				want.Events++
			}
			if usage, ok := openai.ParseUsage(x.Usage); ok {
				want.Usage.Update(usage)
				want.HasUsage = true
			}
			return want, true
		case x.Malformed:
			malformed = true
			continue
		}
		if usage, ok := openai.ParseUsage(x.Usage); ok {
			want.Usage.Update(usage)
			want.HasUsage = true
		}
		finishes += x.Finishes
		if x.Reason != nil {
			reason = bytes.Clone(x.Reason)
		}
		done = x.Done || x.Finishes > 0 && expect.Endpoint.Name == "responses"
		if !x.UsageOnly || !expect.HideUsage {
			want.Body += string(raw)
			want.Events++
		} else if rest, ok := openai.WithoutUsage(expect.Endpoint, e.Data, reason); ok {
			want.Body += "data: " + string(rest) + "\n\n"
			want.Events++
		}
		if done && strings.HasSuffix(string(raw), "\r") {
			want.Body += "\n"
		}
	}
	switch {
	case done:
	case finishes > 0:
		want.Body += "data: [DONE]\n\n"
	case malformed:
		want.Sent = "malformed"
	default:
		want.Sent = "cut"
	}
	return want, true
}

func blank(e sse.Event) bool { return strings.TrimSpace(string(e.Data)) == "" }

// eventsOf cuts a stream into events. One that was cut counts only if it ends the answer.
func eventsOf(in string, expect Expect) (events [][]byte) {
	r := sse.NewReader(strings.NewReader(in), sse.MaxEvent)
	defer r.Close()
	for {
		batch, err := r.Next()
		batch = bytes.Clone(batch)
		if err != nil {
			switch rest, _ := sse.Cut(batch); {
			case len(batch) == 0:
			case string(rest.Data) == "[DONE]":
				events = append(events, []byte("data: [DONE]\n\n"))
			case expect.Endpoint.IsResponses() && expect.Endpoint.Framing.First(rest.Name, rest.Data).Terminal:
				events = append(events, []byte(strings.TrimRight(string(batch), "\r\n")+"\n\n"))
			}
			return events
		}
		for len(batch) > 0 {
			var e sse.Event
			e, batch = sse.Cut(batch)
			events = append(events, e.Raw)
		}
	}
}
