package http1

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// unresponsive returns an address to which a connection neither succeeds nor fails: the listener's queue is full, and Linux drops
// further packets.
func unresponsive(t *testing.T) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return "http://" + address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue does not fill up")
	return ""
}

func TestCancelWhileDialing(t *testing.T) {
	t.Parallel()
	address := unresponsive(t)
	ctx, leave := causing(t)
	defer time.AfterFunc(100*time.Millisecond, leave).Stop()
	tr := transport(t)
	tr.DialTimeout = time.Minute
	start := time.Now()
	_, err := tr.RoundTrip(post(t, address, "a").WithContext(ctx))
	_, dialing := errors.AsType[*DialError](err)
	if !dialing || !errors.Is(err, errLeft) || time.Since(start) > tr.DialTimeout/2 {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

func TestDialTimeout(t *testing.T) {
	t.Parallel()
	tr := transport(t)
	tr.DialTimeout = 100 * time.Millisecond
	_, err := tr.RoundTrip(post(t, unresponsive(t), "a"))
	if _, dialing := errors.AsType[*DialError](err); !dialing || !isTimeout(err) {
		t.Errorf("got %v", err)
	}
}
