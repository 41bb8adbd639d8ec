package fakellm

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A sender sends one reply with the timing and the faults of its script. Once the client has left, err is set and every method
// does nothing.
type sender struct {
	x         *exchange
	w         http.ResponseWriter
	rc        *http.ResponseController
	ctx       context.Context
	started   bool // the headers were written
	unflushed int  // events
	err       error
}

var comment = []byte(":\n\n") // llama-server's ping

func newSender(x *exchange, w http.ResponseWriter) *sender {
	return &sender{x: x, w: w, rc: http.NewResponseController(w), ctx: x.r.Context()}
}

// send sends the whole reply. The error means that the client left.
func (s *sender) send(rep reply) error {
	t := &s.x.answer.timing
	switch {
	case t.deaf:
		<-t.hold
	case t.hold != nil:
		s.wait(nil, t.hold)
	}
	s.sleep(t.delay)
	switch {
	case s.err != nil:
	case rep.silent:
		s.wait(nil, nil)
	case rep.reset:
		s.breakOff(nil, true)
	default:
		s.headers(rep)
		if rep.stream {
			s.stream(rep)
		} else {
			s.whole(rep)
		}
	}
	return s.err
}

// headers writes status and headers, unless they were written before. They are sent with the first flush.
func (s *sender) headers(rep reply) {
	if s.started {
		return
	}
	s.started = true
	k, h := s.x.kind, s.w.Header()
	if !rep.verbatim {
		eachPair(k.headers, h.Add)
		if k.noDate {
			h["Date"] = nil
		}
	}
	h["Content-Type"] = nil // keeps net/http from guessing
	if rep.contentType != "" {
		h.Set("Content-Type", rep.contentType)
	}
	eachPair(rep.headers, h.Add)
	if !rep.stream && s.x.answer.fault != cut {
		h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	}
	eachPair(s.x.answer.header, func(name, value string) {
		if h.Del(name); value != "" {
			h.Set(name, value)
		}
	})
	s.w.WriteHeader(rep.status)
	if rep.stream && (k.earlyHeaders || s.x.answer.timing.first > 0) {
		_ = s.rc.Flush() // if the client left, the next write fails
	}
}

// whole sends an answer that is not a stream.
func (s *sender) whole(rep reply) {
	a := &s.x.answer
	if a.timing.first > 0 {
		s.flush()
		s.sleep(a.timing.first)
	}
	if a.fault == noFault || a.fault == errorEvent {
		s.write(rep.body)
		return
	}
	s.write(rep.body[:min(a.after, len(rep.body))])
	s.fail(rep, nil)
}

// stream sends a stream, up to the fault if there is one.
func (s *sender) stream(rep reply) {
	a := &s.x.answer
	s.sleep(a.timing.first)
	if a.fault == noFault || a.after > 0 || a.roleFirst {
		s.emit(rep.opening...)
	}
	begin := time.Now()
	for i, event := range rep.tokens {
		if a.fault != noFault && i == a.after {
			s.fail(rep, event)
			return
		}
		s.gate(i)
		if i > 0 && a.timing.interval > 0 {
			s.sleep(time.Until(begin.Add(time.Duration(i) * a.timing.interval)))
		}
		if s.err != nil {
			return
		}
		s.x.server.generated.Add(1)
		s.emit(event)
	}
	if a.fault != noFault {
		s.fail(rep, comment)
		return
	}
	s.gate(len(rep.tokens))
	s.emit(rep.closing...)
	s.flush()
}

// gate waits if HoldAfter was set for this number of tokens.
func (s *sender) gate(sent int) {
	if t := &s.x.answer.timing; t.gate != nil && t.gateAfter == sent {
		s.flush()
		s.wait(nil, t.gate)
	}
}

// fail carries out the script's fault. A dropped connection ends in the middle of the next event.
func (s *sender) fail(rep reply, next []byte) {
	if s.x.answer.fault == errorEvent {
		s.emit(rep.failure...)
	}
	if s.flush(); s.err != nil {
		return
	}
	switch s.x.answer.fault {
	case drop:
		s.breakOff(next, false)
	case reset:
		s.breakOff(next, true)
	case stall:
		s.wait(nil, nil)
	}
}

// breakOff takes the connection from net/http and closes it after half of a chunk.
func (s *sender) breakOff(chunk []byte, rst bool) {
	conn, _, err := s.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2, or not a real connection: net/http aborts it
	}
	if len(chunk) > 0 {
		_, _ = fmt.Fprintf(conn, "%x\r\n%s", len(chunk), chunk[:len(chunk)/2])
	}
	if tcp, ok := conn.(*net.TCPConn); ok && rst {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// emit writes events and flushes after each one, or after as many as Batch sets.
func (s *sender) emit(events ...[]byte) {
	for _, event := range events {
		s.write(event)
		if s.unflushed++; s.unflushed >= s.x.answer.batch {
			s.flush()
		}
	}
}

func (s *sender) write(b []byte) {
	if s.err == nil && len(b) > 0 && s.x.r.Method != http.MethodHead {
		_, s.err = s.w.Write(b)
	}
}

func (s *sender) flush() {
	s.unflushed = 0
	if s.err == nil {
		s.err = s.rc.Flush()
	}
}

func (s *sender) sleep(d time.Duration) {
	if d <= 0 {
		if s.err == nil {
			s.err = s.ctx.Err()
		}
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	s.wait(timer.C, nil)
}

// wait waits for one of the channels, or until the client leaves. Meanwhile it sends the script's pings.
func (s *sender) wait(timeout <-chan time.Time, release <-chan struct{}) {
	var ping <-chan time.Time
	if every := s.x.answer.timing.pings; every > 0 && s.started {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		ping = ticker.C
	}
	for s.err == nil {
		select {
		case <-timeout:
			return
		case <-release:
			return
		case <-s.ctx.Done():
			s.err = s.ctx.Err()
		case <-ping:
			s.emit(comment)
			s.flush()
		}
	}
}
