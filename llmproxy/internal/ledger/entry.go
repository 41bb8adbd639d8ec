package ledger

import "fmt"

// maxEntryName bounds the names of saved values, in bytes.
const maxEntryName = 1 << 10

// An entry is a saved value.
type entry struct {
	id    entryID
	value []byte
}

// check keeps names out that the file would refuse, and with them all that is written together with them.
func (id entryID) check() error {
	for _, name := range [...]string{id.bucket, id.key} {
		if name == "" || len(name) > maxEntryName {
			return fmt.Errorf("%.40q is no name for a saved value: 1 to %d bytes are", name, maxEntryName)
		}
	}
	return nil
}
