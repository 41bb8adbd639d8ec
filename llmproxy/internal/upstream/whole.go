package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

const (
	// freeAnswer is how many bytes of an answer are read without a reservation.
	freeAnswer = 16 << 10
	// maxTranslated bounds a whole answer that is translated, in bytes. The largest ones have embeddings.
	maxTranslated = 4 * sse.MaxEvent
)

// translateWhole replaces an answer, whose body begins with what was peeked at, by its translation. The memory that both take is
// reserved until the answer is closed. What is not JSON stays as it is, so that the relay reports it.
func translateWhole(account *memory.Account, res *http.Response, body io.Reader, translate func([]byte) ([]byte, error)) error {
	w := &translatedWhole{account: account}
	err := w.read(body)
	res.Body.Close()
	translated := w.answer.Bytes()
	if err == nil && jsonspan.Walk(translated, func(_, _ []byte) {}, func([]byte) {}) == nil {
		translated, err = translate(translated)
	}
	if err != nil {
		w.Close()
		return err
	}
	w.answer = bytes.Buffer{}
	w.Reader = bytes.NewReader(translated)
	res.Body, res.ContentLength = w, int64(len(translated))
	delete(res.Header, "Content-Length")
	return nil
}

// A translatedWhole is the body of a translated answer.
type translatedWhole struct {
	*bytes.Reader
	account  *memory.Account
	reserved int64
	answer   bytes.Buffer
	release  sync.Once
}

// read reads the answer, and reserves twice its size, because the translation takes about as much.
func (w *translatedWhole) read(body io.Reader) error {
	for limit := int64(freeAnswer); limit <= maxTranslated; limit *= 4 {
		if more := 2*limit - w.reserved; limit > freeAnswer {
			if !w.account.Reserve(more) {
				return memory.ErrUsedUp
			}
			w.reserved += more
		}
		_, err := io.CopyN(&w.answer, body, limit-int64(w.answer.Len()))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return sse.ErrTooLong
}

// Close implements io.Closer.
func (w *translatedWhole) Close() error {
	w.release.Do(func() { w.account.Release(w.reserved) })
	return nil
}

// startsJSON reports whether an answer begins as JSON does. Services that imitate the API label their answers in many ways.
func startsJSON(answer *bufio.Reader) bool {
	for i := 1; ; i++ {
		head, err := answer.Peek(i)
		if err != nil {
			return false
		}
		switch head[i-1] {
		case ' ', '\t', '\r', '\n':
		default:
			return head[i-1] == '{' || head[i-1] == '['
		}
	}
}
