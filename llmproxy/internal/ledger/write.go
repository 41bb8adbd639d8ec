package ledger

import (
	"encoding/binary"

	"go.etcd.io/bbolt"
)

// The buckets of the file.
var (
	usageBucket = []byte("usage") // a bucket for each day, of rows by name; its sequence counts them
	savedBucket = []byte("saved") // a bucket for each bucket of saved values
)

// write puts the batch, and the value after it, into the file.
func (b *batch) write(tx *bbolt.Tx, now *entry) error {
	for id, s := range b.rows {
		if err := writeRow(tx, id, s); err != nil {
			return err
		}
	}
	for id, value := range b.entries {
		if err := writeEntry(tx, entry{id, value}); err != nil {
			return err
		}
	}
	if now != nil {
		return writeEntry(tx, *now)
	}
	return nil
}

// writeRow adds to a row of the file.
func writeRow(tx *bbolt.Tx, id rowID, s *Sums) error {
	days, err := tx.CreateBucketIfNotExists(usageBucket)
	if err != nil {
		return err
	}
	rows, err := days.CreateBucketIfNotExists(id.day.name())
	if err != nil {
		return err
	}
	id = id.within(int(rows.Sequence()), func(id rowID) bool { return rows.Get(id.appendName(nil)) != nil })
	name := id.appendName(nil)
	sum := *s
	value := rows.Get(name)
	if value == nil {
		if _, err := rows.NextSequence(); err != nil {
			return err
		}
	}
	var before Sums
	if before.parseValue(value) == nil { // one that cannot be read begins anew
		sum.add(before)
	}
	return rows.Put(name, sum.appendValue(nil))
}

// name is the day's bucket: days stand in the file in their order.
func (d day) name() []byte { return binary.BigEndian.AppendUint32(nil, uint32(d)) }

// writeEntry sets or deletes a saved value.
func writeEntry(tx *bbolt.Tx, e entry) error {
	all, err := tx.CreateBucketIfNotExists(savedBucket)
	if err != nil {
		return err
	}
	bucket, err := all.CreateBucketIfNotExists([]byte(e.id.bucket))
	if err != nil {
		return err
	}
	if e.value == nil {
		return bucket.Delete([]byte(e.id.key))
	}
	return bucket.Put([]byte(e.id.key), e.value)
}
