package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// A prompt returns n bytes of messages, or of the inputs of embeddings.
type prompt func(n int) string

// serial is part of every prompt. It differs between requests if they must not repeat each other.
const serial = "0123456789abcdef"

func text(n int) string {
	begin, end := `{"role":"user","content":"`+serial+` `, `"}`
	return begin + words(n-len(begin)-len(end)) + end
}

func image(n int) string {
	begin := `{"role":"user","content":[{"type":"text","text":"What is this? ` + serial + `"},{"type":"image_url","image_url":{"url":"data:image/png;base64,`
	end := `"}}]}`
	data := "iVBORw0KGgoAAAANSUhEUgAA"
	n -= len(begin) + len(end)
	return begin + strings.Repeat(data, n/len(data)) + end // whole groups of four characters
}

// shortMessage is as short as messages of a conversation get.
const shortMessage = `{"role":"user","content":"All right."},`

func shortMessages(n int) string {
	last := text(100)
	return strings.Repeat(shortMessage, (n-len(last))/len(shortMessage)) + last
}

// inputs returns a prompt of so many texts.
func inputs(count int) prompt {
	return func(n int) string {
		each := n/count - len(`"",`)
		return strings.TrimSuffix(strings.Repeat(`"`+words(each)+`",`, count), ",")
	}
}

func words(n int) string {
	const words = "The quick brown fox jumps over the lazy dog. "
	return strings.Repeat(words, n/len(words)+1)[:n]
}

// A vary returns a function that changes a request before it is sent. Both may be called by several connections at once, each with a
// request of its own.
type vary func(request []byte) func()

// differ makes every request different, so that none is answered from a cache.
func differ(request []byte) func() {
	at := request[bytes.LastIndex(request, []byte(serial)):][:len(serial)]
	return func() {
		var random [len(serial) / 2]byte
		for i := range random {
			random[i] = byte(rand.Uint32())
		}
		hex.Encode(at, random[:])
	}
}

// eachModel asks for n models in turn, whichever connection is next.
func eachModel(n int) vary {
	var count atomic.Int64
	return func(request []byte) func() {
		name := numberedModel(0)
		at := request[bytes.LastIndex(request, []byte(name)):][:len(name)]
		return func() { copy(at, numberedModel(int(count.Add(1))%n)) }
	}
}

// numberedModel returns the name of a model. All of them are equally long.
func numberedModel(i int) string { return fmt.Sprintf("m%05d", i) }
