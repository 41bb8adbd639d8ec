//go:build !race

package llmproxy

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
)

// A stack doubles when it overflows. With everything on, an open stream needs most of 16 KiB, and 2 KiB for net/http's watch over the client.
// The test counts the stacks of the gateway alone: neither its upstream nor its clients have goroutines for their streams.
func TestStackOfStream(t *testing.T) {
	const streams, limit = 200, 26 << 10
	upstream := silentUpstream(t, streams)
	url := run(t, `	metrics /metrics
	log {
		output file `+filepath.Join(t.TempDir(), "access.log")+`
	}
	llm_proxy {
		upstream u openai http://`+upstream+` {
			max_concurrent 4096
			queue 1024 1m
		}
		upstream spare openai http://`+upstream+`
		model m {
			@private llm content "(?i)customer|password|confidential"
			route @private spare/m
			route chat
		}
		model chat {
			to u/m
			fallback spare/m
		}
		key stack sk-stack {
			rate 1G/m
			tokens 1000G/m
			concurrent 10000
			budget $1000000/month
		}
		price u/m 0.15 0.60
		price spare/m 0.15 0.60
		cache
	}`)
	address := strings.TrimPrefix(url, "http://")
	open := func(i int) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		body := fmt.Sprintf(`{"model":"m","stream":true,"messages":[{"role":"user","content":"%d"}]}`, i)
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-stack\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body)
		var answer []byte
		for !strings.Contains(string(answer), `"Hi"`) {
			part := make([]byte, 4<<10)
			n, err := c.Read(part)
			if err != nil {
				t.Fatalf("%v after %q", err, answer)
			}
			answer = append(answer, part[:n]...)
		}
	}
	open(0)
	before := stacks()
	for i := range streams - 1 {
		open(i + 1)
	}
	each := (stacks() - before) / (streams - 1)
	t.Logf("%d bytes of stack for each stream", each)
	if each > limit {
		t.Errorf("an open stream has %d bytes of stack, want at most %d", each, limit)
	}
}

// silentUpstream starts an upstream that answers each of n requests with the beginning of a stream. It returns its address.
func silentUpstream(t *testing.T, n int) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	const event = `data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n"
	go func() {
		request := make([]byte, 16<<10)
		for range n {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.Read(request); err == nil {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(event), event)
			}
		}
	}()
	return l.Addr().String()
}

func stacks() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
