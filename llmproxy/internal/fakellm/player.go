package fakellm

import (
	"context"
	"net/http"
	"time"
)

// A player sends a reply with the timing and the faults that the script asks for. Its errors mean that the client left.
type player struct {
	c       *call
	w       http.ResponseWriter
	rc      *http.ResponseController
	ctx     context.Context
	started bool // headers were written
	pending int  // events since the last flush
}

func newPlayer(c *call, w http.ResponseWriter) *player {
	return &player{c: c, w: w, rc: http.NewResponseController(w), ctx: c.r.Context()}
}

// play sends the whole reply.
func (p *player) play(rep reply) error {
	t := &p.c.answer.timing
	if t.hold != nil {
		if err := p.wait(nil, t.hold); err != nil {
			return err
		}
	}
	if err := p.sleep(t.delay); err != nil {
		return err
	}
	switch {
	case rep.silent:
		return p.wait(nil, nil)
	case rep.severed:
		p.sever(nil, true)
		return nil
	}
	p.headers(rep)
	if rep.stream {
		return p.stream(rep)
	}
	return p.whole(rep)
}

// headers writes status and headers, once; they leave with the first flush.
func (p *player) headers(rep reply) {
	if p.started {
		return
	}
	p.started = true
	k, h := p.c.kind, p.w.Header()
	if !rep.verbatim {
		pairs(k.header, h.Add)
		if k.noDate {
			h["Date"] = nil
		}
	}
	h["Content-Type"] = nil // nothing is guessed
	if rep.ctype != "" {
		h.Set("Content-Type", rep.ctype)
	}
	pairs(rep.header, h.Add)
	if !rep.stream && p.c.answer.fault != cut {
		h.Set("Content-Length", itoa(len(rep.body)+p.c.answer.comments))
	}
	pairs(p.c.answer.header, func(name, value string) {
		if h.Del(name); value != "" {
			h.Set(name, value)
		}
	})
	p.w.WriteHeader(rep.status)
	if rep.stream && (k.early || p.c.answer.timing.first > 0) {
		_ = p.rc.Flush() // a client that left is noticed at the next write
	}
}

// whole sends an answer that is not a stream. Its faults count bytes.
func (p *player) whole(rep reply) error {
	a := &p.c.answer
	for range a.comments {
		if err := p.emit([]byte("\n")); err != nil {
			return err
		}
	}
	if a.timing.first > 0 {
		if err := p.flush(); err != nil {
			return err
		}
		if err := p.sleep(a.timing.first); err != nil {
			return err
		}
	}
	if a.fault == noFault || a.fault == errorEvent {
		return p.write(rep.body)
	}
	if err := p.write(rep.body[:min(a.after, len(rep.body))]); err != nil {
		return err
	}
	return p.fail(rep, nil)
}

// stream sends events. Its faults count tokens.
func (p *player) stream(rep reply) error {
	a := &p.c.answer
	for range a.comments {
		if err := p.emit(comment); err != nil {
			return err
		}
	}
	if err := p.sleep(a.timing.first); err != nil {
		return err
	}
	if a.fault == noFault || a.after > 0 || a.roleFirst {
		if err := p.emit(rep.opening...); err != nil {
			return err
		}
	}
	if err := p.tokens(rep); err != nil || a.fault != noFault {
		return err
	}
	if err := p.emit(rep.closing...); err != nil {
		return err
	}
	return p.flush()
}

// tokens sends the events with content, and the fault if there is to be one.
func (p *player) tokens(rep reply) error {
	a := &p.c.answer
	begin := time.Now()
	for i, event := range rep.tokens {
		if a.fault != noFault && i == a.after {
			return p.fail(rep, event)
		}
		if err := p.gate(i); err != nil {
			return err
		}
		if i > 0 && a.timing.interval > 0 {
			if err := p.sleep(time.Until(begin.Add(time.Duration(i) * a.timing.interval))); err != nil {
				return err
			}
		}
		p.c.s.decoded.Add(1)
		if err := p.emit(event); err != nil {
			return err
		}
	}
	if a.fault != noFault {
		return p.fail(rep, comment)
	}
	return p.gate(len(rep.tokens))
}

// gate holds the stream where HoldAfter says.
func (p *player) gate(sent int) error {
	t := &p.c.answer.timing
	if t.gate == nil || t.gateAfter != sent {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.wait(nil, t.gate)
}

// sleep waits for d, or until the client leaves.
func (p *player) sleep(d time.Duration) error {
	if d <= 0 {
		return p.ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	return p.wait(timer.C, nil)
}

// wait waits for one of the channels, or until the client leaves. Meanwhile it pings, if the script says so.
func (p *player) wait(over <-chan time.Time, release <-chan struct{}) error {
	var ping <-chan time.Time
	if every := p.c.answer.timing.pings; every > 0 && p.started {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		ping = ticker.C
	}
	for {
		select {
		case <-over:
			return nil
		case <-release:
			return nil
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-ping:
			if err := p.emit(comment); err != nil {
				return err
			}
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
}
