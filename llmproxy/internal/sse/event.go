// Package sse frames event streams (WHATWG HTML, §9.2): it finds where one event ends and the next begins, and parses events. It
// never changes the bytes of an event, never interprets its data, and never writes to a client. It stands on the lowest floor and
// imports no other package of this project.
package sse

import "bytes"

// An Event is a parsed event.
type Event struct {
	// Name is the event's type; empty if it has none.
	Name []byte
	// Data is the event's data, its lines joined with LF.
	Data []byte
	// HasData distinguishes empty data from none.
	HasData bool
	// OnlyComments means that the event has no field, only comments or line ends. Such events are heartbeats.
	OnlyComments bool
	// ErrorField is the value of a field "error", which old llama.cpp servers send instead of data.
	ErrorField []byte
}

// Split returns the first event of a batch, with the blank line that ends it, and the rest. A blank line with nothing before it
// is an empty event.
func Split(batch []byte) (event, rest []byte) {
	for at := 0; at < len(batch); {
		i, n := lineEnd(batch[at:])
		at += i + n
		if i == 0 || n == 0 {
			return batch[:at], batch[at:]
		}
	}
	return batch, nil
}

// Parse parses an event. The result refers to the bytes of the event; only data of several lines is copied.
func Parse(event []byte) Event {
	e := Event{OnlyComments: true}
	for len(event) > 0 {
		i, n := lineEnd(event)
		line := event[:i:i]
		event = event[i+n:]
		if i == 0 || line[0] == ':' {
			continue
		}
		e.OnlyComments = false
		name, value := field(line)
		switch string(name) {
		case "data":
			if e.HasData {
				// The line has no spare capacity, so that append copies and does not change the event.
				e.Data = append(append(e.Data, '\n'), value...)
			} else {
				e.Data, e.HasData = value, true
			}
		case "event":
			e.Name = value
		case "error":
			e.ErrorField = value
		}
	}
	return e
}

// field splits a line at its colon and the space that may follow.
func field(line []byte) (name, value []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return line, nil
	}
	name, value = line[:colon], line[colon+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return name, value
}

// AppendData appends an event that has only data. Each line of the data becomes a line of its own, so that its content can
// neither end the event early nor start another field.
func AppendData(b, data []byte) []byte {
	for {
		i, n := lineEnd(data)
		b = append(b, "data: "...)
		b = append(b, data[:i]...)
		b = append(b, '\n')
		if n == 0 {
			return append(b, '\n')
		}
		data = data[i+n:]
	}
}

// AppendEvent appends an event with a name, which must be a single line.
func AppendEvent(b []byte, name string, data []byte) []byte {
	b = append(b, "event: "...)
	b = append(b, name...)
	b = append(b, '\n')
	return AppendData(b, data)
}

// window is how far searchEnd looks for an LF before it looks for a CR. Without it, a stream of short lines that end with CR would
// be searched to its end for every line.
const window = 1 << 10

// lineEnd finds the first line end in b: LF, CR or CRLF. It starts at i and is n bytes long. If there is none, n is 0 and i is
// len(b).
func lineEnd(b []byte) (i, n int) {
	if len(b) == 0 || b[0] != '\n' {
		return searchEnd(b)
	}
	return 0, 1 // every other line of a stream is blank: this check is cheaper than the call
}

func searchEnd(b []byte) (i, n int) {
	for at := 0; at < len(b); at += window {
		part := b[at:min(at+window, len(b))]
		lf := bytes.IndexByte(part, '\n')
		if lf >= 0 {
			part = part[:lf]
		}
		if cr := bytes.IndexByte(part, '\r'); cr >= 0 {
			if end := at + cr; end+1 < len(b) && b[end+1] == '\n' {
				return end, 2
			}
			return at + cr, 1
		}
		if lf >= 0 {
			return at + lf, 1
		}
	}
	return len(b), 0
}
