package fakellm

import (
	"fmt"
	"net"
	"net/http"
)

// fail does what the script's fault says, in the middle of the event that would be next.
func (p *player) fail(rep reply, next []byte) error {
	if p.c.answer.fault == errorEvent {
		if err := p.emit(rep.failure...); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	switch p.c.answer.fault {
	case drop:
		p.sever(next, false)
	case reset:
		p.sever(next, true)
	case stall:
		return p.wait(nil, nil)
	}
	return nil
}

// sever closes the connection under net/http, behind half of a chunk.
func (p *player) sever(chunk []byte, rst bool) {
	conn, _, err := p.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // no connection of our own: net/http can at least break this one off
	}
	if len(chunk) > 0 {
		_, _ = fmt.Fprintf(conn, "%x\r\n%s", len(chunk), chunk[:len(chunk)/2])
	}
	if tcp, ok := conn.(*net.TCPConn); ok && rst {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

var comment = []byte(":\n\n") // llama-server's

// emit writes events, and flushes after each or as the script says.
func (p *player) emit(events ...[]byte) error {
	for _, event := range events {
		for n := p.c.answer.pieces; n > 0 && len(event) > n; event = event[n:] {
			if err := p.write(event[:n]); err != nil {
				return err
			}
			if err := p.flush(); err != nil {
				return err
			}
		}
		if err := p.write(event); err != nil {
			return err
		}
		if p.pending++; p.pending >= p.c.answer.batch {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *player) write(b []byte) error {
	if len(b) == 0 || p.c.r.Method == http.MethodHead {
		return nil
	}
	if _, err := p.w.Write(b); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func (p *player) flush() error {
	p.pending = 0
	if err := p.rc.Flush(); err != nil {
		return fmt.Errorf("flushing the answer: %w", err)
	}
	return nil
}
