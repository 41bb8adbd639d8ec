//go:build unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// A liveness looks whether a connection is still open. It lies in its connection, so that looking costs one call of the system
// and no memory.
type liveness struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool
	open bool
}

// alive tells whether an unused connection is still open: a server that closed it has left an end of file to read, and one
// that sent something unasked (408, say) has left that.
func (l *liveness) alive(nc net.Conn) bool {
	if l.raw == nil {
		sc, ok := nc.(syscall.Conn)
		if !ok {
			return true
		}
		raw, err := sc.SyscallConn()
		if err != nil {
			return false
		}
		l.raw, l.look = raw, l.peek
	}
	l.open = false
	return l.raw.Read(l.look) == nil && l.open
}

func (l *liveness) peek(fd uintptr) (done bool) {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // does not wait: Go's sockets never block
	l.open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	return true
}
