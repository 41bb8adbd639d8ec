// Package sse frames event streams (WHATWG HTML, §9.2): it finds where one event ends and the next begins, and parses events. It
// never changes the bytes of an event, never interprets its data, and never writes to a client. It stands on the lowest floor and
// imports no other package of this project.
package sse

import "bytes"

// An Event is a parsed event.
type Event struct {
	// Raw is the event as it was sent, with the blank line that ends it.
	Raw []byte
	// Name is the event's type, which may be empty.
	Name []byte
	// Data is the event's data, its lines joined with LF.
	Data []byte
	// HasData reports whether the event has a data field, which may be empty.
	HasData bool
	// OnlyComments means that the event has no field, only comments or line ends. Such events are heartbeats.
	OnlyComments bool
	// ErrorField is the value of a field "error", which old llama.cpp servers send instead of data.
	ErrorField []byte
}

// Cut parses the first event of a batch and returns it with the rest of the batch. A blank line with nothing before it is an
// empty event. The event refers to the bytes of the batch; only data of several lines is copied.
func Cut(batch []byte) (e Event, rest []byte) {
	e.OnlyComments = true
	at := 0
	for at < len(batch) {
		i, n := lineEnd(batch[at:])
		if i > 0 {
			e.addLine(batch[at : at+i : at+i])
		}
		at += i + n
		if i == 0 || n == 0 {
			break
		}
	}
	e.Raw = batch[:at]
	return e, batch[at:]
}

// addLine adds a line, which is not empty and has no spare capacity.
func (e *Event) addLine(line []byte) {
	if line[0] == ':' {
		return
	}
	e.OnlyComments = false
	name, value := field(line)
	switch string(name) {
	case "data":
		if e.HasData {
			e.Data = append(append(e.Data, '\n'), value...) // copies, because there is no spare capacity
		} else {
			e.Data, e.HasData = value, true
		}
	case "event":
		e.Name = value
	case "error":
		e.ErrorField = value
	}
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

// lineEnd finds the first line end in b: LF, CR or CRLF. It starts at i and is n bytes long. Without one, i is len(b) and n is 0.
func lineEnd(b []byte) (i, n int) {
	if len(b) == 0 || b[0] != '\n' {
		return searchEnd(b)
	}
	return 0, 1 // every second line of a stream is blank, and this check is cheaper than the call
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
