package relay

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestJSONEnd(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		`{}`: true, `[]`: true, ` {"a":[1,{"b":2}]} `: true, `{"a":"}"}`: true, `{"a":"\"}"}`: true, `{"a":"\\"}`: true, `{}{`: true, `{"}":"{"}`: true,
		"": false, `{`: false, `{"a":"}`: false, `{"a":"\"}`: false, `{"a":"\\\"}`: false, `[{}`: false, `"}"`: false, "\n\n": false,
	} {
		for n := 1; n < 4; n++ {
			var e jsonEnd
			for rest := []byte(in); len(rest) > 0; {
				k := min(n, len(rest))
				e.add(rest[:k])
				rest = rest[k:]
			}
			if e.found != want {
				t.Errorf("%s in pieces of %d: %v", in, n, e.found)
			}
		}
	}
}

// FuzzJSONEnd checks that the end of valid JSON is found at its last byte, in pieces of any size.
func FuzzJSONEnd(f *testing.F) {
	f.Add(`{"a":"\\\"}"}`, uint8(1))
	f.Add(`[[],{}]`, uint8(2))
	f.Fuzz(func(t *testing.T, in string, size uint8) {
		in = strings.TrimSpace(in)
		if !json.Valid([]byte(in)) || in[0] != '{' && in[0] != '[' {
			return
		}
		var e jsonEnd
		for rest := in; len(rest) > 0; {
			if e.found {
				t.Fatalf("the end of %q was found before %q", in, rest)
			}
			n := min(1+int(size), len(rest))
			e.add([]byte(rest[:n]))
			rest = rest[n:]
		}
		if !e.found {
			t.Fatalf("the end of %q was not found", in)
		}
	})
}

// An openBody never ends, unless it is closed.
type openBody struct {
	io.Reader
	closed chan struct{}
}

func (b *openBody) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	<-b.closed
	return 0, errors.New("closed")
}

func (b *openBody) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return nil
}

// A whole answer that is complete is sent, whatever the upstream does with its connection.
func TestWholeKeptOpen(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		stream         bool
	}{
		{"asked for", chatWhole, chatWhole, false},
		{"after blank lines", "\n\n" + chatWhole, "\n\n" + chatWhole, false},
		{"with [DONE] behind it", chatWhole + done, chatWhole, false},
		{"for a stream", chatWhole, chatMade, true},
		{"after comments, for a stream", ping + chatWhole, chatMade, true},
		{"a stream", chatStream, chatWhole, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				res, _ := respond("application/json", nil)
				res.Body = &openBody{iotest.OneByteReader(strings.NewReader(tt.in)), make(chan struct{})}
				answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: tt.stream, Choices: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Close()
				to := newClient()
				if err := answer.Send(to, false); err != nil || to.body.String() != tt.want {
					t.Errorf("%v, %q", err, to.body.String())
				}
				if took := time.Since(began); took > endGrace {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
