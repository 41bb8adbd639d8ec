package gateway

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

// sessionHeaders are where agents say which conversation a request belongs to; the first of them counts.
var sessionHeaders = []string{"X-Claude-Code-Session-Id", "X-Session-Affinity", "Session-Id", "Session_id", "X-Session-Id"}

const (
	sessionIdle = time.Hour // then a session is forgotten
	maxSessions = 10_000
)

// A sessionID is the hash of a model, a caller and a session: nobody is bound by what somebody else sends. The zero sessionID
// stands for no session.
type sessionID [16]byte

// Affinity is session affinity: it keeps conversations that say who they are on the route they got, so that the model that has
// read them so far goes on, with its prompt cache. It is bounded: the sessions that were idle for longest are forgotten. A nil
// Affinity keeps nothing.
type Affinity struct {
	mu    sync.Mutex
	byID  map[sessionID]*list.Element
	order list.List // of *session, the latest first
}

type session struct {
	id    sessionID
	trail []string // the rules that it went by
	at    time.Time
}

// find returns the session of a request for a model by the owner of a key, and the rules that it went by before. Where there are
// no keys, callers are told apart by the credentials that they send.
func (a *Affinity) find(r *http.Request, key, model string) (sessionID, []string) {
	if a == nil {
		return sessionID{}, nil
	}
	for _, name := range sessionHeaders {
		if v := r.Header[name]; len(v) > 0 && v[0] != "" {
			caller := "key\x00" + key
			if key == "" {
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
	if e == nil || time.Since(e.Value.(*session).at) > sessionIdle {
		return nil
	}
	return e.Value.(*session).trail
}

// keep remembers the rules that a session went by.
func (a *Affinity) keep(id sessionID, trail []string) {
	if id == (sessionID{}) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID = map[sessionID]*list.Element{}
	}
	if e := a.byID[id]; e != nil {
		*e.Value.(*session) = session{id, trail, time.Now()}
		a.order.MoveToFront(e)
		return
	}
	a.byID[id] = a.order.PushFront(&session{id, trail, time.Now()})
	if a.order.Len() > maxSessions {
		oldest := a.order.Back()
		delete(a.byID, a.order.Remove(oldest).(*session).id)
	}
}
