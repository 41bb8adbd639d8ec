package dashboard

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

const (
	// interval is how often the page is told what has changed, spendInterval how often what was spent, which is read from a disk.
	interval      = 500 * time.Millisecond
	spendInterval = 5 * time.Second
	// maxWatchers bounds the pages that are open at once.
	maxWatchers = 100
	// backlog is how many messages a slow page may be behind before it is disconnected. It connects again and gets everything.
	backlog = 8
	// writeTimeout bounds the time for one message.
	writeTimeout = 10 * time.Second
	// maxSpend bounds how many keys are shown.
	maxSpend = 100
)

// A feed tells all pages that are open what happens. One goroutine does that for all of them, and runs only while there are any. The zero
// feed is ready to use.
type feed struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	running  bool
	closed   bool
	woken    chan struct{} // has something for the producer to see at once
}

// A watcher is a page that is open.
type watcher struct {
	view     overview.Viewer
	messages chan []byte // closed when the feed ends it
	greeted  bool        // it has got everything once
	spend    int         // the number of the spending that it has got
}

// join adds a page, or returns nil if there are too many.
func (f *feed) join(view overview.Viewer) *watcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.watchers) >= maxWatchers {
		return nil
	}
	w := &watcher{view: view, messages: make(chan []byte, backlog)}
	if f.watchers == nil {
		f.watchers, f.woken = map[*watcher]struct{}{}, make(chan struct{}, 1)
	}
	f.watchers[w] = struct{}{}
	if !f.running {
		f.running = true
		go f.produce()
	}
	f.wake()
	return w
}

// wake lets the producer look at once. The caller holds the lock.
func (f *feed) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// leave removes a page.
func (f *feed) leave(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end(w)
}

// end ends a page's messages. The caller holds the lock.
func (f *feed) end(w *watcher) {
	if _, here := f.watchers[w]; here {
		delete(f.watchers, w)
		close(w.messages)
	}
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.watchers {
		f.end(w)
	}
	f.wake()
}

// open returns the pages that are open, by what they see. Without open pages, the producer has ended.
func (f *feed) open() map[overview.Viewer][]*watcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) == 0 {
		f.running = false
		return nil
	}
	groups := map[overview.Viewer][]*watcher{}
	for w := range f.watchers {
		groups[w.view] = append(groups[w.view], w)
	}
	return groups
}

// produce tells the pages what happens until none is open.
func (f *feed) produce() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := map[overview.Viewer]uint64{} // the number of the latest request that a group knows
	var spending overview.Spending
	var asked time.Time
	read, reading, number := make(chan overview.Spending, 1), false, 0
	for {
		groups := f.open()
		if groups == nil {
			return
		}
		if !reading && time.Since(asked) > spendInterval {
			asked, reading = time.Now(), true
			go func() { read <- overview.ReadSpending() }() // it may wait for a disk or a server
		}
		for view, members := range groups {
			last[view] = f.tell(view, members, last[view])
			if number > 0 {
				f.tellSpending(view, members, spending, number)
			}
		}
		for view := range last {
			if groups[view] == nil {
				delete(last, view)
			}
		}
		select {
		case <-tick.C:
		case <-f.woken:
		case spending = <-read:
			reading = false
			number++
		}
	}
}

// tell tells pages that see the same what has changed since a request, or everything to those that have just been opened. It returns the
// number of the latest request.
func (f *feed) tell(view overview.Viewer, members []*watcher, after uint64) uint64 {
	from := after
	for _, w := range members {
		if !w.greeted {
			from = 0
		}
	}
	snapshot := overview.Take(view, from)
	var all []byte
	if from != after {
		all = message("status", snapshot)
		n := 0
		for n < len(snapshot.Requests) && snapshot.Requests[n].Number > after {
			n++
		}
		snapshot.Requests = snapshot.Requests[:n]
	}
	changes := message("status", snapshot)
	if all == nil {
		all = changes
	}
	for _, w := range members {
		if w.greeted {
			f.send(w, changes)
		} else {
			w.greeted = true
			f.send(w, all)
		}
	}
	if len(snapshot.Requests) > 0 {
		return snapshot.Requests[0].Number
	}
	return after
}

// tellSpending tells pages that see the same what was spent, if they have not been told that number.
func (f *feed) tellSpending(view overview.Viewer, members []*watcher, spending overview.Spending, number int) {
	var text []byte
	for _, w := range members {
		if w.spend == number {
			continue
		}
		if text == nil {
			shown := spending.For(view)
			shown.Spend = shown.Spend[:min(len(shown.Spend), maxSpend)]
			text = message("spend", shown)
		}
		w.spend = number
		f.send(w, text)
	}
}

// send sends a message to a page, or ends the page if it is too far behind.
func (f *feed) send(w *watcher, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, here := f.watchers[w]; !here {
		return
	}
	select {
	case w.messages <- text:
	default:
		f.end(w)
	}
}

// message returns an event.
func message(name string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it consists of strings and finite numbers
	}
	return append(append([]byte("event: "+name+"\ndata: "), data...), "\n\n"...)
}

// serveEvents sends the events to a page until it is closed, or its key is not valid any more.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request, v visitor) {
	watcher := d.feed.join(v.view)
	if watcher == nil {
		fail(w, &failure{status: http.StatusServiceUnavailable, header: http.Header{"Retry-After": {"5"}}, message: "Too many pages are open, or the gateway is about to end. Try again in a moment."})
		return
	}
	defer d.feed.leave(watcher)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	send := func(text []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every server has one
		_, err := w.Write(text)
		return err == nil && control.Flush() == nil
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case text, open := <-watcher.messages:
			if !open {
				return
			}
			if now, err := d.visitor(r, http.Header{}); err != nil || now.view != v.view || now.admin != v.admin {
				send(message("signed_out", struct{}{}))
				return
			}
			if !send(text) {
				return
			}
		}
	}
}
