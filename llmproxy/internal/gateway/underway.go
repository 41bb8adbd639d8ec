package gateway

import "sync"

// underWay are the attempts that run now, so that they can be ended together when the process is about to end. They link
// themselves, because there are many and none stays long.
type underWay struct {
	mu    sync.Mutex
	first *attempt
	over  bool
}

// neighbours are an attempt's links.
type neighbours struct{ before, after *attempt }

// enter adds an attempt. One that comes too late is ended at once.
func (u *underWay) enter(a *attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		a.life.end(errDraining)
	}
	if a.after = u.first; u.first != nil {
		u.first.before = a
	}
	u.first = a
}

// leave takes an attempt out.
func (u *underWay) leave(a *attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a.after != nil {
		a.after.before = a.before
	}
	if a.before != nil {
		a.before.after = a.after
	} else {
		u.first = a.after
	}
	a.neighbours = neighbours{}
}

// end ends all attempts.
func (u *underWay) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	for a := u.first; a != nil; a = a.after {
		a.life.end(errDraining)
	}
}
