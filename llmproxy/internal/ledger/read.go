package ledger

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// readDays lists the days that the file has, from first to last.
func readDays(tx *bbolt.Tx, first, last day) (list []day) {
	days := tx.Bucket(usageBucket)
	if days == nil {
		return nil
	}
	c := days.Cursor()
	for name, _ := c.Seek(first.name()); name != nil && parseDay(name) <= last; name, _ = c.Next() {
		list = append(list, parseDay(name))
	}
	return list
}

// readDay gives the rows of a day.
func readDay(tx *bbolt.Tx, d day, each func(rowID, Sums)) error {
	days := tx.Bucket(usageBucket)
	if days == nil || days.Bucket(d.name()) == nil {
		return nil // taken out meanwhile
	}
	return days.Bucket(d.name()).ForEach(func(name, value []byte) error {
		id, s := rowID{day: d}, Sums{}
		if err := id.parseName(name); err != nil {
			return err
		}
		if err := s.parseValue(value); err != nil {
			return err
		}
		each(id, s)
		return nil
	})
}

// readEntries copies the values of a bucket.
func readEntries(tx *bbolt.Tx, bucket string) (list []entry) {
	all := tx.Bucket(savedBucket)
	if all == nil || all.Bucket([]byte(bucket)) == nil {
		return nil
	}
	c := all.Bucket([]byte(bucket)).Cursor()
	for key, value := c.First(); key != nil; key, value = c.Next() {
		list = append(list, entry{entryID{bucket, string(key)}, bytes.Clone(value)})
	}
	return list
}
