package jsonspan

import (
	"bytes"
	"errors"
)

var errUTF16 = errors.New("the text is UTF-16; save it as UTF-8")

// TrimMark returns a text without the byte order mark at its start. Editors on Windows write one, and RFC 8259 lets a reader ignore
// it. A text whose mark says that it is UTF-16 is an error.
func TrimMark(text []byte) ([]byte, error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, errUTF16
	}
	return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), nil
}
