package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A whole answer is translated within the memory of all requests, which it gives back.
func TestTranslateWhole(t *testing.T) {
	t.Parallel()
	failed, cut := errors.New("not an answer"), errors.New("cut")
	for _, test := range []struct {
		name      string
		size      int64
		maximum   int64
		read      error
		translate error
		want      error
	}{
		{"small, without memory", 100, 0, nil, nil, nil},
		{"large", 3 << 20, 64 << 20, nil, nil, nil},
		{"large, without memory", 3 << 20, 0, nil, nil, memory.ErrUsedUp},
		{"with memory for one copy only", 3 << 20, 7 << 20, nil, nil, memory.ErrUsedUp},
		{"too long", maxTranslated, 1 << 30, nil, nil, sse.ErrTooLong},
		{"cut", 1 << 20, 64 << 20, cut, nil, cut},
		{"not an answer", 1 << 20, 64 << 20, nil, failed, failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			usage := new(memory.Usage)
			closed := 0
			src := io.MultiReader(strings.NewReader(`["`), io.LimitReader(zeros{}, test.size-4), strings.NewReader(`"]`))
			if test.read != nil {
				src = io.MultiReader(src, iotest.ErrReader(test.read))
			}
			res := &http.Response{Header: http.Header{"Content-Length": {"1"}}, Body: countCloser{src, &closed}}
			var got int64
			err := translateWhole(memory.NewAccount(usage, test.maximum), res, startOf(res.Body), func(m *wholeMemory) ([]byte, error) {
				got = int64(m.in.Len())
				return []byte(`{"translated":true}`), test.translate
			})
			if !errors.Is(err, test.want) || closed != 1 {
				t.Errorf("%v, closed %d times; want %v", err, closed, test.want)
			}
			if test.want != nil {
				if usage.Bytes() != 0 {
					t.Errorf("%d bytes are still reserved", usage.Bytes())
				}
				return
			}
			text, err := io.ReadAll(res.Body)
			if err != nil || string(text) != `{"translated":true}` || got != test.size || res.ContentLength != int64(len(text)) || res.Header["Content-Length"] != nil {
				t.Errorf("%.100q, %v of %d bytes, length %d", text, err, got, res.ContentLength)
			}
			if test.size > freeAnswer && usage.Bytes() < 2*test.size {
				t.Errorf("%d bytes are reserved for %d", usage.Bytes(), test.size)
			}
			res.Body.Close()
			res.Body.Close()
			if usage.Bytes() != 0 {
				t.Errorf("%d bytes are reserved after the end", usage.Bytes())
			}
		})
	}
}

// An answer that is not JSON is not translated, so that the relay can report that.
func TestTranslateWholeOfNoJSON(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`<html>`, `{"content":[{"type":"text","text":"Hel`, `{"content":[]} {}`} {
		res := &http.Response{Header: http.Header{}, Body: http.NoBody}
		err := translateWhole(nil, res, startOf(strings.NewReader(answer)), func(*wholeMemory) ([]byte, error) {
			t.Errorf("%s is translated", answer)
			return nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != answer {
			t.Errorf("%q becomes %q, %v", answer, got, err)
		}
	}
}

// zeros is an endless answer.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, strings.Repeat("0", len(p))), nil }

type countCloser struct {
	io.Reader
	closed *int
}

func (c countCloser) Close() error {
	*c.closed++
	return nil
}
