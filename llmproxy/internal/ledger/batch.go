package ledger

// maxEntries bounds the entries of a batch, which its callers bound by the number of their keys.
const maxEntries = 1 << 16

// An entryID names a saved value.
type entryID struct{ bucket, key string }

// A batch is what waits to be written.
type batch struct {
	rows    map[rowID]*Sums
	entries map[entryID][]byte // nil stands for a value to delete
}

func newBatch() *batch { return &batch{rows: map[rowID]*Sums{}, entries: map[entryID][]byte{}} }

func (b *batch) empty() bool { return len(b.rows)+len(b.entries) == 0 }

// add sums into the row, or, when there are too many, into one that stands for others.
func (b *batch) add(id rowID, s Sums) {
	row := b.rows[id]
	if row == nil {
		id = id.within(len(b.rows), func(id rowID) bool { return b.rows[id] != nil })
		row = b.rows[id]
	}
	if row == nil {
		row = new(Sums)
		b.rows[id.clone()] = row
	}
	row.add(s)
}

// save keeps an entry; false if there is no place for it.
func (b *batch) save(id entryID, value []byte) bool {
	if _, known := b.entries[id]; !known && len(b.entries) >= maxEntries {
		return false
	}
	b.entries[id] = value
	return true
}

// merge adds a batch that began later.
func (b *batch) merge(later *batch) {
	for id, s := range later.rows {
		b.add(id, *s)
	}
	for id, value := range later.entries {
		b.save(id, value)
	}
}
