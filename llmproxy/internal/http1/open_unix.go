//go:build unix

package http1

import (
	"errors"
	"net"
	"syscall"
)

// An openCheck checks whether an idle connection is still open, and waits for bytes without memory for them. It is embedded in the
// connection, so that a check costs one system call and no memory.
type openCheck struct {
	raw    syscall.RawConn
	peek   func(fd uintptr) bool
	await  func(fd uintptr) bool
	open   bool // nothing can be read
	waited bool
}

// isOpen reports whether an idle connection is still open. If the server has closed it, or sent something that was not requested,
// such as a 408, there is something to read.
func (o *openCheck) isOpen(nc net.Conn) bool {
	if !o.init(nc) {
		return true
	}
	o.open = false
	return o.raw.Read(o.peek) == nil && o.open
}

// init gets access to the file descriptor. It reports false if there is no access.
func (o *openCheck) init(nc net.Conn) bool {
	if o.raw != nil {
		return true
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	o.raw, o.peek, o.await = raw, o.peekFD, o.awaitFD
	return true
}

func (o *openCheck) peekFD(fd uintptr) (done bool) {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // returns at once: Go's sockets are non-blocking
	o.open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	return true
}

// wait waits until something can be read, which may be an error.
func (o *openCheck) wait(nc net.Conn) {
	if o.init(nc) {
		o.waited = false
		_ = o.raw.Read(o.await) // the next read returns the same error
	}
}

// awaitFD is called again when there may be something to read. That it looks for it once costs as much as the read that would find nothing.
func (o *openCheck) awaitFD(fd uintptr) (done bool) {
	if o.waited {
		return true
	}
	o.waited = true
	o.peekFD(fd)
	return !o.open
}
