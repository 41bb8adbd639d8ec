package caching

// Refer ends and closes a flight that nobody needs to make, and tells those who follow where their answer is: that of a
// question like theirs.
func (f *Flight) Refer(m Match) {
	f.mu.Lock()
	f.similar = &m
	f.mu.Unlock()
	f.Land(false)
	f.Close()
}

// Referred is where the flight's answer is, if it was not made.
func (f *Flight) Referred() (m Match, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.similar == nil {
		return Match{}, false
	}
	return *f.similar, true
}
