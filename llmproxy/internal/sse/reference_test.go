package sse

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// A plainEvent is an event with strings instead of bytes.
type plainEvent struct {
	Name, Data, Error string
	HasData, Comments bool
}

// reference reads a whole stream line by line, as specified in WHATWG HTML §9.2.6, and returns what is left after the last blank line.
func reference(stream string) (events []plainEvent, rest string) {
	stream = strings.TrimPrefix(stream, "\xEF\xBB\xBF")
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	var lines []string
	for {
		line, after, found := strings.Cut(stream, "\n")
		if !found {
			break
		}
		stream = after
		if line != "" {
			lines = append(lines, line)
			continue
		}
		if len(lines) > 0 {
			events = append(events, referenceEvent(lines))
		}
		lines = nil
	}
	for _, line := range lines {
		rest += line + "\n"
	}
	return events, rest + stream
}

func referenceEvent(lines []string) plainEvent {
	e := plainEvent{Comments: true}
	var data []string
	for _, line := range lines {
		if strings.HasPrefix(line, ":") {
			continue
		}
		e.Comments = false
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			data, e.HasData = append(data, value), true
		case "event":
			e.Name = value
		case "error":
			e.Error = value
		}
	}
	e.Data = strings.Join(data, "\n")
	return e
}

// pieces is a reader that returns a stream in the given pieces.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

// result is everything that a Reader returned.
type result struct {
	Events []plainEvent
	Bytes  string // of all batches and the rest
	Rest   string
	Err    error
}

// readAll reads a stream to its end, and checks every batch.
func readAll(t testing.TB, src io.Reader, max int) result {
	t.Helper()
	r := NewReader(src, max)
	defer r.Close()
	var out result
	for {
		batch, err := r.Next()
		out.Bytes += string(batch)
		if err != nil {
			out.Rest, out.Err = string(batch), err
			break
		}
		if len(batch) == 0 {
			t.Fatal("an empty batch without an error")
		}
		out.Events = append(out.Events, parseBatch(t, batch)...)
	}
	if again, err := r.Next(); len(again) > 0 || !errors.Is(err, out.Err) {
		t.Fatalf("after the end: %q, %v, want nothing and %v", again, err, out.Err)
	}
	return out
}

// parseBatch splits a batch and parses its events, except empty ones.
func parseBatch(t testing.TB, batch []byte) []plainEvent {
	t.Helper()
	var events []plainEvent
	before, joined := string(batch), ""
	for rest := batch; len(rest) > 0; {
		var e Event
		e, rest = Cut(rest)
		event := e.Raw
		joined += string(event)
		if last := event[len(event)-1]; last != '\n' && last != '\r' {
			t.Fatalf("event %q of a batch has no end", event)
		}
		if strings.Trim(string(event), "\r\n") == "" {
			if !e.OnlyComments || e.HasData {
				t.Fatalf("blank lines %q are parsed as %+v", event, e)
			}
			continue
		}
		events = append(events, plainEvent{string(e.Name), string(e.Data), string(e.ErrorField), e.HasData, e.OnlyComments})
	}
	if joined != before || string(batch) != before {
		t.Fatalf("the events of a batch are %q, the batch was %q and is %q", joined, before, batch)
	}
	return events
}
