package redislimit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

// refusing starts a server that replies to every command with an error.
func refusing(t *testing.T, text string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go refuse(conn, text)
		}
	}()
	return l.Addr().String()
}

// refuse reads commands, which are arrays of strings, each after its length.
func refuse(conn net.Conn, text string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	number := func() int64 {
		line, _ := in.ReadString('\n')
		n, err := strconv.ParseInt(strings.Trim(line, "*$\r\n"), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	for {
		n := number()
		if n < 0 {
			return
		}
		for range n {
			if _, err := io.CopyN(io.Discard, in, number()+2); err != nil {
				return
			}
		}
		if _, err := io.WriteString(conn, "-"+text+"\r\n"); err != nil {
			return
		}
	}
}

// A server that replies with an error is unavailable, and the error is reported.
func TestErrorReplies(t *testing.T) {
	for _, text := range []string{
		"LOADING Redis is loading the dataset in memory", "MOVED 5798 127.0.0.1:1", "CLUSTERDOWN The cluster is down", "MASTERDOWN Link with MASTER is down",
		"BUSY Redis is busy running a script", "MISCONF Redis is configured to save RDB snapshots", "NOAUTH Authentication required.", "ERR unknown command", "NOSCRIPT No matching script",
	} {
		t.Run(text[:strings.IndexByte(text, ' ')], func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{Addr: refusing(t, text), MaxRetries: -1, ContextTimeoutEnabled: true})
			defer client.Close()
			reports := make(chan error, 1)
			l := newLimiter(client, Config{Report: func(err error) { reports <- err }})
			l.timeout = time.Minute
			go l.run()
			defer l.Close()
			granted := 0
			for range 20 {
				res := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "10/d")}
				if err := (Fallback{l}).Take(t.Context(), &res); err != nil {
					t.Error(err)
				}
				if res.Denied == nil {
					granted++
				}
			}
			if granted != 10 {
				t.Errorf("the fallback granted %d requests, want 10", granted)
			}
			if err := <-reports; err == nil || !strings.Contains(err.Error(), strings.Fields(text)[0]) {
				t.Errorf("reported %v, want %s", err, text)
			}
			res := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "10/d")}
			if err := l.Take(t.Context(), &res); !errors.Is(err, errUnavailable) {
				t.Errorf("without a fallback: %v", err)
			}
		})
	}
}

// Invalid replies of a script are errors.
func TestParseReply(t *testing.T) {
	t.Parallel()
	limits := limittest.Limits(t, ratelimit.Requests, "10/d")
	for _, test := range []struct {
		name  string
		reply []any
		valid bool
	}{
		{"valid", []any{"1795576958000000", int64(1), "3.5 1795576958000000"}, true},
		{"no counter", []any{"1795576958000000", int64(1)}, false},
		{"no time", []any{"now", int64(1), "3.5 1795576958000000"}, false},
		{"a number for a counter", []any{"1795576958000000", int64(1), int64(3)}, false},
		{"a counter of a budget", []any{"1795576958000000", int64(1), "24312 80 5000000000 3"}, false},
	} {
		r, err := parseReply(test.reply, limits)
		if (err == nil) != test.valid || test.valid && (!r.granted || len(r.counters) != 1 || r.now.UnixMicro() != 1795576958000000) {
			t.Errorf("%s: %+v, %v", test.name, r, err)
		}
	}
}
