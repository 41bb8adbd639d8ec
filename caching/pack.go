package caching

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Bodies are packed with zstd at its fastest: events repeat themselves so much that better levels gain little.
var (
	packers = sync.Pool{New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // the options above are fixed
		}
		return w
	}}
	unpackers = sync.Pool{New: func() any {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody))
		if err != nil {
			panic(err) // the options above are fixed
		}
		return r
	}}
)

func pack(body []byte) []byte {
	w := packers.Get().(*zstd.Encoder)
	defer packers.Put(w)
	return w.EncodeAll(body, make([]byte, 0, len(body)/4))
}

func unpack(packed []byte) ([]byte, error) {
	r := unpackers.Get().(*zstd.Decoder)
	defer unpackers.Put(r)
	body, err := r.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpacking an entry: %w", err)
	}
	return body, nil
}
