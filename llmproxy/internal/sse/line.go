package sse

import "bytes"

// window is how far searchEnd looks for an LF before it looks for a CR. Without it a stream of short lines that end with CR
// would be searched for an LF to its end once a line.
const window = 1 << 10

// lineEnd finds the first line end in b, which begins at i and is n bytes long: LF, CR or CRLF. Without one, n is 0 and i
// is len(b).
func lineEnd(b []byte) (i, n int) {
	if len(b) == 0 || b[0] != '\n' {
		return searchEnd(b)
	}
	return 0, 1 // every other line of a stream is blank: worth a look before the call
}

func searchEnd(b []byte) (i, n int) {
	for at := 0; at < len(b); at += window {
		part := b[at:min(at+window, len(b))]
		lf := bytes.IndexByte(part, '\n')
		if lf >= 0 {
			part = part[:lf]
		}
		if cr := bytes.IndexByte(part, '\r'); cr >= 0 {
			if end := at + cr; end+1 < len(b) && b[end+1] == '\n' {
				return end, 2
			}
			return at + cr, 1
		}
		if lf >= 0 {
			return at + lf, 1
		}
	}
	return len(b), 0
}
