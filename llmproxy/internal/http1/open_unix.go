//go:build unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// An openCheck checks whether an idle connection is still open. It is embedded in the connection, so that a check costs one
// system call and no memory.
type openCheck struct {
	raw  syscall.RawConn
	peek func(fd uintptr) bool
	open bool
}

// isOpen reports whether an idle connection is still open. If the server has closed it, or sent something that was not requested,
// such as a 408, there is something to read.
func (o *openCheck) isOpen(nc net.Conn) bool {
	if o.raw == nil {
		sc, ok := nc.(syscall.Conn)
		if !ok {
			return true
		}
		raw, err := sc.SyscallConn()
		if err != nil {
			return false
		}
		o.raw, o.peek = raw, o.peekFD
	}
	o.open = false
	return o.raw.Read(o.peek) == nil && o.open
}

func (o *openCheck) peekFD(fd uintptr) (done bool) {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // returns at once: Go's sockets are non-blocking
	o.open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	return true
}
