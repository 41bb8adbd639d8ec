package openai

import (
	"encoding/base64"
	"testing"
)

func TestBase64(t *testing.T) {
	t.Parallel()
	src := make([]byte, 3<<12)
	for i := range 1 << 12 { // all pairs of characters, in both halves of each group
		src[3*i], src[3*i+1], src[3*i+2] = byte(i>>4), byte(i<<4|i>>8), byte(i)
	}
	for n := range 100 {
		for _, src := range [][]byte{src[:n], src[n:]} {
			if got, want := string(appendBase64([]byte("before"), src)), "before"+base64.StdEncoding.EncodeToString(src); got != want {
				t.Fatalf("%x became %s, want %s", src, got, want)
			}
		}
	}
}
