package gateway

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

// sessionHeaders are the headers in which agents send the ID of a session, in order of precedence.
var sessionHeaders = []string{"X-Claude-Code-Session-Id", "X-Session-Affinity", "Session-Id", "Session_id", "X-Session-Id"}

const (
	sessionIdle = time.Hour // a session that is idle for longer is forgotten
	maxSessions = 10_000
)

// A sessionID is the hash of a model, a caller and a session, so that callers cannot affect each other's sessions. The zero value means
// that there is no session.
type sessionID [16]byte

// Affinity is session affinity: it keeps the requests of a session on the route of the first one, so that the model that has read the
// conversation continues it with a warm prompt cache. When it is full, it forgets the session that has been idle for the longest time.
// A nil *Affinity remembers nothing.
type Affinity struct {
	mu    sync.Mutex
	byID  map[sessionID]*list.Element
	order list.List // of *session; the most recently used first
}

type session struct {
	id    sessionID
	rules []string // that the session was routed by
	used  time.Time
}

// find returns the ID of a request's session and the rules that it was last routed by. If callers need no key, they are distinguished by
// their credentials.
func (a *Affinity) find(r *http.Request, identity, model string) (sessionID, []string) {
	if a == nil {
		return sessionID{}, nil
	}
	for _, name := range sessionHeaders {
		if v := r.Header[name]; len(v) > 0 && v[0] != "" {
			caller := "identity\x00" + identity
			if identity == "" {
				caller = r.Header.Get("Authorization") + "\x00" + r.Header.Get("X-Api-Key") + "\x00" + r.Header.Get("Api-Key")
			}
			sum := sha256.Sum256([]byte(model + "\x00" + caller + "\x00" + v[0]))
			id := sessionID(sum[:16])
			return id, a.get(id)
		}
	}
	return sessionID{}, nil
}

func (a *Affinity) get(id sessionID) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byID[id]
	if e == nil || time.Since(e.Value.(*session).used) > sessionIdle {
		return nil
	}
	return e.Value.(*session).rules
}

// keep remembers the rules that a session was routed by.
func (a *Affinity) keep(id sessionID, rules []string) {
	if id == (sessionID{}) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID = map[sessionID]*list.Element{}
	}
	if e := a.byID[id]; e != nil {
		*e.Value.(*session) = session{id, rules, time.Now()}
		a.order.MoveToFront(e)
		return
	}
	a.byID[id] = a.order.PushFront(&session{id, rules, time.Now()})
	if a.order.Len() > maxSessions {
		oldest := a.order.Back()
		delete(a.byID, a.order.Remove(oldest).(*session).id)
	}
}
