package ratelimit

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
)

// refusing listens like a server that answers everything with an error.
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

// refuse answers each command, which is so many strings, each with its length before it.
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

// What a server says instead of deciding makes it count as away, and its words are reported.
func TestSharedServerSaysNo(t *testing.T) {
	for _, text := range []string{
		"LOADING Redis is loading the dataset in memory", "MOVED 5798 127.0.0.1:1", "CLUSTERDOWN The cluster is down", "MASTERDOWN Link with MASTER is down",
		"BUSY Redis is busy running a script", "MISCONF Redis is configured to save RDB snapshots", "NOAUTH Authentication required.", "ERR unknown command", "NOSCRIPT No matching script",
	} {
		t.Run(text[:strings.IndexByte(text, ' ')], func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{Addr: refusing(t, text), MaxRetries: -1, ContextTimeoutEnabled: true})
			defer client.Close()
			said := make(chan error, 1)
			s := newShared(client, SharedConfig{Report: func(err error) { said <- err }})
			s.wait = time.Minute
			go s.work()
			defer s.Close()
			f := Fallback{Shared: s, Local: NewMemory()}
			if fit := takes(wordless{f, t}, time.Time{}, 20, Reservation{Limits: limits(t, Requests, "10/d")}); fit != 10 {
				t.Errorf("%d fit, want 10", fit)
			}
			if err := <-said; err == nil || !strings.Contains(err.Error(), strings.Fields(text)[0]) {
				t.Errorf("it says %v, want %s", err, text)
			}
			one := Reservation{Limits: limits(t, Requests, "10/d")}
			if err := (Fallback{Shared: s}).Take(t.Context(), &one); !errors.Is(err, errUnavailable) {
				t.Errorf("without a memory: %v", err)
			}
		})
	}
}

// wordless is a store that decides by its own clock.
type wordless struct {
	Fallback
	t *testing.T
}

func (w wordless) take(_ time.Time, t *Reservation) {
	if err := w.Take(w.t.Context(), t); err != nil {
		w.t.Error(err)
	}
}

func (w wordless) settle(_ time.Time, t *Reservation, tokens, spend int64) {
	w.Settle(t, tokens, spend)
}
