package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// hasNews tells whether a chunk may have a finish reason, a usage or an error other than null. It looks at what stands
// around each colon, eight bytes at a time: three searches of package bytes take twice as long. A quote that ends a key is
// not escaped, so that text about "usage": inside an answer does not look like one. Keys written with escapes are missed;
// no server writes these so.
func hasNews(data []byte) bool {
	i := 0
	for ; i+8 <= len(data); i += 8 {
		x := binary.LittleEndian.Uint64(data[i:]) ^ ones*':'
		for found := (x - ones) &^ x & highs; found != 0; found &= found - 1 {
			if newsAt(data, i+bits.TrailingZeros64(found)/8) {
				return true
			}
		}
	}
	for ; i < len(data); i++ {
		if data[i] == ':' && newsAt(data, i) {
			return true
		}
	}
	return false
}

// newsAt looks at one colon.
func newsAt(data []byte, colon int) bool {
	if colon < 2 {
		return false
	}
	before, after := data[:colon], data[colon+1:]
	switch data[colon-1] {
	case ' ', '\t', '\r', '\n':
		return true // nearly nobody writes a space before a colon; the full look will tell
	case '"':
		switch data[colon-2] {
		case 'n':
			return endsWith(before, `"finish_reason"`) && !startsNull(after)
		case 'e':
			return endsWith(before, `"usage"`) && !startsNull(after)
		case 'r':
			return endsWith(before, `"error"`) && !startsNull(after)
		}
	}
	return false
}

func endsWith(b []byte, end string) bool {
	return len(b) >= len(end) && string(b[len(b)-len(end):]) == end
}

func startsNull(b []byte) bool {
	if len(b) >= 4 && string(b[:4]) == "null" {
		return true
	}
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("null"))
}
