package ledger

import (
	"encoding/binary"

	"go.etcd.io/bbolt"
)

const (
	// retention is how many days are kept.
	retention = 400
	// prunedAtOnce is how many old days are taken out when a new one begins: a clock that is wrong for an hour, and says it
	// were years later, must not cost all of them.
	prunedAtOnce = 2
)

// prune takes the oldest days out.
func prune(tx *bbolt.Tx, today day) error {
	days := tx.Bucket(usageBucket)
	if days == nil {
		return nil
	}
	for range prunedAtOnce {
		name, _ := days.Cursor().First()
		if name == nil || parseDay(name)+retention > today {
			return nil
		}
		if err := days.DeleteBucket(name); err != nil {
			return err
		}
	}
	return nil
}

// parseDay reads what name wrote.
func parseDay(name []byte) day {
	if len(name) != 4 {
		return 0
	}
	return day(binary.BigEndian.Uint32(name))
}
