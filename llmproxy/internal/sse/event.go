package sse

import "bytes"

// An Event is what an event says.
type Event struct {
	// Name is the event's type, empty where it has none.
	Name []byte
	// Data is the data, the lines joined with LF.
	Data []byte
	// HasData tells empty data from none.
	HasData bool
	// OnlyComments tells that the event has no field: comments, or nothing but line ends. Such events are heartbeats.
	OnlyComments bool
	// ErrorField is the value of a field "error", which old llama.cpp servers send in place of data.
	ErrorField []byte
}

// Split gives the first event of a batch, with the blank line that ends it, and the rest. A blank line that nothing stands
// before is an event by itself, which says nothing.
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

// Parse takes an event apart. What it gives lies in the event itself; only several lines of data are copied.
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
				// The line was cut off with no capacity to spare: this copies, and leaves the event as it is.
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

// field cuts a line at its colon. One space after the colon belongs to it.
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
