//go:build !unix

package http1

import "net"

// An openCheck cannot check a connection without reading from it on this system; RoundTrip's one retry has to do.
type openCheck struct{}

// isOpen reports whether an idle connection is still open, as far as is known.
func (openCheck) isOpen(net.Conn) bool { return true }
