package upstream

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// wakePort is the UDP port of magic packets if none is given.
	wakePort = 9
	// wakeEvery is how often at most a packet is sent. A machine that is about to sleep misses the first one.
	wakeEvery = 5 * time.Second
	// wakeFor is how long after the last request for it a machine is woken again.
	wakeFor = 2 * time.Minute
)

// A WakeUp wakes a machine that sleeps with a magic packet (Wake-on-LAN). A nil *WakeUp wakes nothing.
type WakeUp struct {
	packet []byte
	to     netip.AddrPort

	mu     sync.Mutex
	wanted time.Time // by the last request
	sent   time.Time
}

// NewWakeUp returns what wakes the machine with a MAC address. The packet is sent to an address, with or without a port: by default to all
// machines of the local network.
func NewWakeUp(mac, to string) (*WakeUp, error) {
	hardware, err := net.ParseMAC(mac)
	if err != nil || len(hardware) != 6 {
		return nil, fmt.Errorf("invalid MAC address %q; use one such as 00:11:22:33:44:55", mac)
	}
	w := &WakeUp{to: netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), wakePort)}
	w.packet = append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(hardware, 16)...)
	if to == "" {
		return w, nil
	}
	if address, err := netip.ParseAddr(to); err == nil {
		w.to = netip.AddrPortFrom(address, wakePort)
	} else if w.to, err = netip.ParseAddrPort(to); err != nil {
		return nil, fmt.Errorf("invalid broadcast address %q; use one such as 192.168.1.255", to)
	}
	return w, nil
}

// Wake wakes the machine for a request.
func (w *WakeUp) Wake() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = time.Now()
	return w.send()
}

// Again wakes a machine that is still not there, if a request wanted it lately.
func (w *WakeUp) Again() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.wanted) < wakeFor {
		_ = w.send() // the request has told of an error
	}
}

// send sends a packet, unless one was sent a moment ago. The caller holds the lock.
func (w *WakeUp) send() error {
	if time.Since(w.sent) < wakeEvery {
		return nil
	}
	w.sent = time.Now()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(w.to))
	if err != nil {
		return fmt.Errorf("sending a magic packet: %w", err)
	}
	defer c.Close()
	if _, err := c.Write(w.packet); err != nil {
		return fmt.Errorf("sending a magic packet: %w", err)
	}
	return nil
}
