//go:build !unix

package http1

import "net"

// An openCheck cannot check a connection on this system without reading from it. The retry of RoundTrip has to suffice.
type openCheck struct{}

// isOpen reports whether an idle connection is still open, as far as can be known.
func (openCheck) isOpen(net.Conn) bool { return true }

func (openCheck) wait(net.Conn) {}
