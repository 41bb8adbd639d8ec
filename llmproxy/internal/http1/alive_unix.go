//go:build unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// alive tells whether an unused connection is still open: a server that closed it has left an end of file to read, and one
// that sent something unasked (408, say) has left that.
func alive(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // does not wait: Go's sockets never block
		open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
		return true
	})
	return err == nil && open
}
