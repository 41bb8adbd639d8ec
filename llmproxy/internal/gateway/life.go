package gateway

import (
	"context"
	"sync"
)

// A life is the context of an attempt: the client's, which ends as well when somebody ends it, and then knows why. It does
// what context.WithCancelCause does for half the price: it lies in the attempt, and its one child, as a rule, is the watch of a
// transport, which AfterFunc serves without a context of its own.
type life struct {
	context.Context // the client's
	unlink          func() bool

	mu    sync.Mutex
	ended chan struct{} // made when somebody asks for it
	err   error         // nil while it lasts
	why   error
	calls []afterCall
	room  [2]afterCall // for the usual ones
	count int
}

// An afterCall is what is to be called at the end.
type afterCall struct {
	number int
	call   func()
}

// begin begins a life inside the client's.
func (l *life) begin(client context.Context) {
	l.Context, l.calls = client, l.room[:0]
	l.unlink = context.AfterFunc(client, l.clientLeft)
}

func (l *life) clientLeft() { l.finish(l.Context.Err(), context.Cause(l.Context)) }

// end ends it, unless it is over.
func (l *life) end(why error) { l.finish(context.Canceled, why) }

// close lets go of the client's context, too.
func (l *life) close() {
	l.unlink()
	l.end(context.Canceled)
}

func (l *life) finish(err, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err, l.why = err, why
	if l.ended != nil {
		close(l.ended)
	}
	for _, c := range l.calls {
		go c.call()
	}
	l.calls = nil
}

// cause is why it ended; nil while it lasts.
func (l *life) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// Err implements context.Context. That the client left it knows at once.
func (l *life) Err() error {
	if l.Context.Err() != nil {
		l.clientLeft()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = make(chan struct{})
		if l.err != nil {
			close(l.ended)
		}
	}
	return l.ended
}

// AfterFunc does what context.AfterFunc does; package context looks for it, too.
func (l *life) AfterFunc(call func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go call()
		return func() bool { return false }
	}
	l.count++
	number := l.count
	l.calls = append(l.calls, afterCall{number, call})
	return func() bool { return l.forget(number) }
}

func (l *life) forget(number int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.calls {
		if c.number == number {
			last := len(l.calls) - 1
			l.calls[i], l.calls[last] = l.calls[last], afterCall{}
			l.calls = l.calls[:last]
			return true
		}
	}
	return false
}
