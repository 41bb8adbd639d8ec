package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The ends of the keys that bring news, as little-endian words: bytes compare one by one, words at once.
var (
	reasonEnd = binary.LittleEndian.Uint64([]byte(`_reason"`))
	usageKey  = binary.LittleEndian.Uint64([]byte("\x00\"usage\"")) >> 8
	errorKey  = binary.LittleEndian.Uint64([]byte("\x00\"error\"")) >> 8
)

// hasNews tells whether a chunk may have a finish reason, a usage or an error other than null. It looks at what stands
// around each colon, eight bytes at a time: three searches of package bytes take twice as long. A quote that ends a key is
// not escaped, so that text about "usage": inside an answer does not look like one. Keys written with escapes are missed;
// no server writes these so. On its way it counts the text; said may be nil.
func hasNews(data []byte, said *Said) bool {
	for i := 0; i < len(data); {
		colon := nextColon(data, i)
		switch {
		case colon == len(data):
			return false
		case newsAt(data, colon):
			return true
		case said == nil:
			i = colon + 1
		default:
			i = said.at(data, colon)
		}
	}
	return false
}

// nextColon finds the first colon from i on, or the end.
func nextColon(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		x := binary.LittleEndian.Uint64(data[i:]) ^ ones*':'
		if found := (x - ones) &^ x & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(data) && data[i] != ':'; i++ {
	}
	return i
}

// newsAt looks at one colon. The first that can bring news is the ninth byte, in {"error":.
func newsAt(data []byte, colon int) bool {
	if colon < 8 {
		return false
	}
	before := binary.LittleEndian.Uint64(data[colon-8:])
	if before == reasonEnd || before>>8 == usageKey || before>>8 == errorKey {
		return !startsNull(data[colon+1:])
	}
	// Nearly nobody writes a space before a colon; then the full look will tell.
	return before>>56 <= ' '
}

func startsNull(b []byte) bool {
	if len(b) >= 4 && string(b[:4]) == "null" {
		return true
	}
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("null"))
}
