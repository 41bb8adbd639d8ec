// Package freeport finds addresses for the servers of tests. It never listens itself, and knows nothing of these servers. It stands on the
// lowest floor.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Address returns an address of this machine at which no program listens. Its port is below those that systems assign to clients, so that no
// connection gets it before the server does, or while the server is down.
func Address(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	tb.Fatal("found no free port")
	return ""
}
