package gateway

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// Conversations that say who they are stay on the route they got, so that the model that has read them so far goes on
// (local-servers §0.10). They say it in one of these headers, the first of them counts.
var sessionHeaders = []string{"X-Claude-Code-Session-Id", "X-Session-Affinity", "Session-Id", "Session_id", "X-Session-Id"}

const (
	pinFor  = time.Hour // of idleness
	maxPins = 10_000
)

// pinID is the hash of a model, a caller's credentials and a session: nobody is pinned by what another one sends. The zero
// pinID stands for no session.
type pinID [16]byte

// Pins are the routes of conversations. They are bounded: of too many, the ones idle for longest are forgotten.
type Pins struct {
	mu    sync.Mutex
	byID  map[pinID]*list.Element
	order list.List // of *pin, the latest first
}

type pin struct {
	id    pinID
	trail []string
	at    time.Time
}

// pinned gives the request's session and the rules that it went by before.
func (c *call) pinned() (pinID, []string) {
	if c.g.Pins == nil {
		return pinID{}, nil
	}
	for _, name := range sessionHeaders {
		if v := c.r.Header[name]; len(v) > 0 && v[0] != "" {
			sum := sha256.Sum256([]byte(c.rec.Model + "\x00" + c.r.Header.Get("Authorization") + "\x00" + v[0]))
			id := pinID(sum[:16])
			return id, c.g.Pins.get(id)
		}
	}
	return pinID{}, nil
}

func (p *Pins) get(id pinID) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byID[id]
	if e == nil || time.Since(e.Value.(*pin).at) > pinFor {
		return nil
	}
	return e.Value.(*pin).trail
}

func (p *Pins) put(id pinID, trail []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID == nil {
		p.byID = map[pinID]*list.Element{}
	}
	if e := p.byID[id]; e != nil {
		*e.Value.(*pin) = pin{id, trail, time.Now()}
		p.order.MoveToFront(e)
		return
	}
	p.byID[id] = p.order.PushFront(&pin{id, trail, time.Now()})
	if p.order.Len() > maxPins {
		oldest := p.order.Back()
		delete(p.byID, p.order.Remove(oldest).(*pin).id)
	}
}
