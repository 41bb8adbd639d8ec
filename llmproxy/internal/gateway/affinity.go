package gateway

import (
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
)

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
	recent recent[sessionID, []string] // the rules that each session was routed by
}

// NewAffinity returns an Affinity that knows of no session.
func NewAffinity() *Affinity {
	return &Affinity{recent[sessionID, []string]{most: maxSessions, idle: sessionIdle}}
}

// find returns the ID of a request's session and the rules that it was last routed by. If callers need no key, they are distinguished by
// their credentials.
func (a *Affinity) find(r *http.Request, identity, model string) (sessionID, []string) {
	if a == nil {
		return sessionID{}, nil
	}
	session := exchange.Session(r.Header)
	if session == "" {
		return sessionID{}, nil
	}
	caller := "identity\x00" + identity
	if identity == "" {
		caller = r.Header.Get("Authorization") + "\x00" + r.Header.Get("X-Api-Key") + "\x00" + r.Header.Get("Api-Key")
	}
	sum := sha256.Sum256([]byte(model + "\x00" + caller + "\x00" + session))
	id := sessionID(sum[:16])
	rules, _ := a.recent.get(id)
	return id, rules
}

// keep remembers the rules that a session was routed by.
func (a *Affinity) keep(id sessionID, rules []string) {
	if id == (sessionID{}) {
		return
	}
	a.recent.put(id, rules)
}
